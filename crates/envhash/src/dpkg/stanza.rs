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
    let mut current: Option<Reading<'_>> = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if line.is_empty() {
            stanzas.extend(current.take().map(finish).transpose()?);
            continue;
        }
        let malformed = |problem: String| Malformed { line: number, problem };
        if matches!(line[0], b' ' | b'\t') {
            // A further line of a field, which none of ours may have.
            match &current {
                None => return Err(malformed("a line that continues nothing".into())),
                Some(reading) if reading.last.is_some() => {
                    return Err(malformed("a field with further lines that has to have one".into()));
                }
                Some(_) => continue,
            }
        }
        let reading = current.get_or_insert_with(|| Reading { line: number, ..Reading::default() });
        let colon = memchr::memchr(b':', line)
            .filter(|colon| !line[..*colon].trim_ascii().is_empty())
            .ok_or_else(|| malformed("no field name followed by a colon".into()))?;
        let (field, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
        reading.read_field(field, value).map_err(malformed)?;
    }
    stanzas.extend(current.take().map(finish).transpose()?);
    Ok(stanzas)
}

/// A stanza while it is read.
#[derive(Default)]
struct Reading<'t> {
    /// Where it starts.
    line: usize,
    stanza: Stanza,
    /// The names of its fields so far.
    names: Vec<&'t [u8]>,
    /// A bit for each length and first letter among them: most names need no look at the others.
    marks: u64,
    /// The field of the line before, if it matters.
    last: Option<Field>,
}

/// The fields that decide the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Package,
    Status,
    Architecture,
    MultiArch,
    Version,
}

fn finish(Reading { line, stanza, .. }: Reading<'_>) -> Result<Stanza, Malformed> {
    if stanza.coinstallable && matches!(&*stanza.architecture, "" | "all") {
        let problem = format!("`{}` is to be installed for several architectures and has none", stanza.name);
        return Err(Malformed { line, problem });
    }
    if stanza.name.is_empty() {
        return Err(Malformed { line, problem: "a stanza without `Package`".into() });
    }
    if stanza.present && stanza.version.is_empty() {
        return Err(Malformed { line, problem: format!("`{}` is there and has no `Version`", stanza.name) });
    }
    Ok(Stanza { line, ..stanza })
}

impl<'t> Reading<'t> {
    fn read_field(&mut self, name: &'t [u8], value: &[u8]) -> Result<(), String> {
        self.last = None;
        let mark = 1 << ((name.len() + 5 * usize::from(name.first().map_or(0, u8::to_ascii_lowercase))) % 64);
        if self.marks & mark != 0 && self.names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(format!("a second `{}`", name.escape_ascii()));
        }
        self.marks |= mark;
        self.names.push(name);
        // Nine of ten lines belong to fields that do not matter here: no allocation for those.
        let Some(field) = Field::named(name) else { return Ok(()) };
        self.last = Some(field);
        let (stanza, value) = (&mut self.stanza, text(value)?);
        match field {
            Field::Package => stanza.name = package_name(value)?,
            Field::Architecture => value.clone_into(&mut stanza.architecture),
            Field::MultiArch => stanza.coinstallable = word(value, MULTI_ARCH, "Multi-Arch")? == "same",
            Field::Version => stanza.version = printed_version(value)?,
            Field::Status => {
                let words: Vec<_> = value.split_ascii_whitespace().collect();
                let [want, flag, status] = words[..] else { return Err("`Status` has not three words".into()) };
                word(flag, FLAGS, "Status")?;
                stanza.installed =
                    word(want, WANTS, "Status")? == "install" && word(status, STATES, "Status")? == "installed";
                stanza.present = !status.eq_ignore_ascii_case("not-installed");
            }
        }
        Ok(())
    }
}

impl Field {
    fn named(name: &[u8]) -> Option<Self> {
        let fields = [
            (&b"Package"[..], Self::Package),
            (b"Status", Self::Status),
            (b"Architecture", Self::Architecture),
            (b"Multi-Arch", Self::MultiArch),
            (b"Version", Self::Version),
        ];
        fields.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, field)| field)
    }
}

const MULTI_ARCH: &[&str] = &["no", "same", "allowed", "foreign"];
const WANTS: &[&str] = &["unknown", "install", "hold", "deinstall", "purge"];
const FLAGS: &[&str] = &["ok", "reinstreq"];
const STATES: &[&str] = &[
    "not-installed",
    "config-files",
    "half-installed",
    "unpacked",
    "half-configured",
    "triggers-awaited",
    "triggers-pending",
    "installed",
];

/// One of the words that dpkg knows in a field, in lower case.
fn word(text: &str, known: &[&'static str], field: &str) -> Result<&'static str, String> {
    let found = known.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| format!("`{field}` cannot be `{text}`"))
}

/// A name, in lower case, as dpkg keeps it.
fn package_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(allowed) {
        return Err(format!("`{}` is no name of a package", text.escape_debug()));
    }
    Ok(text.to_ascii_lowercase())
}

fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value.trim_ascii()).map_err(|_| "a value that is not UTF-8".into())
}

/// A version as dpkg prints it: the epoch is a number, left out where it is zero and nothing else holds a colon.
fn printed_version(version: &str) -> Result<String, String> {
    let wrong = |problem: &str| Err(format!("the version `{}` {problem}", version.escape_debug()));
    if version.contains(|c: char| c.is_ascii_whitespace()) {
        return wrong("has blanks");
    }
    let (epoch, rest) = version.split_once(':').map_or((None, version), |(epoch, rest)| (Some(epoch), rest));
    let upstream = match rest.rsplit_once('-') {
        Some((_, "")) => return wrong("ends without its revision"),
        Some((upstream, _)) => upstream,
        None => rest,
    };
    if upstream.is_empty() && !version.is_empty() {
        return wrong("has nothing but an epoch or a revision");
    }
    let Some(epoch) = epoch else { return Ok(version.to_owned()) };
    let Ok(epoch) = epoch.trim_start_matches('+').parse::<i32>() else { return wrong("has no number for an epoch") };
    if epoch < 0 {
        return wrong("has a negative epoch");
    }
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
