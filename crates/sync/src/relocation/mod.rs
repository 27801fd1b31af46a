//! Moving directories of the container onto a volume, once for all instances, and leaving links.
//!
//! What environments and homes have in common:
//!
//! 1. Swaps that an earlier run did not complete are completed.
//! 2. One instance fills the [shared directory](crate::lease), each tree staged and renamed into place; the others wait.
//! 3. Each instance replaces its own directories by links, one after the other.
//!
//! An instance whose directories are links already looks at nothing else.

mod apply;
mod plan;
mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::lease::observer::Timing;
use crate::lease::shared::Shared;
use crate::relink::{Journal, Place};

pub use plan::{Plan, PlannedTree, SharedState, TreeState};
pub use report::{Outcome, Report, Role, TreeReport};

pub(crate) use apply::{apply, is_candidate, recover, undo};
pub(crate) use plan::plan;

/// A directory that moves.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Where it is, as a path of the container.
    pub(crate) path: PathBuf,
    /// Where it goes, seen from the shared directory.
    pub(crate) to: PathBuf,
    /// Entries of it that are not copied.
    pub(crate) leave_out: Vec<OsString>,
    /// The entry of it that is removed last.
    pub(crate) keep_last: Option<OsString>,
}

/// What moves where.
#[derive(Debug, Clone)]
pub(crate) struct Relocation {
    /// What stands for the container's `/` here.
    pub(crate) root: PathBuf,
    /// `$WORKSPACE`, as a path of the container.
    pub(crate) workspace: PathBuf,
    /// The directory above the shared one: the workspace or a directory of it.
    pub(crate) above: PathBuf,
    /// The name of the shared directory.
    pub(crate) name: String,
    /// The subdirectory by whose entries an older image's finished tree is known.
    pub(crate) sign: &'static str,
    pub(crate) trees: Vec<Tree>,
    /// What people call this instance.
    pub(crate) instance: String,
    pub(crate) timing: Timing,
}

impl Relocation {
    /// What a tree's link leads to, as a path of the container.
    pub(crate) fn target(&self, tree: &Tree) -> PathBuf {
        self.above.join(&self.name).join(&tree.to)
    }

    /// Where a path of the container is on this machine.
    pub(crate) fn here(&self, path: &Path) -> PathBuf {
        on_host(&self.root, path)
    }

    pub(crate) fn shared(&self) -> Shared {
        Shared {
            parent: self.here(&self.above),
            name: self.name.clone(),
            sign: self.sign,
            timing: self.timing,
            instance: self.instance.clone(),
        }
    }

    fn journal(&self) -> Journal {
        Journal::of(&self.root)
    }

    fn place<'a>(&'a self, tree: &'a Tree, target: &'a Path) -> Place<'a> {
        Place { root: &self.root, path: &tree.path, target, keep_last: tree.keep_last.as_deref() }
    }

    /// Whether paths of the container are those of this machine, so that links can be followed.
    fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// How a link is called that is made and removed to see whether the volume can hold links.
pub(crate) const PROBE: &str = ".vast-sync-probe.";

/// Where a path of the container is on this machine.
pub(crate) fn on_host(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What is particular to a kind of tree. Paths called `at`, `staged` and `published` are those of this machine.
pub(crate) trait Manner: Sync {
    /// What the copy of a tree needs besides what was copied, before it is published.
    fn stage(&self, _tree: &Tree, _staged: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// What has to be so before a link takes the tree's place.
    fn before_link(&self, _tree: &Tree, _published: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the tree can be used where it is.
    fn works(&self, tree: &Tree, at: &Path) -> Result<(), String>;
}
