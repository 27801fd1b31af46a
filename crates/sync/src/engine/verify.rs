//! Comparing a copy with its source.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, pread};

use super::crew::Crew;
use super::facts::Facts;
use super::metadata::{self, Object};
use super::notes::{Lack, Notes};
use super::walk::{Node, Visitor, Worker, walk};
use super::{DIRECTORY, Opened, Place, c_name};
use crate::Error;
use crate::volume::listing;

/// How many differences are told apart; more are only counted.
const TOLD_MOST: usize = 100;

/// What is read of each file at a time, in bytes.
const BUFFER_BYTES: usize = 128 * 1024;

/// How closely a copy is compared with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names, kinds, sizes, owners, permissions, attributes, modification times, and where links lead.
    Facts,
    /// All that, and every byte of content.
    Content,
}

/// A difference between a source and its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the root of both; empty for the root itself.
    pub path: PathBuf,
    /// In what they differ: `size`, `content`, `missing`, `not in the source`, ….
    pub what: &'static str,
}

/// The differences of two trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// How many there are.
    pub count: u64,
    /// The first of them, in no particular order.
    pub first: Vec<Difference>,
}

/// Compares a copy with its source. What the target is known to lack, by the notes, is no difference; neither is anything
/// beyond the source if the two were merged.
pub(crate) fn compare(
    from: Place<'_>,
    to: Place<'_>,
    depth: Depth,
    merged: bool,
    notes: &Notes<'_>,
) -> Result<Differences, Error> {
    let source = Opened::at(from)?;
    let comparer = Comparer { from: from.path, to: to.path, depth, merged, notes, found: Mutex::default() };
    let sides = Sides { source: from.directory, target: to.directory };
    match source.directory {
        None => {
            let names = [c_name(from.name), c_name(to.name)];
            comparer.entry(sides, [&names[0], &names[1]], Path::new(""), source.stat.kind(), &mut Worker::alone())?;
        }
        Some(directory) => {
            let target = openat(to.directory, to.name, DIRECTORY, Mode::empty());
            match target {
                Ok(target) => {
                    walk(Node::root(directory, target), from.path, &Crew::new(), &comparer)?;
                }
                Err(errno) => comparer.differ_or_fail(Path::new(""), errno)?,
            }
        }
    }
    Ok(comparer.found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Clone, Copy)]
struct Sides<'a> {
    source: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
}

struct Comparer<'a> {
    from: &'a Path,
    to: &'a Path,
    depth: Depth,
    merged: bool,
    notes: &'a Notes<'a>,
    found: Mutex<Differences>,
}

