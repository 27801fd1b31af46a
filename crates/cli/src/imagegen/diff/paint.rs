//! Colours, signs and words of a difference.

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use vast_imagegen::diff::Kind;
use vast_imagegen::platform::Platform;

use crate::imagegen::text::size;

/// A line with the sign and the colour of what became of what it names.
pub(super) fn line(kind: Kind, text: impl Display) -> String {
    let (sign, colour) = match kind {
        Kind::Added => ('+', AnsiColor::Green),
        Kind::Removed => ('-', AnsiColor::Red),
        Kind::Changed => ('~', AnsiColor::Yellow),
    };
    let style = Style::new().fg_color(Some(colour.into()));
    let text = text.to_string();
    format!("  {style}{sign} {}{style:#}\n", vast_envhash::printable(&text))
}

/// The title of a section.
pub(super) fn heading(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// `3 added, 1 removed`; nothing of what there is none of.
pub(super) fn counts(added: usize, removed: usize, changed: usize) -> String {
    let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    parts.join(", ")
}

/// `+1.2 MB`, `-3 B`, `±0 B`.
pub(super) fn delta(before: u64, after: u64) -> String {
    match after.checked_sub(before) {
        Some(0) => "±0 B".to_owned(),
        Some(more) => format!("+{}", size(more)),
        None => format!("-{}", size(before - after)),
    }
}

/// Platforms side by side.
pub(super) fn platforms(platforms: &[&Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A path from the root as it can be printed.
pub(super) fn path(path: &Path) -> String {
    format!("/{}", printable(path))
}

/// A path with everything as an escape that a terminal would act on, that ends a line or that is no text.
pub(super) fn printable(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    vast_envhash::printable(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_cannot_drive_the_terminal_or_forge_lines() {
        let hostile = OsStr::from_bytes(b"a\x1b[2J\nb\xff\xe2\x80\xaec");
        assert_eq!(path(Path::new(hostile)), r"/a\u{1b}[2J\nb\xff\u{202e}c");
        assert_eq!(path(Path::new("")), "/");
    }

    #[test]
    fn a_difference_of_sizes_has_a_sign() {
        assert_eq!([delta(1, 1), delta(1, 3001), delta(5, 1)], ["±0 B", "+3.0 kB", "-4 B"]);
    }
}
