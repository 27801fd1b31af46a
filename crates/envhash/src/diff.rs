//! What drifted between two inventories.

use std::collections::BTreeMap;
use std::fmt;

use crate::inventory::{Distribution, Inventory, Package, Venv};

/// One difference. Prints as a line: `main: torch 2.9.1 -> 2.10.0`, `apt: + libnccl2 2.26`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `system`, `apt`, the name of an environment, or `venv` for an environment as a whole.
    pub place: String,
    /// What changed: a package, `python`, a line of the release.
    pub what: String,
    /// Its version before, empty for what has none; `None` where it was not there.
    pub before: Option<String>,
    /// Its version after, with the same rule.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, before, after } = self;
        let line = match (before, after) {
            (Some(before), Some(after)) => format!("{place}: {what} {before} -> {after}"),
            (None, Some(after)) => format!("{place}: + {what} {after}"),
            (Some(before), None) => format!("{place}: - {what} {before}"),
            (None, None) => format!("{place}: {what}"),
        };
        f.write_str(line.trim_end())
    }
}

/// The differences from `before` to `after`, in the order of the components.
///
/// Empty for two inventories of one hash, save that the order of environments counts for the hash and is reported as such.
#[must_use]
pub fn diff(before: &Inventory, after: &Inventory) -> Vec<Change> {
    let mut changes = Vec::new();
    let facts = |inventory: &Inventory| {
        let system = &inventory.system;
        let release = system.release.iter().map(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.to_owned(), value.to_owned())
        });
        let platform = [("platform", &system.platform), ("machine", &system.machine)];
        let platform = platform.map(|(key, value)| (key.to_owned(), value.clone()));
        platform.into_iter().chain(release).collect::<Vec<_>>()
    };
    compare("system", facts(before), facts(after), &mut changes);
    let packages = |inventory: &Inventory| inventory.apt.packages.iter().map(named_package).collect();
    compare("apt", packages(before), packages(after), &mut changes);
    for venv in &before.venvs {
        if !after.venvs.iter().any(|other| other.name == venv.name) {
            changes.push(whole(venv, true));
        }
    }
    for venv in &after.venvs {
        match before.venvs.iter().find(|other| other.name == venv.name) {
            Some(other) => compare(&venv.name, contents(other), contents(venv), &mut changes),
            None => changes.push(whole(venv, false)),
        }
    }
    changes
}

fn whole(venv: &Venv, gone: bool) -> Change {
    let there = Some(String::new());
    let (before, after) = if gone { (there, None) } else { (None, there) };
    Change { place: "venv".into(), what: venv.name.clone(), before, after }
}

fn contents(venv: &Venv) -> Vec<(String, String)> {
    let python = venv.interpreter.iter().map(|interpreter| ("python".to_owned(), interpreter.version.clone()));
    python.chain(venv.packages.iter().map(named_distribution)).collect()
}

fn named_package(package: &Package) -> (String, String) {
    (package.name.clone(), package.version.clone())
}

fn named_distribution(distribution: &Distribution) -> (String, String) {
    let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "None".into());
    (text(&distribution.name), text(&distribution.version))
}

/// Compares two lists of names and versions. A name that is there once on both sides changed its version; of a name
/// that is there several times, the versions come and go one by one.
fn compare(place: &str, before: Vec<(String, String)>, after: Vec<(String, String)>, changes: &mut Vec<Change>) {
    let mut names: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (name, version) in before {
        names.entry(name).or_default().0.push(version);
    }
    for (name, version) in after {
        let (old, new) = names.entry(name).or_default();
        match old.iter().position(|there| *there == version) {
            Some(at) => drop(old.swap_remove(at)),
            None => new.push(version),
        }
    }
    for (what, (old, new)) in names {
        let change = |before, after| Change { place: place.to_owned(), what: what.clone(), before, after };
        let pairs = old.len().min(new.len());
        let (mut old, mut new) = (old.into_iter(), new.into_iter());
        changes.extend(old.by_ref().zip(new.by_ref()).take(pairs).map(|(old, new)| change(Some(old), Some(new))));
        changes.extend(old.map(|old| change(Some(old), None)));
        changes.extend(new.map(|new| change(None, Some(new))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Apt, Interpreter, System};

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
}
