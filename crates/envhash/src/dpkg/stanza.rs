//! The text of a package database: stanzas of `Field: value` lines, separated by empty lines.

/// One stanza, with what the listing needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stanza {
    /// The package, in lower case, as dpkg keeps it.
    pub(crate) name: String,
    pub(crate) architecture: String,
    /// As dpkg prints it; empty for a package that has none.
    pub(crate) version: String,
    /// `Multi-Arch: same`: instances of several architectures can be installed together.
    pub(crate) coinstallable: bool,
    /// Wanted and installed: the `ii` of `dpkg -l`.
    pub(crate) installed: bool,
    /// Something of the package is on the system, if only its configuration.
    pub(crate) present: bool,
    /// Where it starts, counted from 1.
    pub(crate) line: usize,
}

/// What is wrong with a database, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// The stanzas of a status file, in file order.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Stanza>, Malformed> {
    if text.last().is_some_and(|last| *last != b'\n') {
        // dpkg takes such a file for a cut one too, wherever it ends.
        let line = memchr::memchr_iter(b'\n', text).count() + 1;
        return Err(Malformed { line, problem: "the file ends in the middle of a line".into() });
    }
    let mut stanzas = Vec::new();
    let mut current: Option<(usize, Stanza)> = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if line.is_empty() {
            stanzas.extend(current.take().map(finish).transpose()?);
            continue;
        }
        let (_, stanza) = current.get_or_insert_with(|| (number, Stanza::default()));
        if matches!(line[0], b' ' | b'\t') {
            // A further line of a field; none of ours has any.
            continue;
        }
        let colon = memchr::memchr(b':', line)
            .filter(|colon| *colon > 0)
            .ok_or_else(|| Malformed { line: number, problem: "no field name followed by a colon".into() })?;
        let (field, value) = (&line[..colon], &line[colon + 1..]);
        read_field(stanza, field, value).map_err(|problem| Malformed { line: number, problem })?;
    }
    stanzas.extend(current.take().map(finish).transpose()?);
    Ok(stanzas)
}

fn finish((line, stanza): (usize, Stanza)) -> Result<Stanza, Malformed> {
    if stanza.name.is_empty() {
        return Err(Malformed { line, problem: "a stanza without `Package`".into() });
    }
    if stanza.installed && stanza.version.is_empty() {
        return Err(Malformed { line, problem: format!("`{}` is installed and has no `Version`", stanza.name) });
    }
    Ok(Stanza { line, ..stanza })
}

fn read_field(stanza: &mut Stanza, field: &[u8], value: &[u8]) -> Result<(), String> {
    // Nine of ten lines belong to fields that do not matter here: no allocation for those.
    if field.eq_ignore_ascii_case(b"Package") {
        stanza.name = text(value)?.to_ascii_lowercase();
    } else if field.eq_ignore_ascii_case(b"Architecture") {
        text(value)?.clone_into(&mut stanza.architecture);
    } else if field.eq_ignore_ascii_case(b"Multi-Arch") {
        stanza.coinstallable = text(value)?.eq_ignore_ascii_case("same");
    } else if field.eq_ignore_ascii_case(b"Version") {
        stanza.version = printed_version(text(value)?)?;
    } else if field.eq_ignore_ascii_case(b"Status") {
        let words: Vec<_> = text(value)?.split_ascii_whitespace().collect();
        let [want, _, status] = words[..] else { return Err("`Status` has not three words".into()) };
        stanza.installed = want.eq_ignore_ascii_case("install") && status.eq_ignore_ascii_case("installed");
        stanza.present = !status.eq_ignore_ascii_case("not-installed");
    }
    Ok(())
}

fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value.trim_ascii()).map_err(|_| "a value that is not UTF-8".into())
}

/// A version as dpkg prints it: the epoch is a number, left out where it is zero and nothing else holds a colon.
fn printed_version(version: &str) -> Result<String, String> {
    let Some((epoch, rest)) = version.split_once(':') else { return Ok(version.to_owned()) };
    let epoch: u32 =
        epoch.trim_start_matches('+').parse().map_err(|_| format!("`{version}` has no number for an epoch"))?;
    Ok(if epoch == 0 && !rest.contains(':') { rest.to_owned() } else { format!("{epoch}:{rest}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_printed_as_dpkg_prints_them() {
        let table =
            [("1.0", "1.0"), ("0:1.0-1", "1.0-1"), ("1:1.0-1", "1:1.0-1"), ("01:2", "1:2"), ("0:1:2-3", "0:1:2-3")];
        for (written, printed) in table {
            assert_eq!(printed_version(written).as_deref(), Ok(printed), "{written}");
        }
        assert!(printed_version("x:1").is_err());
    }

    #[test]
    fn malformed_databases_are_refused_with_the_line() {
        let table = [
            ("Package: a\nnonsense\n", 2),
            ("Package: a\n\nStatus: install ok installed\n", 3),
            ("Package: a\nStatus: installed\n", 2),
            ("Package: a\nStatus: install ok installed\n", 1),
            (": a\n", 1),
            ("Package: a\nVersion: 1", 2),
        ];
        for (text, line) in table {
            assert_eq!(parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text);
        }

        #[test]
        fn stanzas_survive_any_order_of_fields_and_any_other_field(
            name in "[a-z][a-z0-9+.-]{1,20}", version in "[0-9][0-9a-z.+~]{0,10}", rotation in 0usize..6, continuation in "[ -~]{0,30}",
        ) {
            let mut fields = [
                format!("Package: {name}"), format!("VERSION:  {version} "), "Status: install ok installed".to_owned(),
                "architecture: amd64".to_owned(), format!("Description: x\n {continuation}\n ."), "Multi-Arch:same".to_owned(),
            ];
            fields.rotate_left(rotation);
            let parsed = parse((fields.join("\n") + "\n\n\n").as_bytes()).unwrap();
            prop_assert_eq!(parsed, vec![Stanza {
                name, architecture: "amd64".into(), version, coinstallable: true, installed: true, present: true, line: 1,
            }]);
        }
    }
}