impl Comparer<'_> {
    fn differ(&self, path: &Path, what: &'static str) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.count += 1;
        if found.first.len() < TOLD_MOST {
            found.first.push(Difference { path: path.to_owned(), what });
        }
    }

    /// What keeps an entry of the target from being opened is a difference, or a failure.
    fn differ_or_fail(&self, path: &Path, errno: Errno) -> Result<(), Error> {
        match errno {
            Errno::NOENT => self.differ(path, "missing"),
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => self.differ(path, "kind"),
            errno => return Err(Error::io("read", self.to.join(path), errno)),
        }
        Ok(())
    }

    /// Compares an entry that is no directory, under its names in source and target.
    fn entry(
        &self,
        sides: Sides<'_>,
        names: [&CStr; 2],
        path: &Path,
        kind: FileType,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error> {
        if kind == FileType::Socket {
            return Ok(());
        }
        let from_error = |errno| Error::io("read", self.from.join(path), errno);
        let stat = statat(sides.source, names[0], AtFlags::SYMLINK_NOFOLLOW).map_err(from_error)?;
        let copy = match statat(sides.target, names[1], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(copy) => copy,
            Err(Errno::NOENT) if is_special(kind) && self.notes.lacks(Lack::SpecialFiles) => return Ok(()),
            Err(errno) => return self.differ_or_fail(path, errno),
        };
        let objects = [Object::Named(sides.source, names[0]), Object::Named(sides.target, names[1])];
        if !self.facts(&stat, &copy, objects, path)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile if self.depth == Depth::Content => self.content(sides, names, path, worker),
            FileType::Symlink => {
                let leads_to = |directory, name| readlinkat(directory, name, Vec::new());
                let target = leads_to(sides.target, names[1]).map_err(|e| Error::io("read", self.to.join(path), e))?;
                if leads_to(sides.source, names[0]).map_err(from_error)? != target {
                    self.differ(path, "where the link leads");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Compares all but content; whether it is worth while to go on.
    fn facts(&self, stat: &Stat, copy: &Stat, objects: [Object<'_>; 2], path: &Path) -> Result<bool, Error> {
        let kind = stat.kind();
        if copy.kind() != kind {
            self.differ(path, "kind");
            return Ok(false);
        }
        let mut same = true;
        let mut check = |is_same: bool, what| {
            if !is_same {
                self.differ(path, what);
                same = false;
            }
        };
        let kept = |lack| !self.notes.lacks(lack);
        if kind == FileType::RegularFile {
            check(copy.bytes() == stat.bytes(), "size");
        }
        if is_special(kind) {
            check(copy.st_rdev == stat.st_rdev, "device");
        }
        if kept(Lack::Ownership) {
            check((copy.st_uid, copy.st_gid) == (stat.st_uid, stat.st_gid), "owner");
        }
        if kept(Lack::Modes) && kind != FileType::Symlink {
            check(copy.mode() == stat.mode(), "permissions");
        }
        if kept(Lack::Times) {
            let tolerance = if kept(Lack::FineTimes) { 0 } else { metadata::COARSE_TIME_NS };
            check(copy.modified_ns().abs_diff(stat.modified_ns()) <= tolerance, "modification time");
        }
        if [Lack::Attributes, Lack::PrivilegedAttributes, Lack::LargeAttributes].into_iter().all(kept) {
            let failed = |errno| Error::io("read the attributes of", self.to.join(path), errno);
            check(attributes(objects[0]).map_err(failed)? == attributes(objects[1]).map_err(failed)?, "attributes");
        }
        Ok(same)
    }

    fn content(&self, sides: Sides<'_>, names: [&CStr; 2], path: &Path, worker: &mut Worker<'_>) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from_error = |errno| Error::io("read", self.from.join(path), errno);
        let to_error = |errno| Error::io("read", self.to.join(path), errno);
        let source = openat(sides.source, names[0], flags, Mode::empty()).map_err(from_error)?;
        let target = match openat(sides.target, names[1], flags, Mode::empty()) {
            Ok(target) => target,
            Err(errno) => return self.differ_or_fail(path, errno),
        };
        if worker.buffer.len() != 2 * BUFFER_BYTES {
            worker.buffer = vec![0; 2 * BUFFER_BYTES];
        }
        let mut position = 0;
        while !worker.is_stopped() {
            let (one, other) = worker.buffer.split_at_mut(BUFFER_BYTES);
            let read = fill(&source, one, position).map_err(from_error)?;
            let copied = fill(&target, other, position).map_err(to_error)?;
            if one[..read] != other[..copied] {
                self.differ(path, "content");
                break;
            }
            if read < BUFFER_BYTES {
                break;
            }
            position += read as u64;
        }
        Ok(())
    }

    /// Tells what the target has and the source has not.
    fn extras(&self, node: &Node<OwnedFd>) -> Result<(), Error> {
        let path = node.path_to(c"");
        let failed = |errno| Error::io("list", self.to.join(&path), errno);
        listing::each(&node.state, |name| {
            if statat(&node.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|errno| errno == Errno::NOENT) {
                self.differ(&path.join(OsStr::from_bytes(name.to_bytes())), "not in the source");
            }
            true
        })
        .map_err(failed)
    }
}

impl Visitor for Comparer<'_> {
    /// The directory in the target.
    type State = OwnedFd;

    fn enter(&self, parent: &Node<OwnedFd>, name: &CStr, _fd: &OwnedFd) -> Result<Option<OwnedFd>, Error> {
        match openat(&parent.state, name, DIRECTORY, Mode::empty()) {
            Ok(target) => Ok(Some(target)),
            Err(errno) => self.differ_or_fail(&parent.path_to(name), errno).map(|()| None),
        }
    }

    fn entry(&self, node: &Node<OwnedFd>, name: &CStr, kind: FileType, worker: &mut Worker<'_>) -> Result<(), Error> {
        let sides = Sides { source: node.fd.as_fd(), target: node.state.as_fd() };
        Comparer::entry(self, sides, [name, name], &node.path_to(name), kind, worker)
    }

    fn leave(&self, node: &Node<OwnedFd>) -> Result<(), Error> {
        let path = node.path_to(c"");
        let stat = fstat(&node.fd).map_err(|errno| Error::io("read", self.from.join(&path), errno))?;
        let copy = fstat(&node.state).map_err(|errno| Error::io("read", self.to.join(&path), errno))?;
        if self.merged {
            return Ok(());
        }
        self.facts(&stat, &copy, [Object::Open(node.fd.as_fd()), Object::Open(node.state.as_fd())], &path)?;
        self.extras(node)
    }
}

fn is_special(kind: FileType) -> bool {
    !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory)
}

fn attributes(of: Object<'_>) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let mut attributes = Vec::new();
    for name in metadata::attributes(of)? {
        match of.attribute(&name) {
            Ok(value) => attributes.push((OsStr::from_bytes(name.to_bytes()).to_owned(), value)),
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(attributes)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &OwnedFd, buffer: &mut [u8], position: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}
