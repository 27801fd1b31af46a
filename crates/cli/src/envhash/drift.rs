//! What drifted, for people: one sentence that sums up, one line a change.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use vast_envhash::{Change, ChangeKind, EnvHash};

/// The lines of the changes, each coloured by its kind; whoever prints them takes the colours out where they do not belong.
pub(super) fn lines(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let style = style(change.kind());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{style}{change}{style:#}");
    }
    text
}

/// `2 changed, 1 added, 3 removed`; `no difference` without any.
pub(super) fn summary(changes: &[Change]) -> String {
    let count = |kind| changes.iter().filter(|change| change.kind() == kind).count();
    let kinds = [(ChangeKind::Changed, "changed"), (ChangeKind::Added, "added"), (ChangeKind::Removed, "removed")];
    let parts: Vec<String> = kinds
        .into_iter()
        .map(|(kind, word)| (count(kind), word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    if parts.is_empty() { "no difference".into() } else { parts.join(", ") }
}

/// The comparison of two environments as JSON; `changes` is null where only the hashes are known.
pub(super) fn report(equal: bool, before: EnvHash, after: EnvHash, changes: Option<&[Change]>) -> Value {
    json!({ "equal": equal, "before": before, "after": after, "changes": changes })
}

fn style(kind: ChangeKind) -> Style {
    let colour = match kind {
        ChangeKind::Changed => AnsiColor::Yellow,
        ChangeKind::Added => AnsiColor::Green,
        ChangeKind::Removed => AnsiColor::Red,
    };
    Style::new().fg_color(Some(colour.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: Option<&str>, after: Option<&str>) -> Change {
        Change {
            place: "main".into(),
            what: "torch".into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            renamed: None,
        }
    }

    #[test]
    fn the_summary_counts_what_there_is() {
        let (changed, added, removed) =
            (change(Some("1"), Some("2")), change(None, Some("1")), change(Some("1"), None));
        assert_eq!(summary(&[]), "no difference");
        assert_eq!(summary(std::slice::from_ref(&added)), "1 added");
        assert_eq!(summary(&[changed.clone(), removed, changed, added]), "2 changed, 1 added, 1 removed");
    }

    #[test]
    fn a_line_is_the_change_in_a_colour() {
        let text = lines(&[change(None, Some("2.9.1"))]);
        assert_eq!(text, "\u{1b}[32mmain: + torch 2.9.1\u{1b}[0m\n");
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "main: + torch 2.9.1\n");
    }
}
