//! What drifted between two inventories.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inventory::{Distribution, Inventory, Venv};

/// One difference. Prints as a line: `main: torch 2.9.1 -> 2.10.0`, `apt: + libnccl2 2.26`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `system`, `apt`, the name of an environment, or `venv` for an environment as a whole.
    pub place: String,
    /// What changed: a package, `python`, a line of the release.
    pub what: String,
    /// Its version before, empty for what has none; `None` where it was not there.
    pub before: Option<String>,
    /// Its version after, with the same rule.
    pub after: Option<String>,
    /// How its name is spelled afterwards, where that changed: indexes take `typing-extensions` and `Typing_Extensions` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
}

/// What a [`Change`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is there with another version.
    Changed,
    /// It was not there.
    Added,
    /// It is no more there.
    Removed,
}

impl Change {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(_), Some(_)) => ChangeKind::Changed,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, before, after, renamed } = self;
        // Folded metadata gives values of several lines; a change is one.
        let flat = |text: &str| printable(&text.replace(['\n', '\r'], " ")).into_owned();
        let value = |text: &Option<String>| flat(text.as_deref().unwrap_or_default());
        let (what, before, after) = (flat(what), value(before), value(after));
        let place = flat(place);
        let renamed = renamed.as_deref().map(flat);
        let line = match (self.kind(), renamed) {
            (ChangeKind::Added, _) => format!("{place}: + {what} {after}"),
            (ChangeKind::Removed, _) => format!("{place}: - {what} {before}"),
            (ChangeKind::Changed, Some(name)) => format!("{place}: {what} {before} -> {name} {after}"),
            (ChangeKind::Changed, None) => format!("{place}: {what} {before} -> {after}"),
        };
        f.write_str(line.trim_end())
    }
}

/// A text with what a terminal would act on shown as escapes: control characters but the newline, and marks that change
/// the direction of text. Names of packages are whatever their metadata says.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let acts =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The differences from `before` to `after`, in the order of the components; none where the hash and the names of the
/// environments, which it does not know, are the same.
#[must_use]
pub fn diff(before: &Inventory, after: &Inventory) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("system", facts(before), facts(after), &mut changes);
    compare("apt", packages(before), packages(after), &mut changes);
    for venv in &before.venvs {
        if !after.venvs.iter().any(|other| other.name == venv.name) {
            changes.push(whole(venv, ChangeKind::Removed));
        }
    }
    for venv in &after.venvs {
        match before.venvs.iter().find(|other| other.name == venv.name) {
            Some(other) => compare(&place(venv), contents(other), contents(venv), &mut changes),
            None => changes.push(whole(venv, ChangeKind::Added)),
        }
    }
    changes
}

/// The differences between two lists of distributions in one `place`, in the order of their names.
#[must_use]
pub fn diff_distributions(place: &str, before: &[Distribution], after: &[Distribution]) -> Vec<Change> {
    let mut changes = Vec::new();
    let facts = |list: &[Distribution]| list.iter().map(distribution).collect();
    compare(place, facts(before), facts(after), &mut changes);
    changes
}

/// Something with a version.
struct Fact {
    /// What it is known by: facts of one key are one thing.
    key: String,
    name: String,
    version: String,
}

impl Fact {
    fn named(name: &str, version: &str) -> Self {
        Self { key: name.to_owned(), name: name.to_owned(), version: version.to_owned() }
    }
}

fn facts(inventory: &Inventory) -> Vec<Fact> {
    let system = &inventory.system;
    let platform = [("platform", &system.platform), ("machine", &system.machine)];
    let release = system.release.iter().map(|line| line.split_once('=').unwrap_or((line, "")));
    platform
        .map(|(name, value)| Fact::named(name, value))
        .into_iter()
        .chain(release.map(|(name, value)| Fact::named(name, value)))
        .collect()
}

fn packages(inventory: &Inventory) -> Vec<Fact> {
    inventory.apt.packages.iter().map(|package| Fact::named(&package.name, &package.version)).collect()
}

