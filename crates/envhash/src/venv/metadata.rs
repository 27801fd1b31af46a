//! The two fields of a distribution's metadata that count, read as CPython reads them.
//!
//! `importlib.metadata` parses `METADATA` with `email.message_from_string`: header lines up to the first that is
//! none, continuation lines that start with a blank, the first field of a name wins. From Python 3.10 on it then
//! re-indents folded values (`textwrap.dedent` of the value after eight spaces). All of that is kept, odd as some of it
//! looks: the recipe prints what CPython gives.

use std::borrow::Cow;

/// The `Name` and `Version` fields, as written: continuation lines included, one newline between lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

impl Fields {
    /// Whether a value has several lines, so that the re-indenting of the Python version matters.
    pub(crate) fn folded(&self) -> bool {
        [&self.name, &self.version].into_iter().flatten().any(|value| value.contains('\n'))
    }

    /// The values with `change` applied to those that are folded.
    pub(crate) fn map_folded(mut self, change: impl Fn(&str) -> String) -> Self {
        for value in [&mut self.name, &mut self.version].into_iter().flatten() {
            if value.contains('\n') {
                *value = change(value);
            }
        }
        self
    }
}

/// Reads the fields from the text of a metadata file.
pub(crate) fn parse(text: &str) -> Fields {
    let text = universal_newlines(text);
    let mut fields = Fields::default();
    let headers = headers(&text);
    let mut index = 0;
    while index < headers.len() {
        let line = headers[index];
        index += 1;
        // A mailbox's envelope line, a line without a name, a continuation of nothing: no header, whatever follows.
        if line.starts_with([' ', '\t', ':']) || line.starts_with("From ") {
            continue;
        }
        let continuations = headers[index..].iter().take_while(|line| line.starts_with([' ', '\t'])).count();
        let Some((name, first)) = line.split_once(':') else { continue };
        let slot = if name.eq_ignore_ascii_case("name") {
            &mut fields.name
        } else if name.eq_ignore_ascii_case("version") {
            &mut fields.version
        } else {
            continue;
        };
        if slot.is_none() {
            let mut value = first.trim_start_matches([' ', '\t']).to_owned();
            value.extend(headers[index..index + continuations].iter().copied());
            value.truncate(value.trim_end_matches('\n').len());
            *slot = Some(value);
        }
    }
    fields
}

/// The lines before the body, each with its newline.
fn headers(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').take_while(|line| is_header(line)).collect()
}

/// `email.feedparser.headerRE`: `^(From |[\041-\071\073-\176]*:|[\t ])`.
fn is_header(line: &str) -> bool {
    if line.starts_with("From ") || line.starts_with([' ', '\t']) {
        return true;
    }
    let name_end = line.bytes().position(|byte| byte == b':' || !byte.is_ascii_graphic());
    name_end.is_some_and(|at| line.as_bytes()[at] == b':')
}

fn universal_newlines(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\r', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// How an installation treats folded values; its own source states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Folding {
    /// Which values `importlib.metadata._adapters` re-indents.
    pub(crate) redent: Redent,
    /// `email._policybase` strips newlines before a value's first text (gh-124452), not only blanks.
    pub(crate) strips_newlines: bool,
}

/// Which folded values are re-indented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Redent {
    /// None: Python 3.8 and 3.9.
    #[default]
    No,
    /// All.
    Always,
    /// Those with a continuation line that starts with eight spaces.
    Eight,
}

impl Folding {
    /// Reads the rules from the sources of `importlib/metadata/_adapters.py` and `email/_policybase.py`; empty where a file is missing.
    pub(crate) fn from_sources(adapters: &str, policy: &str) -> Self {
        let redent = if !adapters.contains("textwrap.dedent(") {
            Redent::No
        } else if adapters.contains("'\\n' + indent not in value") {
            Redent::Eight
        } else {
            Redent::Always
        };
        Self { redent, strips_newlines: policy.contains(r"lstrip(' \t\r\n')") }
    }

    /// The value of a folded field as the installation gives it.
    pub(crate) fn apply(self, value: &str) -> String {
        let value = if self.strips_newlines { value.trim_start_matches([' ', '\t', '\n']) } else { value };
        let redents = match self.redent {
            Redent::No => false,
            Redent::Always => value.contains('\n'),
            Redent::Eight => value.contains("\n        "),
        };
        if redents { dedent(&format!("        {value}")) } else { value.to_owned() }
    }
}

