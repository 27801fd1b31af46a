//! Which changes between two bases concern what an image's own layers write or delete.
//!
//! A path is in conflict when the bases differ in it, time stamps aside, and the image's own layers make it something else
//! than it is in the new base: then either the fix is lost or the image is. Where both come to the same (a file that both
//! deleted, or both changed alike) there is nothing to lose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::View;
use crate::layer::{Kind, LayerError, LayerIndex, NodeKind, Resolved, Tree, Whiteout, whiteout};

/// What the new base did with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is there and was not.
    Added,
    /// It is another file, link or directory, or has another owner, mode or attribute.
    Changed,
    /// It was there and is not.
    Removed,
    /// Names lead elsewhere than they did: a part of the path is now a link, or none any more.
    Moved,
}

/// Applies the own layers to both bases, side by side: what the new base did to each path that is in conflict.
pub(super) fn compare(
    old: &View<'_>,
    image: &View<'_>,
    new: &View<'_>,
    own: &[Arc<LayerIndex>],
) -> BTreeMap<PathBuf, Change> {
    let mut walk = Walk {
        old,
        image,
        new,
        before: old.tree.clone(),
        after: new.tree.clone(),
        own: BTreeSet::new(),
        conflicts: BTreeMap::new(),
    };
    for (number, index) in own.iter().enumerate() {
        walk.layer(number, index);
    }
    walk.conflicts
}

struct Walk<'a> {
    old: &'a View<'a>,
    image: &'a View<'a>,
    new: &'a View<'a>,
    /// The image so far on the old base, and on the new one.
    before: Tree,
    after: Tree,
    /// What the own layers have written so far.
    own: BTreeSet<PathBuf>,
    conflicts: BTreeMap<PathBuf, Change>,
}

impl Walk<'_> {
    fn layer(&mut self, number: usize, index: &LayerIndex) {
        for entry in &index.entries {
            match whiteout(&entry.path) {
                Some(Whiteout::Path(path)) => {
                    if let Some(path) = self.place(&path) {
                        self.check(&path);
                        self.check_below(&path);
                    }
                }
                Some(Whiteout::Opaque(directory)) => {
                    if let Some(directory) = self.place(&directory) {
                        self.check_below(&directory);
                    }
                }
                Some(Whiteout::Other) => {}
                None => {
                    let Some(path) = self.place(&entry.path) else { continue };
                    self.check(&path);
                    if entry.kind != Kind::Directory {
                        // Whatever was below it is gone.
                        self.check_below(&path);
                    }
                    if let Kind::Hardlink { target } = &entry.kind
                        && let Some(target) = self.place(target)
                        && !self.own.contains(&target)
                    {
                        self.check_read(&target);
                    }
                    self.own.insert(path);
                }
            }
        }
        let layer = self.old.layers + number;
        // On the old base it was an image; what does not fit the new one is found by where it fails.
        let fits = self.before.apply(layer, index).and_then(|()| self.after.apply(self.new.layers + number, index));
        if let Err(LayerError::Unsafe { path, .. }) = fits {
            self.conflicts.entry(path).or_insert(Change::Moved);
        }
    }

    /// Where a name leads, which must be the same on both bases; the parents too must be what they were.
    fn place(&mut self, path: &Path) -> Option<PathBuf> {
        let (Resolved::Path(before), after) = (self.before.resolve(path, false), self.after.resolve(path, false))
        else {
            return None;
        };
        if after != Resolved::Path(before.clone()) {
            let changed = path.ancestors().skip(1).find(|part| {
                let (was, is) = (self.before.get(part), self.after.get(part));
                was.map(|node| &node.kind) != is.map(|node| &node.kind)
                    && [was, is].iter().flatten().any(|node| node.kind != NodeKind::Directory)
            });
            self.conflicts.entry(changed.unwrap_or(path).to_owned()).or_insert(Change::Moved);
            return None;
        }
        let parents: Vec<PathBuf> = before.ancestors().skip(1).map(Path::to_owned).collect();
        for parent in parents {
            let gone = self.before.is_directory(&parent) && !self.after.is_directory(&parent);
            if gone && !self.own.contains(&parent) {
                self.conflicts.entry(parent).or_insert(Change::Removed);
            }
        }
        Some(before)
    }

    fn check(&mut self, path: &Path) {
        let Some(change) = self.change(path) else { return };
        if !self.image.same(path, self.new) {
            self.conflicts.insert(path.to_owned(), change);
        }
    }

    /// A path that is read, not written: any change of it counts.
    fn check_read(&mut self, path: &Path) {
        if let Some(change) = self.change(path) {
            self.conflicts.insert(path.to_owned(), change);
        }
    }

    fn check_below(&mut self, path: &Path) {
        let below: BTreeSet<PathBuf> =
            self.old.tree.below(path).chain(self.new.tree.below(path)).map(|(below, _)| below).collect();
        for path in below {
            self.check(&path);
        }
    }

    fn change(&self, path: &Path) -> Option<Change> {
        // The hash of the environment follows the environment, and is taken care of with it.
        if path == Path::new(".env_hash") || self.old.same(path, self.new) {
            return None;
        }
        Some(match (self.old.tree.get(path), self.new.tree.get(path)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        })
    }
}
