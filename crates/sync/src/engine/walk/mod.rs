//! A parallel walk over a tree, in bounded memory, that cannot be led out of it.
//!
//! Every directory is opened by name from its parent's descriptor and without following a link, so replacing a
//! directory by a link while the walk is under way leads nowhere. Work waits in a stack of at most [`QUEUE`] jobs; a
//! worker that finds it full does the job itself, depth first. So memory and open files depend on the depth of a tree
//! and not on its size, whether it is wide, deep or one directory with a million files.
//!
//! What is done with the entries is a [`Visitor`]: counting, copying, comparing, removing.

mod node;
mod pool;
mod visit;

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;

use super::crew::Crew;
use super::large::Large;
use crate::Error;

pub(crate) use node::Node;

/// What is done on a walk. Called from several threads at once.
pub(crate) trait Visitor: Sync {
    /// What the visitor keeps of a directory while the walk is in it.
    type State: Send + Sync;

    /// The walk is about to enter a directory, opened as `fd`. `None`: it does not.
    fn enter(&self, parent: &Node<Self::State>, name: &CStr, fd: &OwnedFd) -> Result<Option<Self::State>, Error>;

    /// An entry that is no directory.
    fn entry(
        &self,
        directory: &Node<Self::State>,
        name: &CStr,
        kind: FileType,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>;

    /// Does a part of what a visit left in [`Worker::large`]; `false` when there is none left to take. Called by as many
    /// workers as are free, each until it hears so.
    fn part(&self, _large: &Large, _worker: &mut Worker<'_>) -> Result<bool, Error> {
        Ok(false)
    }

    /// All entries of the directory, and everything below, were visited.
    fn leave(&self, directory: &Node<Self::State>) -> Result<(), Error>;
}

/// What a worker brings to a visit.
pub(crate) struct Worker<'a> {
    /// Has whatever the last visit left in it.
    pub(crate) buffer: Vec<u8>,
    /// How much content it has moved; whoever wants to know sets it to zero before.
    pub(crate) moved_bytes: u64,
    /// A file too large for one: what a visit leaves here is done in parts, by whoever is free.
    pub(crate) large: Option<Large>,
    stopped: &'a AtomicBool,
}

impl<'a> Worker<'a> {
    /// One who works alone, outside a walk.
    pub(crate) fn alone() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Worker::new(&NEVER)
    }

    fn new(stopped: &'a AtomicBool) -> Self {
        Self { buffer: Vec::new(), moved_bytes: 0, large: None, stopped }
    }

    /// Whether the walk has failed elsewhere, so that a long visit may as well be abandoned. What it returns is not looked
    /// at any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Visits everything below `root`, whose path is used in messages alone. The first failure ends the walk.
pub(crate) fn walk<V: Visitor>(root: Node<V::State>, path: &Path, crew: &Crew, visitor: &V) -> Result<(), Error> {
    pool::run(root, path, crew, visitor)
}

#[cfg(test)]
mod tests;