/// CPython's `textwrap.dedent`: the blanks common to the start of all lines with text go, and lines of blanks become empty.
fn dedent(text: &str) -> String {
    let blank = |line: &str| line.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let lines: Vec<&str> = text.split('\n').map(|line| if blank(line) { "" } else { line }).collect();
    let mut texts = lines.iter().filter(|line| !line.is_empty());
    let Some(first) = texts.next() else { return lines.join("\n") };
    let margin = texts.fold(&first[..indent(first)], |margin, line| {
        let common = margin.bytes().zip(line.bytes()).take_while(|(ours, theirs)| ours == theirs).count();
        &margin[..common]
    });
    lines.iter().map(|line| line.strip_prefix(margin).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Option<String>, Option<String>) {
        let fields = parse(text);
        (fields.name, fields.version)
    }

    fn some(name: &str, version: &str) -> (Option<String>, Option<String>) {
        (Some(name.into()), Some(version.into()))
    }

    #[test]
    fn fields_are_read_as_a_mail_header() {
        let table = [
            ("Metadata-Version: 2.1\nName: a\nVersion: 1\n", some("a", "1")),
            ("name:a\nVERSION:\t 1 ", some("a", "1 ")),
            ("Name: a\r\nVersion: 1\r\n\r\nbody", some("a", "1")),
            ("Name: a\rVersion: 1\r", some("a", "1")),
            ("Name: a\nName: b\nVersion: 1\nVersion: 2\n", some("a", "1")),
            ("Name: a\nVersion: 1\n\nName: b\n", some("a", "1")),
            ("Name: a\n\nVersion: 1\n", (Some("a".into()), None)),
            ("Name: a\nnot a header\nVersion: 1\n", (Some("a".into()), None)),
            ("Name : a\nVersion: 1\n", (None, None)),
            ("N\u{e4}me: x\nVersion: 1\n", (None, None)),
            ("From someone\nName: a\nVersion: 1\n", some("a", "1")),
            ("Name: a\nFrom x\n continued\nVersion: 1\n", some("a", "1")),
            (" stray\nName: a\nVersion: 1\n", some("a", "1")),
            (": nameless\n more\nName: a\nVersion: 1\n", some("a", "1")),
            ("Name:\nVersion: 1\n", some("", "1")),
            ("Name: a\n b\nVersion: 1\n\t2\n  3\n", some("a\n b", "1\n\t2\n  3")),
            ("", (None, None)),
            ("\nName: a\n", (None, None)),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn folded_values_follow_the_installation() {
        let old = Folding::from_sources("", "");
        let current = Folding::from_sources("return textwrap.dedent(' ' * 8 + value)", "value.lstrip(' \\t')");
        let newer = Folding::from_sources(
            "if not value or '\\n' + indent not in value:\n return textwrap.dedent(indent + value)",
            r"lstrip(' \t\r\n')",
        );
        assert_eq!(old.apply("a\n b"), "a\n b");
        assert_eq!(current.apply("a\n b"), "       a\nb");
        assert_eq!(current.apply("a\n        b"), "a\nb");
        assert_eq!(current.apply("\n foo"), "\nfoo");
        assert_eq!(newer.apply("a\n b"), "a\n b");
        assert_eq!(newer.apply("a\n        b"), "a\nb");
        assert_eq!(newer.apply("\n foo"), "foo");
    }

    #[test]
    fn dedent_is_that_of_the_standard_library() {
        let table = [
            ("", ""),
            ("a", "a"),
            ("  a\n  b", "a\nb"),
            ("  a\n\tb", "  a\n\tb"),
            ("    a\n  \t\n  b", "  a\n\nb"),
            ("  \n \t ", "\n"),
            ("\ta\n\t b", "a\n b"),
        ];
        for (text, expected) in table {
            assert_eq!(dedent(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)[Nname: \t\r\nVersio\u{e9}\u{2028}.1-9]{0,80}|(?s).{0,60}") {
            let fields = parse(&text);
            let folding = Folding { redent: Redent::Always, strips_newlines: true };
            let _ = fields.map_folded(|value| folding.apply(value));
        }

        #[test]
        fn plain_fields_come_back(name in "[A-Za-z0-9._-]{1,20}", version in "[0-9][0-9a-z.+!]{0,12}", crlf: bool) {
            let end = if crlf { "\r\n" } else { "\n" };
            let text = format!("Metadata-Version: 2.4{end}Name: {name}{end}Summary: x{end}Version: {version}{end}{end}text");
            prop_assert_eq!(read(&text), some(&name, &version));
        }
    }
}
