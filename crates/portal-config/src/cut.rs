//! Cutting the string into entries and fields, each knowing where it was: what both readings share.

use std::ops::Range;

/// A part of the value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Without surrounding white space.
    pub(crate) text: &'a str,
    /// Where [`text`](Self::text) begins: a byte offset in the value.
    start: usize,
    /// With the surrounding white space.
    pub(crate) raw: Range<usize>,
}

impl<'a> Part<'a> {
    fn new(value: &'a str, raw: Range<usize>) -> Self {
        let text = value[raw.clone()].trim();
        // Nothing is where it should begin, not behind the white space.
        let lead = if text.is_empty() { 0 } else { raw.len() - value[raw.clone()].trim_start().len() };
        Self { text, start: raw.start + lead, raw }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    pub(crate) fn has_white_space_around(&self) -> bool {
        self.span() != self.raw
    }
}

/// What stands between an entry and the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Separator {
    Start,
    Pipe,
    /// With its bytes.
    LineBreak(Range<usize>),
}

/// The text between two separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Counted from 1, empty ones included.
    pub(crate) number: usize,
    pub(crate) part: Part<'a>,
    pub(crate) before: Separator,
}

/// Cuts a value at `|` and at line breaks (`\n`, `\r`, `\r\n`). An empty value has no pieces.
pub(crate) fn pieces(value: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    if value.is_empty() {
        return pieces;
    }
    let (mut start, mut before) = (0, Separator::Start);
    for (at, mark) in value.match_indices(['|', '\n', '\r']) {
        if mark == "\n" && at == start && value[..at].ends_with('\r') {
            // The second half of `\r\n`.
            start = at + 1;
            before = Separator::LineBreak(at - 1..start);
            continue;
        }
        let part = Part::new(value, start..at);
        start = at + 1;
        let after = if mark == "|" { Separator::Pipe } else { Separator::LineBreak(at..start) };
        pieces.push(Piece { number: pieces.len() + 1, part, before: std::mem::replace(&mut before, after) });
    }
    pieces.push(Piece { number: pieces.len() + 1, part: Part::new(value, start..value.len()), before });
    pieces
}

/// Cuts an entry at its first four colons; `is_cut` may hold some of them back. At most five parts.
pub(crate) fn fields<'a>(value: &'a str, entry: &Range<usize>, is_cut: impl Fn(usize) -> bool) -> Vec<Part<'a>> {
    let mut cuts: Vec<usize> = value[entry.clone()]
        .bytes()
        .enumerate()
        .filter(|&(_, byte)| byte == b':')
        .map(|(offset, _)| entry.start + offset)
        .filter(|&at| is_cut(at))
        .take(4)
        .collect();
    cuts.push(entry.end);
    let mut start = entry.start;
    cuts.into_iter()
        .map(|end| {
            let part = Part::new(value, start..end);
            start = end + 1;
            part
        })
        .collect()
}

/// Where `${…}` stands in an entry, nested ones as one.
pub(crate) fn placeholders(value: &str, entry: &Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = entry.start;
    while let Some(offset) = value[at..entry.end].find("${") {
        let start = at + offset;
        let mut depth = 0_usize;
        let end = value[start..entry.end].bytes().position(|byte| {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            byte == b'}' && depth == 0
        });
        // `${` that nobody closes is text.
        let Some(end) = end else { break };
        at = start + end + 1;
        found.push(start..at);
    }
    found
}

/// A port from 1 to 65535 in decimal digits. `u16::from_str` alone would take `+80`.
pub(crate) fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|&port| port != 0)
}

/// Whether a host can be one at all. Anything else could change the structure of what is rendered from it.
pub(crate) fn is_host_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Whether a host is the instance itself: `localhost` or an address in 127.0.0.0/8.
///
/// `0.0.0.0` is where one listens, not where one connects, even if Linux lets it pass.
pub(crate) fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_know_their_number_place_and_separator() {
        let seen: Vec<_> = pieces("a | b\r\n\nc|")
            .into_iter()
            .map(|piece| (piece.number, piece.part.text, piece.part.start, piece.before))
            .collect();
        assert_eq!(
            seen,
            [
                (1, "a", 0, Separator::Start),
                (2, "b", 4, Separator::Pipe),
                (3, "", 7, Separator::LineBreak(5..7)),
                (4, "c", 8, Separator::LineBreak(7..8)),
                (5, "", 10, Separator::Pipe),
            ]
        );
        assert!(pieces("").is_empty());
    }

    #[test]
    fn a_label_keeps_its_colons() {
        let value = "h:1:2:/:a:b:c";
        let texts: Vec<_> = fields(value, &(0..value.len()), |_| true).iter().map(|part| part.text).collect();
        assert_eq!(texts, ["h", "1", "2", "/", "a:b:c"]);
    }

    #[test]
    fn placeholders_nest_and_need_their_brace() {
        let found = |text: &str| -> Vec<String> {
            placeholders(text, &(0..text.len())).into_iter().map(|range| text[range].to_owned()).collect()
        };
        assert_eq!(found("a${B}c${D:-${E}}f"), ["${B}", "${D:-${E}}"]);
        assert!(found("a ${ b").is_empty());
        assert!(found("$A {B}").is_empty());
    }

    #[test]
    fn ports_are_plain_decimal_numbers() {
        for (text, expected) in [
            ("1", Some(1)),
            ("65535", Some(65535)),
            ("08080", Some(8080)),
            ("0", None),
            ("65536", None),
            ("+80", None),
            ("-1", None),
            ("8080a", None),
            ("٨٠", None),
            ("", None),
        ] {
            assert_eq!(port(text), expected, "{text}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", false),
            ("example.org", false),
            ("localhost.evil", false),
        ] {
            assert_eq!(is_local(host), expected, "{host}");
        }
    }
}
