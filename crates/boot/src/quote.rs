//! Assignments that bash, dash and PAM's reader of `/etc/environment` take for the same value.
//!
//! PAM (`pam_env`, Linux-PAM) reads line by line: `NAME=value`, with one pair of surrounding quotes removed and no escapes. So an
//! ordinary value is written in plain double or single quotes, which all three read alike. A value with a newline would show PAM a
//! second line, which may look like another variable; such a value is written on one line through `printf`, which only shells resolve.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::environment::is_identifier;

/// Names that a shell keeps for itself: read-only, or with a value of the shell's own whatever is assigned, or (`BASH_COMPAT`,
/// `BASH_XTRACEFD`, `IFS`, `OPTIND`, `PWD`) changing how the shell that sources them works.
const SHELL_NAMES: [&str; 34] = [
    "_",
    "BASHOPTS",
    "BASHPID",
    "BASH_ALIASES",
    "BASH_ARGC",
    "BASH_ARGV",
    "BASH_ARGV0",
    "BASH_CMDS",
    "BASH_COMPAT",
    "BASH_LINENO",
    "BASH_SOURCE",
    "BASH_SUBSHELL",
    "BASH_VERSINFO",
    "BASH_XTRACEFD",
    "COMP_WORDBREAKS",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "IFS",
    "LINENO",
    "OLDPWD",
    "OPTIND",
    "PIPESTATUS",
    "PPID",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SRANDOM",
    "UID",
];

/// Whether sourcing an assignment to `name` gives the value back and leaves the shell as it was.
#[must_use]
pub fn is_assignable(name: &OsStr) -> bool {
    is_identifier(name) && name.to_str().is_some_and(|name| !SHELL_NAMES.contains(&name))
}

/// `NAME=value` on one line, quoted so that sourcing it gives back the exact bytes.
///
/// ```
/// use vast_boot::quote::assignment;
/// assert_eq!(assignment("A".as_ref(), "plain text".as_ref()), b"A=\"plain text\"");
/// assert_eq!(assignment("A".as_ref(), "$5 `x`".as_ref()), b"A='$5 `x`'");
/// ```
#[must_use]
pub fn assignment(name: &OsStr, value: &OsStr) -> Vec<u8> {
    let mut line = name.as_bytes().to_vec();
    line.push(b'=');
    let value = value.as_bytes();
    let has = |wanted: &[u8]| value.iter().any(|byte| wanted.contains(byte));
    if has(b"\n") && std::str::from_utf8(value).is_err() {
        // bash in a UTF-8 locale spoils what is no text when it takes a suffix off, so a whole assignment is evaluated.
        let mut assigned = name.as_bytes().to_vec();
        assigned.extend_from_slice(b"='");
        for byte in value {
            assigned.extend_from_slice(if *byte == b'\'' { br"'\''" } else { std::slice::from_ref(byte) });
        }
        assigned.push(b'\'');
        line.extend_from_slice(b"; eval \"$(printf %b ");
        single_quoted_escapes(&assigned, &mut line);
        line.extend_from_slice(b")\"");
    } else if has(b"\n") {
        // The dot keeps trailing newlines, which a command substitution would drop; `%.` takes it off again.
        line.extend_from_slice(b"$(printf %b. ");
        single_quoted_escapes(value, &mut line);
        line.extend_from_slice(b"); ");
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"=${");
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"%.}");
    } else if !has(b"\"$`\\") {
        quoted(b'"', value, &mut line);
    } else if !has(b"'") {
        quoted(b'\'', value, &mut line);
    } else {
        line.push(b'"');
        for &byte in value {
            if b"\"$`\\".contains(&byte) {
                line.push(b'\\');
            }
            line.push(byte);
        }
        line.push(b'"');
    }
    line
}

/// The value that sourcing `NAME=WORD` assigns, told from what follows the `=` in its line: what [`assignment`] has written, and what
/// people write by hand. Nothing where only a shell can tell: something is expanded, a command follows, a quote stays open.
///
/// ```
/// use vast_boot::quote::read;
/// assert_eq!(read(br#""it's \$5" # a remark"#).as_deref(), Some(&b"it's $5"[..]));
/// assert_eq!(read(br#""$HOME/x""#), None);
/// ```
#[must_use]
pub fn read(word: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(word.len());
    let mut bytes = word.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => read_double_quoted(&mut bytes, &mut value)?,
            b'\'' => loop {
                match bytes.next()? {
                    b'\'' => break,
                    other => value.push(other),
                }
            },
            b'\\' => value.push(bytes.next()?),
            b' ' | b'\t' => {
                let next = bytes.find(|byte| !b" \t".contains(byte));
                return next.is_none_or(|byte| byte == b'#').then_some(value);
            }
            b'$' | b'`' | b'~' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'\0' => return None,
            other => value.push(other),
        }
    }
    Some(value)
}

