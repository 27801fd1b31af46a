//! A problem as people read it: the entry, and carets under the place.

use std::fmt::Write as _;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use crate::cut;
use crate::problem::Problem;

/// Renders one problem of `value`:
///
/// ```text
/// entry 2, bytes 48..53: internal port `70000` is not a number from 1 to 65535
///   localhost:70000:17860:/:My App
///             ^^^^^
/// ```
pub(crate) fn problem(value: &str, problem: &Problem) -> String {
    let Problem { entry, span, kind } = problem;
    let mut text = format!("entry {entry}, bytes {}..{}: {}", span.start, span.end, visible(&kind.to_string()));
    if let Some(range) = context(value, *entry) {
        // A problem may lie just outside the entry's own text: white space and separators do.
        let start = floor(value, range.start.min(span.start));
        let end = floor(value, range.end.max(span.end).min(value.len()));
        let line = visible(&value[start..end]);
        let before = width(&visible(&value[start..floor(value, span.start.clamp(start, end))]));
        let under = width(&visible(
            &value[floor(value, span.start.clamp(start, end))..floor(value, span.end.clamp(start, end))],
        ));
        let _ = write!(text, "\n  {line}\n  {}{}", " ".repeat(before), "^".repeat(under.max(1)));
    }
    if let Some(hint) = kind.hint() {
        let _ = write!(text, "\n  hint: {hint}");
    }
    text
}

/// The entry to show; of an empty one, which nobody could see, its neighbours.
fn context(value: &str, entry: usize) -> Option<Range<usize>> {
    let pieces = cut::pieces(value);
    let index = pieces.iter().position(|piece| piece.number == entry)?;
    let span = pieces[index].part.span();
    if !span.is_empty() {
        return Some(span);
    }
    let before = index.checked_sub(1).map_or(span.start, |index| pieces[index].part.span().start);
    let after = pieces.get(index + 1).map_or(span.end, |piece| piece.part.span().end);
    Some(before..after)
}

/// The next character boundary at or below `at`.
fn floor(value: &str, at: usize) -> usize {
    (0..=at.min(value.len())).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0)
}

/// Control characters as their escapes, so that a value cannot drive the terminal and carets stay in line.
pub(crate) fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.width() {
            Some(_) => line.push(character),
            None => line.extend(character.escape_default()),
        }
    }
    line
}

fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}
