//! The managed block in `/etc/environment`.

use std::collections::BTreeMap;

use super::VARIABLES;

/// How the block's first line begins; deployed tools look for it.
const BEGIN: &str = "# VAST_CPU_THREAD_CAPS_BEGIN";
/// The block's last line.
const END: &str = "# VAST_CPU_THREAD_CAPS_END";
/// What the first line says to the user who opens the file.
const NOTE: &str = "written at every boot; to choose a value, set it outside of this block";

/// A text without its managed block.
pub(super) struct Cut {
    pub(super) rest: String,
    /// What the block set.
    pub(super) values: BTreeMap<String, String>,
}

/// Takes every managed block out. One without an end ends at the first line that is none of the block's own.
pub(super) fn cut_out(text: &str) -> Cut {
    let mut cut = Cut { rest: String::with_capacity(text.len()), values: BTreeMap::new() };
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let own = assignment(line).filter(|(name, _)| VARIABLES.contains(name));
        if line.starts_with(BEGIN) {
            inside = true;
        } else if inside && line.starts_with(END) {
            inside = false;
        } else if let (true, Some((name, value))) = (inside, own) {
            cut.values.insert(name.to_owned(), value.to_owned());
        } else {
            inside = false;
            cut.rest.push_str(line);
        }
    }
    cut
}

/// The text with a block of these values at its end, or without one if there are none.
pub(super) fn append<'a>(rest: &str, values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines: Vec<String> = values.map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
    let lines = lines.concat();
    if lines.is_empty() {
        return rest.to_owned();
    }
    let line_break = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    format!("{rest}{line_break}{BEGIN} {NOTE}\n{lines}{END}\n")
}

/// Whether a line of the text sets the variable.
pub(super) fn assigns(text: &str, name: &str) -> bool {
    text.lines().filter_map(assignment).any(|(found, _)| found == name)
}

/// The name and the bare value of `NAME=value`, `export NAME='value'` and the like.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=')?;
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Some((name, quoted('"').or_else(|| quoted('\'')).unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &str =
        "# VAST_CPU_THREAD_CAPS_BEGIN x\nOMP_NUM_THREADS=\"4\"\nRAYON_NUM_THREADS=4\n# VAST_CPU_THREAD_CAPS_END\n";

    #[test]
    fn a_block_is_cut_out_wherever_it_stands_and_however_it_ends() {
        for (text, rest) in [
            (format!("A=1\n{BLOCK}B=2\n"), "A=1\nB=2\n"),
            (BLOCK.to_owned(), ""),
            (format!("{BLOCK}{BLOCK}"), ""),
            (
                format!("A=1\n{}", BLOCK.replace("# VAST_CPU_THREAD_CAPS_END\n", "B=2\nOMP_NUM_THREADS=3\n")),
                "A=1\nB=2\nOMP_NUM_THREADS=3\n",
            ),
            (format!("A=1\n{}", BLOCK.trim_end()), "A=1\n"),
            ("A=1".to_owned(), "A=1"),
        ] {
            let cut = cut_out(&text);
            assert_eq!(cut.rest, rest, "{text}");
            assert_eq!(cut.values.len(), if text.contains("BEGIN") { 2 } else { 0 }, "{text}");
        }
    }

    #[test]
    fn assignments_are_seen_in_their_spellings() {
        for line in
            ["OMP_NUM_THREADS=1", " export OMP_NUM_THREADS='1'", "export  OMP_NUM_THREADS=", "OMP_NUM_THREADS=\"1\""]
        {
            assert!(assigns(&format!("A=1\n{line}\n"), "OMP_NUM_THREADS"), "{line}");
        }
        for line in ["# OMP_NUM_THREADS=1", "XOMP_NUM_THREADS=1", "OMP_NUM_THREADS"] {
            assert!(!assigns(line, "OMP_NUM_THREADS"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_appended_is_cut_out_again(text in "[A-Z#=\"\n ]{0,40}") {
            let text = if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
            let with_block = append(&text, VARIABLES.into_iter().map(|name| (name, "7")));
            let cut = cut_out(&with_block);
            prop_assert_eq!(cut.rest, text);
            prop_assert_eq!(cut.values.len(), VARIABLES.len());
        }
    }
}