fn contents(venv: &Venv) -> Vec<Fact> {
    // A key that no distribution has: there is one called `python`.
    let python = |version: &str| Fact { key: String::new(), ..Fact::named("python", version) };
    let interpreter = venv.interpreter.iter().map(|interpreter| python(&interpreter.version));
    // Without an interpreter nothing else counts.
    interpreter.chain(venv.packages.iter().filter(|_| venv.interpreter.is_some()).map(distribution)).collect()
}

fn distribution(distribution: &Distribution) -> Fact {
    let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "None".into());
    let name = text(&distribution.name);
    Fact { key: format!("={}", normalised(&name)), name, version: text(&distribution.version) }
}

/// A name as indexes compare it: without case, and with runs of `-`, `_` and `.` as one `-`
/// (<https://packaging.python.org/en/latest/specifications/name-normalization/>).
#[must_use]
pub fn normalised(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if !matches!(c, '-' | '_' | '.') {
            normal.extend(c.to_lowercase());
        } else if !normal.ends_with('-') {
            normal.push('-');
        }
    }
    normal
}

/// What an environment is called in a report: it may have the name of a component.
fn place(venv: &Venv) -> String {
    if matches!(&*venv.name, "system" | "apt" | "venv") { format!("venv/{}", venv.name) } else { venv.name.clone() }
}

fn whole(venv: &Venv, kind: ChangeKind) -> Change {
    let there = Some(String::new());
    let (before, after) = if kind == ChangeKind::Removed { (there, None) } else { (None, there) };
    Change { place: "venv".into(), what: venv.name.clone(), before, after, renamed: None }
}

