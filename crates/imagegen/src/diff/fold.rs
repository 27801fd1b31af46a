//! Changes of files as somebody can read them: a directory that came or went as a whole is one line, and so are the files of a
//! package whose change is told elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Kind;
use super::files::{Aspect, FileChange};
use super::packages::{Owner, Owners, PackageChange};

/// One line of a list of changed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// One path.
    Path(&'a FileChange),
    /// A directory that came or went with all that is below it.
    Directory {
        /// The directory, or the deepest one below it that holds all of it.
        path: PathBuf,
        /// Whether it came or went.
        kind: Kind,
        /// What is in it.
        count: Count,
    },
    /// Files of a package that differs.
    Package {
        /// That package; none: dpkg's records of all Debian packages that differ.
        package: Option<&'a PackageChange>,
        /// What became of its files.
        count: Count,
    },
}

/// What a line stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Paths that came; directories do not count where they are not empty.
    pub added: usize,
    /// Paths that went.
    pub removed: usize,
    /// Paths that are another.
    pub changed: usize,
    /// The sizes of the files before, in bytes.
    pub before_bytes: u64,
    /// The sizes of the files after, in bytes.
    pub after_bytes: u64,
}

impl Count {
    fn add(&mut self, change: &FileChange) {
        let (before, after) = change.bytes();
        self.before_bytes = self.before_bytes.saturating_add(before);
        self.after_bytes = self.after_bytes.saturating_add(after);
        match change.kind {
            Kind::Added => self.added += 1,
            Kind::Removed => self.removed += 1,
            Kind::Changed => self.changed += 1,
        }
    }
}

impl Line<'_> {
    /// What of it should be shown first when there is not room for all: what is more than content, then what is large.
    #[must_use]
    pub fn weight(&self) -> (bool, u64) {
        match self {
            Self::Path(change) => {
                let (before, after) = change.bytes();
                let rare = change.aspects.iter().any(|aspect| !matches!(aspect, Aspect::Content | Aspect::Time));
                (rare, before.max(after))
            }
            Self::Directory { count, .. } | Self::Package { count, .. } => {
                (false, count.before_bytes.max(count.after_bytes))
            }
        }
    }

    /// How many paths it stands for.
    #[must_use]
    pub fn paths(&self) -> usize {
        match self {
            Self::Path(_) => 1,
            Self::Directory { count, .. } | Self::Package { count, .. } => count.added + count.removed + count.changed,
        }
    }
}

/// Folds changes, which are in the order of their paths. Packages come last.
#[must_use]
pub fn fold<'a>(changes: &'a [FileChange], packages: &'a [PackageChange]) -> Vec<Line<'a>> {
    let known = Owners::of(packages);
    let mut by_owner: BTreeMap<Owner, Vec<&FileChange>> = BTreeMap::new();
    let mut rest = Vec::new();
    for change in changes {
        match known.owner(&change.path) {
            Some(owner) => by_owner.entry(owner).or_default().push(change),
            None => rest.push(change),
        }
    }
    let mut lines = Vec::new();
    let mut left = rest.as_slice();
    while let [first, others @ ..] = left {
        let whole = first.kind != Kind::Changed && first.is_directory() && !first.path.as_os_str().is_empty();
        let below = others.iter().take_while(|change| whole && change.path.starts_with(&first.path)).count();
        lines.push(if whole { directory(&left[..=below]) } else { Line::Path(first) });
        left = &others[below..];
    }
    lines.extend(by_owner.into_iter().map(|(owner, changes)| {
        let mut count = Count::default();
        contents(&changes).for_each(|change| count.add(change));
        let package = match owner {
            Owner::Distribution(number) => packages.get(number),
            Owner::DebianRecords => None,
        };
        Line::Package { package, count }
    }));
    lines
}

/// A directory that came or went, and all changes below it.
fn directory<'a>(changes: &[&'a FileChange]) -> Line<'a> {
    let mut count = Count::default();
    let mut common: Option<PathBuf> = None;
    let mut last = changes[0];
    for change in contents(changes) {
        count.add(change);
        let here = if change.is_directory() { Some(change.path.as_path()) } else { change.path.parent() };
        let here = here.unwrap_or(Path::new(""));
        common = Some(common.map_or_else(|| here.to_owned(), |common| shared(&common, here)));
        last = change;
    }
    if count.added + count.removed == 1 {
        return Line::Path(last);
    }
    Line::Directory { path: common.unwrap_or_default(), kind: changes[0].kind, count }
}

/// The changes that are more than ways to others: all but directories, which came or went, above others of the list.
fn contents<'a>(changes: &[&'a FileChange]) -> impl Iterator<Item = &'a FileChange> {
    changes.iter().enumerate().filter_map(|(number, change)| {
        let leads = changes.get(number + 1).is_some_and(|next| next.path.starts_with(&change.path));
        (!(change.is_directory() && change.kind != Kind::Changed && leads)).then_some(*change)
    })
}

/// The directory that both paths are in or are.
fn shared(one: &Path, other: &Path) -> PathBuf {
    one.iter().zip(other.iter()).take_while(|(a, b)| a == b).map(|(part, _)| part).collect()
}
