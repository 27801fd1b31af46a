//! Files of others, quoted: never through a link, never more than was asked for, never with what drives a terminal.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::redact::Redactor;

/// What is read of a log to quote its last lines.
const LAST_LINES_BYTES: u64 = 16 * 1024;

/// A quoted line is cut here.
const LONGEST_LINE_CHARS: usize = 300;

/// The end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// Whole lines. Bytes that are no text are replaced.
    pub(super) text: String,
    /// How much of the file came before.
    pub(super) skipped_bytes: u64,
}

/// The last `limit_bytes` of a plain file, from the start of a line: half a line could be half a secret.
pub(super) fn tail(path: &Path, limit_bytes: u64) -> io::Result<Tail> {
    // A pipe would wait for a writer; a link may lead to a key.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let start = metadata.len().saturating_sub(limit_bytes);
    // One byte more tells whether the first line is whole.
    file.seek(SeekFrom::Start(start.saturating_sub(1)))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + u64::from(start > 0)).read_to_end(&mut bytes)?;
    let mut skipped_bytes = 0;
    if start > 0 {
        let cut = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
        bytes.drain(..cut);
        skipped_bytes = start - 1 + cut as u64;
    }
    Ok(Tail { text: String::from_utf8_lossy(&bytes).into_owned(), skipped_bytes })
}

/// The last lines of a log that are not empty; none when it cannot be read. Secrets go before it is cut: a line from the middle of a
/// private key does not look like one.
pub(super) fn last_lines(path: &Path, count: usize, redactor: &Redactor) -> Vec<String> {
    let text = tail(path, LAST_LINES_BYTES).map(|tail| redactor.scrub(&plain(&tail.text))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|line| shortened(line)).collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// `text` without colours and other control characters; what a carriage return would overwrite is a line of its own.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                // `ESC [ … final byte`
                Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // `ESC ] … BEL`, or `ESC ] … ESC \`
                Some(']') => {
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_with_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        for (limit, text, skipped_bytes) in [
            (100, "one\ntwo\nthree\n", 0),
            (14, "one\ntwo\nthree\n", 0),
            (10, "two\nthree\n", 4),
            (9, "three\n", 8),
            (3, "", 14),
        ] {
            assert_eq!(tail(&file, limit).unwrap(), Tail { text: text.to_owned(), skipped_bytes }, "{limit}");
        }
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(tail(&link, 100).is_err() && tail(directory.path(), 100).is_err());
        assert_eq!(last_lines(&file, 2, &Redactor::default()), ["two", "three"]);
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\nMIIF\n";
        std::fs::write(&file, format!("one\n{key}")).unwrap();
        assert_eq!(last_lines(&file, 2, &Redactor::default()), ["one", "***"]);
    }

    #[test]
    fn nothing_that_drives_a_terminal_is_quoted() {
        for (text, expected) in [
            ("\u{1b}[1;31mred\u{1b}[0m\r\n", "red\n"),
            ("10%\r20%\r\n", "10%\n20%\n"),
            ("\u{1b}]0;title\u{7}a\u{8}b\u{1b}]x\u{1b}\\c", "abc"),
            ("end\u{1b}[", "end"),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