/// Compares two lists of facts. What is there once on both sides changed its version; of what is there several times, the
/// versions come and go one by one.
fn compare(place: &str, before: Vec<Fact>, after: Vec<Fact>, changes: &mut Vec<Change>) {
    let mut facts: BTreeMap<String, (Vec<Fact>, Vec<Fact>)> = BTreeMap::new();
    for fact in before {
        facts.entry(fact.key.clone()).or_default().0.push(fact);
    }
    for fact in after {
        let (old, new) = facts.entry(fact.key.clone()).or_default();
        match old.iter().position(|there| there.version == fact.version && there.name == fact.name) {
            Some(at) => drop(old.swap_remove(at)),
            None => new.push(fact),
        }
    }
    for (old, new) in facts.into_values() {
        let pairs = old.len().min(new.len());
        let (mut old, mut new) = (old.into_iter(), new.into_iter());
        let place = place.to_owned();
        let replaced = |(old, new): (Fact, Fact)| Change {
            place: place.clone(),
            renamed: (new.name != old.name).then_some(new.name),
            what: old.name,
            before: Some(old.version),
            after: Some(new.version),
        };
        changes.extend(old.by_ref().zip(new.by_ref()).take(pairs).map(replaced));
        let single =
            |name: String, before, after| Change { place: place.clone(), what: name, before, after, renamed: None };
        changes.extend(old.map(|old| single(old.name, Some(old.version), None)));
        changes.extend(new.map(|new| single(new.name, None, Some(new.version))));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inventory::{Apt, Interpreter, Package, System};

    /// Names and versions.
    type Versions<'a> = &'a [(&'a str, &'a str)];

    /// Release lines, Debian packages, and environments: name, Python, distributions.
    fn inventory(release: &[&str], apt: Versions<'_>, venvs: &[(&str, &str, Versions<'_>)]) -> Inventory {
        let system = System::new(
            "linux-x86_64".into(),
            "x86_64".into(),
            release.iter().map(|line| (*line).to_owned()).collect(),
        );
        let packages =
            apt.iter().map(|(name, version)| Package { name: (*name).into(), version: (*version).into() }).collect();
        let venv = |(name, version, packages): &(&str, &str, Versions<'_>)| {
            let interpreter = Interpreter { path: "/p".into(), version: (*version).into(), stated_by: "x".into() };
            let packages = packages
                .iter()
                .map(|(name, version)| Distribution { name: Some((*name).into()), version: Some((*version).into()) })
                .collect();
            Venv::new((*name).into(), Some(interpreter), packages)
        };
        Inventory::new(system, Apt::new(packages), venvs.iter().map(venv).collect(), vec![])
    }

    #[test]
    fn every_kind_of_drift_is_one_line() {
        let before = inventory(
            &["VERSION_ID=\"12\""],
            &[("libold", "1"), ("libssl3", "3.0.1")],
            &[("gone", "3.11.2", &[]), ("main", "3.12.1", &[("torch", "2.9.1"), ("twice", "1"), ("twice", "2")])],
        );
        let after = inventory(
            &["VERSION_ID=\"13\""],
            &[("libnccl2", "2.26"), ("libssl3", "3.0.2")],
            &[("main", "3.12.3", &[("torch", "2.10.0"), ("twice", "2"), ("uv", "1")]), ("new", "3.12.3", &[])],
        );
        let lines: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "system: VERSION_ID \"12\" -> \"13\"",
                "apt: + libnccl2 2.26",
                "apt: - libold 1",
                "apt: libssl3 3.0.1 -> 3.0.2",
                "venv: - gone",
                "main: python 3.12.1 -> 3.12.3",
                "main: torch 2.9.1 -> 2.10.0",
                "main: - twice 1",
                "main: + uv 1",
                "venv: + new",
            ]
        );
        assert_eq!(diff(&before, &before), []);
    }

    #[test]
    fn another_spelling_of_a_name_is_no_other_package() {
        let before = inventory(&[], &[], &[("main", "3.12.1", &[("typing-extensions", "4.1"), ("python", "1")])]);
        let after = inventory(&[], &[], &[("main", "3.12.1", &[("Typing_Extensions", "4.1"), ("python", "2")])]);
        let lines: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["main: python 1 -> 2", "main: typing-extensions 4.1 -> Typing_Extensions 4.1"]);
    }

    #[test]
    fn a_folded_value_is_one_line() {
        let before = inventory(&[], &[], &[("main", "3.12.1", &[("a", "1")])]);
        let after = inventory(&[], &[], &[("main", "3.12.1", &[("a", "1\n  2"), ("b\nc", "")])]);
        let lines: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["main: a 1 -> 1   2", "main: + b c"]);
    }

    fn environments() -> impl Strategy<Value = Vec<Venv>> {
        let name = || prop::sample::select(vec!["a", "A", "b-c", "b_c", "python"]);
        let version = || prop::sample::select(vec!["1", "2"]);
        let packages = prop::collection::vec((name(), version()), 0..4);
        let venv = (prop::sample::select(vec!["main", "other"]), prop::option::of(version()), packages);
        prop::collection::btree_map(prop::sample::select(vec![0, 1]), venv, 0..3).prop_map(|venvs| {
            let mut venvs: Vec<Venv> = venvs
                .into_values()
                .map(|(name, python, packages)| {
                    let python = python.map(|version| Interpreter {
                        path: "/p".into(),
                        version: version.into(),
                        stated_by: "x".into(),
                    });
                    let packages = packages
                        .into_iter()
                        .map(|(name, version)| Distribution { name: Some(name.into()), version: Some(version.into()) });
                    Venv::new(name.into(), python, packages.collect())
                })
                .collect();
            venvs.sort_by(|one, other| one.name.cmp(&other.name));
            venvs.dedup_by(|one, other| one.name == other.name);
            venvs
        })
    }

    proptest! {
        #[test]
        fn there_is_a_difference_exactly_where_the_environments_differ(
            before in environments(), after in environments(), releases in prop::array::uniform2(prop::sample::select(vec!["1", "2"])),
        ) {
            let inventory = |release: &str, venvs: Vec<Venv>| {
                let system = System::new("linux-x86_64".into(), "x86_64".into(), vec![format!("VERSION_ID={release}")]);
                Inventory::new(system, Apt::new(vec![]), venvs, vec![])
            };
            let names = |venvs: &[Venv]| venvs.iter().map(|venv| venv.name.clone()).collect::<Vec<_>>();
            // The hash does not know names of environments; the difference does.
            let same_names = names(&before) == names(&after);
            let (before, after) = (inventory(releases[0], before), inventory(releases[1], after));
            prop_assert_eq!(diff(&before, &after).is_empty(), before.hash == after.hash && same_names);
        }
    }
}
