//! Durability: what was written survives the machine.

use std::os::fd::AsFd;

use rustix::fs::{fsync, syncfs};
use rustix::io::Errno;

use crate::fault;

/// Writes out everything of the filesystem that the descriptor is on: one call for a whole tree.
///
/// Since Linux 5.8 it also reports that an earlier background write failed, of any file, provided the descriptor was
/// opened before.
pub(crate) fn filesystem(fd: impl AsFd) -> Result<(), Errno> {
    match fault::call("flush.syncfs", || syncfs(&fd)) {
        Err(Errno::NOSYS) => fsync(&fd),
        result => result,
    }
}

/// Writes out one file: cheaper than the filesystem on a machine whose other tenants write too.
pub(crate) fn file(fd: impl AsFd) -> Result<(), Errno> {
    match fault::call("flush.fsync", || fsync(&fd)) {
        // A filesystem without a disk behind it may refuse.
        Err(Errno::INVAL | Errno::ROFS | Errno::NOSYS) => Ok(()),
        result => result,
    }
}
