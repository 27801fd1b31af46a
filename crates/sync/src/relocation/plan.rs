//! What there is to do: a look that changes nothing.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::{Relocation, Tree};
use crate::Error;
use crate::engine::survey::Size;
use crate::engine::{self, Place};
use crate::lease::observer::{Reading, Syncing};
use crate::relink::{Found, look};

/// The block size that sizes are rounded up to while the volume was not asked, in bytes.
pub(super) const USUAL_BLOCK_BYTES: u64 = 4096;

/// What there is to do, as it was when it was looked at.
#[derive(Debug, Clone)]
#[must_use]
pub struct Plan {
    /// Every tree, in the order of their paths.
    pub trees: Vec<PlannedTree>,
    /// The shared directory, as a path of the container.
    pub directory: PathBuf,
    /// What the shared directory is like.
    pub shared: SharedState,
    /// Directories whose swap was begun by an earlier run and not completed, as paths of the container.
    pub interrupted: Vec<PathBuf>,
}

/// A directory that moves.
#[derive(Debug, Clone)]
pub struct PlannedTree {
    /// Where it is, as a path of the container.
    pub path: PathBuf,
    /// Where it is on the volume, or will be, as a path of the container.
    pub target: PathBuf,
    /// What is at `path`.
    pub state: TreeState,
    /// What it amounts to, if it is to be copied.
    pub size: Option<Size>,
}

/// What is at a tree's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeState {
    /// The link to the volume.
    Linked,
    /// The link to the volume, where the tree is not.
    Dangling,
    /// The link, and beside it the directory that it replaced.
    LinkedNotCleared,
    /// The directory.
    Directory,
}

/// What the shared directory is like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedState {
    /// It was not looked at, because nothing depends on it.
    NotAsked,
    /// It is not there.
    Missing,
    /// An instance is filling it, or has died doing so.
    Filling {
        /// What people call the instance; absent for an older image's.
        instance: Option<String>,
    },
    /// An instance gave it up unfinished.
    GivenUp,
    /// It is complete.
    Finished,
    /// It is there and nothing of this program or of older images.
    Foreign,
}

impl Plan {
    /// Whether all is as it should be already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interrupted.is_empty() && self.trees.iter().all(|tree| tree.state == TreeState::Linked)
    }
}

/// Looks at the trees, and at the volume only if one of them is not a link yet.
pub(crate) fn plan(relocation: &Relocation) -> Result<Plan, Error> {
    let interrupted = relocation.journal().read()?.into_iter().map(|intent| intent.path);
    let mut plan = Plan {
        trees: Vec::new(),
        directory: relocation.above.join(&relocation.name),
        shared: SharedState::NotAsked,
        interrupted: interrupted.collect(),
    };
    for tree in &relocation.trees {
        let Some(state) = state(relocation, tree)? else { continue };
        let target = relocation.target(tree);
        plan.trees.push(PlannedTree { path: tree.path.clone(), target, state, size: None });
    }
    if plan.trees.iter().all(|tree| tree.state != TreeState::Directory) {
        return Ok(plan);
    }
    plan.shared = SharedState::of(&relocation.shared().read()?);
    if plan.shared == SharedState::Missing || plan.shared == SharedState::GivenUp {
        for tree in plan.trees.iter_mut().filter(|tree| tree.state == TreeState::Directory) {
            tree.size = Some(measure(&relocation.here(&tree.path), USUAL_BLOCK_BYTES)?);
        }
    }
    Ok(plan)
}

impl SharedState {
    pub(crate) fn of(reading: &Reading) -> Self {
        match &reading.syncing {
            _ if !reading.exists => Self::Missing,
            _ if reading.synced => Self::Finished,
            Some(Syncing::Lease(lease)) if lease.released => Self::GivenUp,
            Some(_) => Self::Filling { instance: crate::lease::shared::owner_of(reading) },
            None if reading.populated => Self::Finished,
            None if reading.foreign => Self::Foreign,
            None => Self::Filling { instance: None },
        }
    }
}

/// What is at a tree's path; `None` if that is nothing to be moved.
pub(super) fn state(relocation: &Relocation, tree: &Tree) -> Result<Option<TreeState>, Error> {
    let here = relocation.here(&tree.path);
    let target = relocation.target(tree);
    match look(&here)? {
        Found::Directory => Ok(Some(TreeState::Directory)),
        Found::Link(to) if to == target => {
            let mut aside = OsString::from(crate::relink::ASIDE);
            aside.push(tree.path.file_name().unwrap_or_default());
            let is_there = fs::metadata(relocation.here(&target)).is_ok_and(|facts| facts.is_dir());
            Ok(Some(match here.with_file_name(aside).symlink_metadata() {
                _ if !is_there => TreeState::Dangling,
                Ok(_) => TreeState::LinkedNotCleared,
                Err(_) => TreeState::Linked,
            }))
        }
        _ => Ok(None),
    }
}

/// Counts a tree of this machine.
pub(super) fn measure(path: &Path, block_bytes: u64) -> Result<Size, Error> {
    let (above, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(above, flags, Mode::empty()).map_err(|errno| Error::io("open", above, errno))?;
    engine::measure(Place { directory: directory.as_fd(), name, path }, block_bytes)
}
