//! The last lines of the boot's output.

use std::borrow::Cow;
use std::collections::VecDeque;

use vast_portal::logtee::clean::Cleaner;

use crate::redact::Redactor;

/// Lines kept. More than are shown: a secret of several lines is recognised by its first or its last.
const KEPT_LINES: usize = 400;

/// Lines shown.
const SHOWN_LINES: usize = 120;

/// What is kept of a longer line. More than is shown: a secret is recognised only whole.
const KEPT_LINE_BYTES: usize = 4096;

/// What is shown of a longer line, once it is without secrets.
const SHOWN_LINE_BYTES: usize = 1024;

/// The last lines of the output, as a terminal without colours would show them.
#[derive(Debug, Default)]
pub(super) struct Output {
    lines: VecDeque<String>,
    cleaner: Cleaner,
    cleaned: Vec<u8>,
}

impl Output {
    /// A message of ours.
    pub(super) fn line(&mut self, text: &str) {
        for line in text.lines() {
            self.push(line);
        }
    }

    /// Output of a program, in any pieces.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let mut cleaned = std::mem::take(&mut self.cleaned);
        self.cleaner.feed(bytes, &mut cleaned);
        let end = cleaned.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        for line in String::from_utf8_lossy(cleaned.get(..end).unwrap_or_default()).lines() {
            self.push(line);
        }
        cleaned.drain(..end);
        // A line without an end is not to fill the memory.
        cleaned.truncate(KEPT_LINE_BYTES);
        self.cleaned = cleaned;
    }

    /// All that is kept, as it came; the line that is being written (a progress bar) last.
    pub(super) fn text(&self) -> String {
        let mut text: String = self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let pending = [self.cleaned.as_slice(), self.cleaner.pending()].concat();
        let pending = String::from_utf8_lossy(&pending);
        text.push_str(cut(&pending, KEPT_LINE_BYTES));
        text
    }

    fn push(&mut self, line: &str) {
        if self.lines.len() >= KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(cut(line, KEPT_LINE_BYTES).to_owned());
    }
}

/// The last lines of a text, without secrets.
pub(super) fn shown(text: &str, redactor: &Redactor) -> Vec<String> {
    let text: Vec<_> = text.split('\n').map(|line| uncut(line, redactor)).collect();
    let text = redactor.scrub(&text.join("\n"));
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines.get(from..).unwrap_or_default().iter().map(|line| cut(line, SHOWN_LINE_BYTES).to_owned()).collect()
}

/// A line as it was kept; of one that was cut, nothing that a secret may have begun with.
fn uncut<'a>(line: &'a str, redactor: &Redactor) -> Cow<'a, str> {
    let longest_char_bytes = 4;
    if line.len() + longest_char_bytes > KEPT_LINE_BYTES { redactor.redact_cut(line).into() } else { line.into() }
}

/// So much of a line, to the end of a character.
fn cut(line: &str, limit_bytes: usize) -> &str {
    line.get(..line.floor_char_boundary(limit_bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn lines_are_as_a_terminal_shows_them_whatever_pieces_they_come_in() {
        let mut output = Output::default();
        for byte in "\x1b[1mCollecting\x1b[0m é\r\n 10%\r 50%\r100%\nlast".as_bytes() {
            output.raw(&[*byte]);
        }
        output.line("vast-boot: one\ntwo");
        assert_eq!(
            shown(&output.text(), &Redactor::default()),
            ["Collecting é", "100%", "vast-boot: one", "two", "last"]
        );
    }

    #[test]
    fn no_more_than_the_last_lines_are_kept_and_long_ones_are_cut() {
        let mut output = Output::default();
        for number in 0..10_000 {
            output.raw(format!("{number} {}\n", "é".repeat(3000)).as_bytes());
        }
        for _ in 0..100 {
            output.raw("x".repeat(100_000).as_bytes());
        }
        assert!(output.cleaned.capacity() < 1 << 20);
        assert!(output.lines.len() <= KEPT_LINES && output.lines.iter().all(|line| line.len() <= KEPT_LINE_BYTES));
        let lines = shown(&output.text(), &Redactor::default());
        assert_eq!(lines.len(), SHOWN_LINES);
        assert!(lines[SHOWN_LINES - 2].starts_with("9999 é"), "{}", lines[SHOWN_LINES - 2]);
        assert!(lines.iter().all(|line| line.len() <= SHOWN_LINE_BYTES));
    }

    #[test]
    fn a_secret_where_a_long_line_is_cut_is_masked_whole() {
        let env: Environment = [("MY_SECRET", "s3cret-value")].into_iter().collect();
        for end in ["\n", ""] {
            let mut output = Output::default();
            output.raw(format!("{}s3cret-value and more{end}", "x".repeat(SHOWN_LINE_BYTES - 6)).as_bytes());
            let lines = shown(&output.text(), &Redactor::new(&env));
            assert!(lines[0].ends_with("x*** an") && lines[0].len() <= SHOWN_LINE_BYTES, "{lines:?}");
        }
        // One so long that its end is not kept.
        let key = "k3y-of-many-bytes ".repeat(400);
        let env: Environment = [("MY_SECRET", key.as_str())].into_iter().collect();
        let mut output = Output::default();
        output.raw(format!("took {key}\n").as_bytes());
        assert_eq!(shown(&output.text(), &Redactor::new(&env)), ["took ***"]);
    }

    #[test]
    fn secrets_are_masked_also_those_that_came_in_pieces_or_are_learnt_later() {
        let mut output = Output::default();
        output.raw(b"curl -H 'X: s3cr");
        output.raw(b"et-value'\n-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\nhttps://u:pw@host/?token=abc\n");
        let env: Environment = [("MY_SECRET", "s3cret-value")].into_iter().collect();
        let lines = shown(&output.text(), &Redactor::new(&env)).join("\n");
        for secret in ["s3cret", "MIIabc", "pw", "abc"] {
            assert!(!lines.contains(secret), "{lines}");
        }
        assert!(lines.contains("curl -H"), "{lines}");
    }
}
