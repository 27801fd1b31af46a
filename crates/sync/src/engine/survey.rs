//! Counting a tree before it is copied: what the copy needs, and whether the target can give it.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use super::crew::Crew;
use super::facts::Facts;
use super::walk::{Node, Visitor, Worker, walk};
use crate::Error;

/// How many inodes with several names are told apart. Beyond it, a name counts for its share of the file.
const LINKED_MOST: usize = 1 << 17;

/// What a tree amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Content of regular files, in bytes, each inode once. Holes count.
    pub bytes: u64,
    /// What the content takes on a target with holes, rounded up to the target's blocks, in bytes.
    pub allocated_bytes: u64,
    /// Entries of any kind, the root included.
    pub entries: u64,
    /// Inodes: entries, less further names of the same file.
    pub inodes: u64,
    /// Symbolic links.
    pub symlinks: u64,
}

/// Counts what is at a place already looked at: `stat` is its own, `fd` the directory itself if it is one.
pub(crate) fn survey(stat: &Stat, fd: Option<OwnedFd>, path: &Path, block_bytes: u64) -> Result<Size, Error> {
    let counter = Counter::new(path, block_bytes);
    counter.count(stat);
    if let Some(fd) = fd {
        walk(Node::root(fd, ()), path, &Crew::new(), &counter)?;
    }
    Ok(counter.size())
}

struct Counter<'a> {
    block_bytes: u64,
    path: &'a Path,
    bytes: AtomicU64,
    allocated_bytes: AtomicU64,
    entries: AtomicU64,
    inodes: AtomicU64,
    symlinks: AtomicU64,
    linked: Mutex<HashSet<(u64, u64)>>,
}

impl<'a> Counter<'a> {
    fn new(path: &'a Path, block_bytes: u64) -> Self {
        Self {
            block_bytes,
            path,
            bytes: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            symlinks: AtomicU64::new(0),
            linked: Mutex::default(),
        }
    }

    fn count(&self, stat: &Stat) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.entries, 1);
        let names = if stat.is_linked() { self.names_of(stat) } else { 1 };
        if names == 0 {
            return;
        }
        add(&self.inodes, 1);
        match stat.kind() {
            FileType::RegularFile => {
                let whole = stat.bytes().div_ceil(self.block_bytes).saturating_mul(self.block_bytes);
                add(&self.bytes, stat.bytes() / names);
                add(&self.allocated_bytes, whole.min(stat.allocated_bytes().max(stored_inline(stat))) / names);
            }
            FileType::Directory => {
                add(&self.allocated_bytes, self.block_bytes);
            }
            FileType::Symlink => {
                add(&self.symlinks, 1);
            }
            _ => {}
        }
    }

    /// By how many names the file's content is to be divided: zero when it was counted already.
    fn names_of(&self, stat: &Stat) -> u64 {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if linked.contains(&stat.id()) {
            0
        } else if linked.len() < LINKED_MOST {
            linked.insert(stat.id());
            1
        } else {
            stat.names()
        }
    }

    fn size(&self) -> Size {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Size {
            bytes: get(&self.bytes),
            allocated_bytes: get(&self.allocated_bytes),
            entries: get(&self.entries),
            inodes: get(&self.inodes),
            symlinks: get(&self.symlinks),
        }
    }
}

/// A file that takes no blocks though it has content is stored in its inode; elsewhere it may take a block.
fn stored_inline(stat: &Stat) -> u64 {
    if stat.st_blocks == 0 { stat.bytes().min(4096) } else { 0 }
}

impl Visitor for Counter<'_> {
    type State = ();

    fn enter(&self, parent: &Node<()>, name: &CStr, fd: &OwnedFd) -> Result<Option<()>, Error> {
        let stat = fstat(fd).map_err(|errno| Error::io("read", self.path.join(parent.path_to(name)), errno))?;
        self.count(&stat);
        Ok(Some(()))
    }

    fn entry(&self, directory: &Node<()>, name: &CStr, _kind: FileType, _worker: &mut Worker<'_>) -> Result<(), Error> {
        let stat = statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::io("read", self.path.join(directory.path_to(name)), errno))?;
        self.count(&stat);
        Ok(())
    }

    fn leave(&self, _directory: &Node<()>) -> Result<(), Error> {
        Ok(())
    }
}