fn read_double_quoted(bytes: &mut impl Iterator<Item = u8>, value: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            b'$' | b'`' | b'\0' => return None,
            b'\\' => {
                let escaped = bytes.next()?;
                if !b"\"$`\\".contains(&escaped) {
                    value.push(b'\\');
                }
                value.push(escaped);
            }
            other => value.push(other),
        }
    }
}

fn quoted(quote: u8, value: &[u8], line: &mut Vec<u8>) {
    line.push(quote);
    line.extend_from_slice(value);
    line.push(quote);
}

/// `value` as a single-quoted argument of `printf %b`.
///
/// Bytes that are no text in UTF-8 are written as octal numbers: bash takes such a byte and an escape's backslash behind it
/// for one character, and then misses the escape.
fn single_quoted_escapes(value: &[u8], line: &mut Vec<u8>) {
    let text = std::str::from_utf8(value).is_ok();
    line.push(b'\'');
    for &byte in value {
        match byte {
            byte if !text && !byte.is_ascii() => line.extend_from_slice(format!("\\0{byte:03o}").as_bytes()),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\'' => line.extend_from_slice(b"'\\''"),
            other => line.push(other),
        }
    }
    line.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &str) -> String {
        String::from_utf8(assignment("A".as_ref(), value.as_ref())).unwrap()
    }

    #[test]
    fn ordinary_values_have_one_pair_of_quotes_and_no_escapes() {
        for (value, expected) in [
            ("", r#"A="""#),
            ("a b", r#"A="a b""#),
            ("it's", r#"A="it's""#),
            ("#x", r##"A="#x""##),
            ("say \"hi\"", r#"A='say "hi"'"#),
            ("C:\\x $y", r"A='C:\x $y'"),
            ("it's $5", r#"A="it's \$5""#),
        ] {
            assert_eq!(written(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_value_with_newlines_stays_on_one_line() {
        assert_eq!(written("a\nPATH=/evil\n"), r"A=$(printf %b. 'a\nPATH=/evil\n'); A=${A%.}");
    }

    #[test]
    fn bytes_that_are_no_text_are_octal_numbers_where_escapes_are_read() {
        let line = assignment("A".as_ref(), std::os::unix::ffi::OsStrExt::from_bytes(b"\xc2\\\n"));
        assert_eq!(String::from_utf8(line).unwrap(), r#"A=; eval "$(printf %b 'A='\''\0302\\\n'\''')""#);
        assert_eq!(written("\u{e9}\n"), "A=$(printf %b. '\u{e9}\\n'); A=${A%.}");
    }

    #[test]
    fn what_people_write_is_read_as_a_shell_reads_it_or_not_at_all() {
        for (word, expected) in [
            ("changed", Some("changed")),
            ("", Some("")),
            ("a#b", Some("a#b")),
            ("a # b", Some("a")),
            ("a\t ", Some("a")),
            (r#"a'b c'"d"\ e"#, Some("ab cd e")),
            (r#""a\b\\""#, Some(r"a\b\")),
            ("a b", None),
            (" a", None),
            ("$A", None),
            ("\"`id`\"", None),
            ("a;b", None),
            ("~/x", None),
            ("\"open", None),
            ("'open", None),
            ("open\\", None),
        ] {
            assert_eq!(read(word.as_bytes()), expected.map(|value| value.as_bytes().to_vec()), "{word:?}");
        }
        for value in ["a\nPATH=/evil\n", "\n"] {
            assert_eq!(read(written(value).strip_prefix("A=").unwrap().as_bytes()), None, "{value:?}");
        }
        let line = assignment("A".as_ref(), std::os::unix::ffi::OsStrExt::from_bytes(b"\xc2\n"));
        assert_eq!(read(&line[2..]), None);
    }

    #[test]
    fn names_of_the_shell_are_not_assignable() {
        for name in ["_", "UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "1A", "A-B", "", "BASH_FUNC_x%%"] {
            assert!(!is_assignable(name.as_ref()), "{name}");
        }
        for name in ["PATH", "_A", "a1", "LC_ALL"] {
            assert!(is_assignable(name.as_ref()), "{name}");
        }
    }
}
