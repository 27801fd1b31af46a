//! Removing a tree, in parallel and without leaving it.

use std::ffi::{CStr, OsStr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::crew::Crew;
use super::walk::{Node, Visitor, Worker, walk};
use crate::{Error, fault};

/// How often a directory that was not empty in the end is gone through again. Some filesystems leave entries out of a
/// listing while others are being removed, and an owner that was only paused may still be writing.
const ROUNDS: u32 = 8;

/// Removes what has the name in that directory, whatever it is. That nothing has it is no error.
pub(crate) fn tree(directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Error> {
    let failed = |errno| Error::io("remove", path, errno);
    let crew = Crew::new();
    for _ in 0..ROUNDS {
        match fault::call("sweep.unlink", || unlinkat(directory, name, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux says EISDIR of a directory, POSIX EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match openat(directory, name, flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let remover = Remover { path };
        walk(Node::root(root, ()), path, &crew, &remover)?;
        match fault::call("sweep.rmdir", || unlinkat(directory, name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::NOTEMPTY))
}

struct Remover<'a> {
    path: &'a Path,
}

impl Visitor for Remover<'_> {
    type State = ();

    fn enter(&self, _parent: &Node<()>, _name: &CStr, _fd: &OwnedFd) -> Result<Option<()>, Error> {
        Ok(Some(()))
    }

    fn entry(&self, directory: &Node<()>, name: &CStr, _kind: FileType, _worker: &mut Worker<'_>) -> Result<(), Error> {
        match unlinkat(&directory.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.path.join(directory.path_to(name)), errno)),
        }
    }

    fn leave(&self, directory: &Node<()>) -> Result<(), Error> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        match unlinkat(&parent.fd, directory.name(), AtFlags::REMOVEDIR) {
            // Not empty: the root will not be either, and the next round sees to it.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::io("remove", self.path.join(parent.path_to(directory.name())), errno)),
        }
    }
}
