//! Terminal output as plain text.
//!
//! Escape sequences (ECMA-48, and the strings of OSC and its kin) and control characters go. A carriage return starts its
//! line over, as on a terminal: of a progress bar that redraws itself a thousand times, the last state stays. Everything else passes byte for
//! byte, whatever its encoding. All state is kept between calls, so that a sequence, a character or a `\r\n` may be
//! split anywhere.

/// A line longer than this is given out in parts.
const LINE_LIMIT: usize = 64 << 10;

/// An escape string longer than this was none: a stray introducer must not swallow the log.
const STRING_LIMIT: usize = 4 << 10;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;

/// Cleans a stream of terminal output.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
    /// The text of the current line that has not been given out.
    line: Vec<u8>,
    /// A part of the current line has been given out already.
    given: bool,
    /// A carriage return came last: what follows, unless it ends the line, starts it over.
    returned: bool,
    /// The current line has been started over.
    redrawn: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one final byte follows.
    Intermediate,
    /// In a control sequence: `ESC [ … final`.
    Control,
    /// In a string (`ESC ]`, `P`, `X`, `^`, `_`) of so many bytes, up to BEL or `ESC \`.
    String(usize),
    /// After an ESC within a string.
    StringEscape(usize),
}

impl Cleaner {
    /// Takes more output, and appends to `out` the lines that are complete.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = bytes.first() {
            if self.state == State::Text {
                let run = bytes.iter().position(|byte| is_control(*byte)).unwrap_or(bytes.len());
                if run > 0 {
                    self.text(&bytes[..run], out);
                    bytes = &bytes[run..];
                    continue;
                }
            }
            bytes = &bytes[1..];
            self.state = self.step(first, out);
        }
    }

    /// Appends to `out` what is known of the current line, up to the last whole character. The line goes on.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let whole = self.line.len() - incomplete_character(&self.line);
        if whole > 0 {
            out.extend(self.line.drain(..whole));
            self.given = true;
        }
    }

    /// Ends the stream: appends what is left, as a line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.line.is_empty() || self.given {
            self.end_line(out);
        }
    }

    /// Whether [`Cleaner::flush`] has anything to give.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.line.len() > incomplete_character(&self.line)
    }

    /// The text of the current line that has not been given out.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.line
    }

    /// Whether the current line has been started over: a progress bar.
    #[must_use]
    pub fn is_redrawn(&self) -> bool {
        self.redrawn
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        // Whatever a sequence is in the middle of, the end of a line ends it: text comes before form.
        if byte == b'\n' {
            self.end_line(out);
            return State::Text;
        }
        match (self.state, byte) {
            (State::String(_), BELL) | (State::StringEscape(_), b'\\') => State::Text,
            (State::String(length) | State::StringEscape(length), ESCAPE) => State::StringEscape(length),
            (State::String(length) | State::StringEscape(length), _) if length < STRING_LIMIT => {
                State::String(length + 1)
            }
            (_, ESCAPE) => State::Escape,
            (State::Escape, b'[') | (State::Control, b' '..=b'?') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String(0),
            (State::Escape | State::Intermediate, b' '..=b'/') => State::Intermediate,
            // Within a sequence, it breaks it off.
            (_, byte) if is_control(byte) => {
                self.control(byte);
                State::Text
            }
            // The final byte.
            _ => State::Text,
        }
    }

    fn control(&mut self, byte: u8) {
        match byte {
            b'\r' => self.returned = true,
            BACKSPACE if !self.returned => {
                let character = self.line.iter().rposition(|byte| !is_continuation(*byte)).unwrap_or(0);
                self.line.truncate(character);
            }
            _ => {}
        }
    }

    fn text(&mut self, run: &[u8], out: &mut Vec<u8>) {
        if self.returned {
            self.returned = false;
            self.redrawn = true;
            self.line.clear();
            if self.given {
                out.push(b'\n');
                self.given = false;
            }
        }
        self.line.extend_from_slice(run);
        if self.line.len() > LINE_LIMIT {
            self.flush(out);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.line);
        out.push(b'\n');
        self.given = false;
        self.returned = false;
        self.redrawn = false;
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes at the end are the start of a UTF-8 character that is not complete.
fn incomplete_character(text: &[u8]) -> usize {
    let tail = &text[text.len().saturating_sub(3)..];
    let Some(lead) = tail.iter().rposition(|byte| !is_continuation(*byte)) else { return 0 };
    let wanted = match tail[lead] {
        0b1100_0000..=0b1101_1111 => 2,
        0b1110_0000..=0b1110_1111 => 3,
        0b1111_0000..=0b1111_0111 => 4,
        _ => 1,
    };
    let there = tail.len() - lead;
    if there < wanted { there } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(parts: &[&[u8]]) -> String {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        for part in parts {
            cleaner.feed(part, &mut out);
        }
        cleaner.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn terminal_output_becomes_plain_text() {
        let table: [(&[u8], &str); 18] = [
            (b"plain\ttext\n", "plain\ttext\n"),
            (b"no newline", "no newline\n"),
            (b"\x1b[1;31mred\x1b[0m\n", "red\n"),
            (b"\x1b[38:2::1:2:3mx\x1b[?25l\x1b[2K\n", "x\n"),
            (b"\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "textlink\n"),
            (b"\x1b(B\x1b=\x1b7x\x1bM\n", "x\n"),
            (b"a\r\nb\r\r\nc\n", "a\nb\nc\n"),
            (b"10%\r50%\r100%\n", "100%\n"),
            (b"long line\rx\n", "x\n"),
            (b"100%\r\x1b[K\n", "100%\n"),
            (b"\rfirst\rsecond\n", "second\n"),
            (b"ab\x08c\n", "ac\n"),
            ("\u{e9}\x08e\n".as_bytes(), "e\n"),
            (b"\x07bell\0\x7f\n", "bell\n"),
            (b"\x1b]unterminated\nnext\n", "\nnext\n"),
            (b"\x1b[31\nnext\n", "\nnext\n"),
            (b"\x1b[31\rx\n", "x\n"),
            (b"", ""),
        ];
        for (bytes, text) in table {
            assert_eq!(clean(&[bytes]), text, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_stray_introducer_swallows_no_more_than_its_limit() {
        let text = [b"\x1b]".as_slice(), &[b'x'; STRING_LIMIT + 10], b"\n"].concat();
        assert_eq!(clean(&[&text]), "x".repeat(9) + "\n");
    }

    #[test]
    fn a_flushed_line_goes_on_and_a_redrawn_one_begins_anew() {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        cleaner.feed(b"loading", &mut out);
        cleaner.flush(&mut out);
        cleaner.feed(b" done\n10%", &mut out);
        cleaner.flush(&mut out);
        cleaner.feed(b"\r20%", &mut out);
        assert!(cleaner.is_redrawn());
        cleaner.feed(b"\r30%\r", &mut out);
        cleaner.flush(&mut out);
        cleaner.feed(b"\nend", &mut out);
        cleaner.finish(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "loading done\n10%\n30%\nend\n");
    }

    #[test]
    fn a_flush_leaves_an_incomplete_character_for_later() {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        for byte in "\u{e9}\u{20ac}\u{1f600}".bytes() {
            cleaner.feed(&[byte], &mut out);
            cleaner.flush(&mut out);
            assert!(std::str::from_utf8(&out).is_ok(), "{out:?}");
        }
        assert_eq!(out, "\u{e9}\u{20ac}\u{1f600}".as_bytes());
    }

    #[test]
    fn a_line_without_end_does_not_grow_in_memory() {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        for _ in 0..100 {
            cleaner.feed(&[b'x'; 4096], &mut out);
            assert!(cleaner.pending().len() <= LINE_LIMIT);
        }
        cleaner.finish(&mut out);
        assert_eq!(out.len(), 100 * 4096 + 1);
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(0x1bu8), Just(b'['), Just(b']'), Just(b'\r'), Just(b'\n'), Just(8u8), Just(7u8), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(clean(&parts), clean(&[&bytes]));
        }

        #[test]
        fn no_control_character_survives(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = clean(&[&bytes]);
            prop_assert!(!text.bytes().any(|byte| is_control(byte) && byte != b'\n'));
        }

        #[test]
        fn plain_lines_pass_unchanged(text in "([^\\p{Cc}]{0,40}\n){0,8}") {
            prop_assert_eq!(clean(&[text.as_bytes()]), text);
        }
    }
}
