//! What the kernel knows of the volume: inodes it has looked up, and files it has open.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// An inode, held open by its path alone so that renaming and removing it do not matter.
#[derive(Debug)]
struct Node {
    fd: OwnedFd,
    lookups: u64,
}

/// The inodes that the kernel has looked up, by its numbers: those of the directory behind, but for the root.
#[derive(Debug)]
pub(super) struct Nodes {
    root: u64,
    known: Mutex<HashMap<u64, Node>>,
}

impl Nodes {
    pub(super) fn new(behind: &Path) -> io::Result<Self> {
        let fd = hold(behind)?;
        let root = attributes_of(&path_of(&fd))?.0;
        let known = Mutex::new(HashMap::from([(INodeNo::ROOT.0, Node { fd, lookups: 1 })]));
        Ok(Self { root, known })
    }

    /// A path to an inode that works for as long as the kernel knows it.
    pub(super) fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        let known = lock(&self.known);
        let node = known.get(&inode.0).ok_or_else(|| io::Error::from(rustix::io::Errno::STALE))?;
        Ok(path_of(&node.fd))
    }

    /// A path to an entry of a directory.
    pub(super) fn child(&self, directory: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(directory)?.join(name))
    }

    /// What an inode is like.
    pub(super) fn attributes(&self, inode: INodeNo) -> io::Result<FileAttr> {
        let (_, attributes) = attributes_of(&self.path(inode)?)?;
        Ok(FileAttr { ino: inode, ..attributes })
    }

    /// Looks up an entry of a directory, which the kernel then knows once more.
    pub(super) fn look_up(&self, directory: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let fd = hold(&self.child(directory, name)?)?;
        let (inode, mut attributes) = attributes_of(&path_of(&fd))?;
        let inode = if inode == self.root { INodeNo::ROOT.0 } else { inode };
        attributes.ino = INodeNo(inode);
        lock(&self.known).entry(inode).or_insert(Node { fd, lookups: 0 }).lookups += 1;
        Ok(attributes)
    }

    pub(super) fn forget(&self, inode: INodeNo, lookups: u64) {
        let mut known = lock(&self.known);
        if let Some(node) = known.get_mut(&inode.0) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 {
                known.remove(&inode.0);
            }
        }
    }
}

fn hold(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The number and the attributes of what is held open under a path in `/proc`.
fn attributes_of(held: &Path) -> io::Result<(u64, FileAttr)> {
    // The path is a link to what is held, which is not followed further even if it is a link itself.
    let facts = std::fs::metadata(held)?;
    let time = |seconds: i64, nanoseconds: i64| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
        base + Duration::from_nanos(nanoseconds.unsigned_abs())
    };
    let attributes = FileAttr {
        ino: INodeNo(facts.ino()),
        size: facts.size(),
        blocks: facts.blocks(),
        atime: time(facts.atime(), facts.atime_nsec()),
        mtime: time(facts.mtime(), facts.mtime_nsec()),
        ctime: time(facts.ctime(), facts.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(facts.file_type()).ok_or_else(|| io::Error::other("of no known kind"))?,
        perm: u16::try_from(facts.mode() & 0o7777).unwrap_or(0),
        nlink: u32::try_from(facts.nlink()).unwrap_or(u32::MAX),
        uid: facts.uid(),
        gid: facts.gid(),
        rdev: u32::try_from(facts.rdev()).unwrap_or(0),
        blksize: 4096,
        flags: 0,
    };
    Ok((facts.ino(), attributes))
}

/// The files that the kernel has open.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: Mutex<(u64, HashMap<u64, Arc<File>>)>,
}

impl Files {
    pub(super) fn add(&self, file: File) -> u64 {
        let mut open = lock(&self.open);
        open.0 += 1;
        let number = open.0;
        open.1.insert(number, Arc::new(file));
        number
    }

    pub(super) fn get(&self, number: u64) -> io::Result<Arc<File>> {
        lock(&self.open).1.get(&number).cloned().ok_or_else(|| io::Error::from(rustix::io::Errno::BADF))
    }

    pub(super) fn remove(&self, number: u64) {
        lock(&self.open).1.remove(&number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
