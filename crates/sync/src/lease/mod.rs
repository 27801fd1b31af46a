//! Filling a directory on a shared volume by exactly one instance, whichever of them dies.
//!
//! Deployed images agree on this: `mkdir` of the directory is the lock, its owner creates `.syncing`, fills, creates
//! `.synced` and removes `.syncing`; the others wait for `.synced`. Nothing in that tells a slow owner from a dead one, so
//! here `.syncing` holds a [lease](text), and an [observer] who does not see its counter move for a minute, by its own
//! monotonic clock, [takes over](shared). Clocks, process numbers and locks of other instances count for nothing.
//!
//! An owner may only have been paused. What it publishes comes out of its own `.staging.<owner>` by a rename, and whoever
//! takes over renames that directory away first: a paused owner's next rename finds nothing to rename. The same holds for
//! a taker, whose lease comes out of its `.takeover.<number>`. So what one has checked before each such rename cannot
//! become wrong between the check and the rename.
//!
//! `.syncing` is never absent while the directory is incomplete, because without it older images take a populated one for
//! finished. An owner that fails says so in its lease, and the next instance takes over at once.

pub(crate) mod hold;
pub(crate) mod observer;
pub(crate) mod shared;
pub(crate) mod text;

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, write};

use crate::engine::remove;
use crate::staging::owner::Owner;
use crate::volume::{flush, listing};
use crate::{Error, fault};
use text::Lease;

pub(crate) const SYNCING: &str = ".syncing";
pub(crate) const SYNCED: &str = ".synced";
pub(crate) const STAGING: &str = ".staging.";
pub(crate) const TAKEOVER: &str = ".takeover.";
/// What someone has begun to remove; anyone may go on with it.
pub(crate) const DEAD: &str = ".dead.";
/// A directory that is about to become the shared one, beside it.
pub(crate) const CLAIM: &str = ".claim.";

/// A lease has a few lines. What is larger is none.
const LEASE_MOST_BYTES: usize = 4096;

/// Makes a small file that is not there.
const SMALL_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Writes a lease and makes it durable: after a power failure an empty file would read as an older image's mark.
fn write_lease(directory: impl AsFd, name: &Path, lease: &Lease) -> Result<OwnedFd, Errno> {
    let file = fault::call("lease.create", || openat(&directory, name, SMALL_FILE, Mode::from_raw_mode(0o644)))?;
    let text = lease.to_text();
    if write(&file, text.as_bytes())? != text.len() {
        return Err(Errno::NOSPC);
    }
    flush::file(&file)?;
    Ok(file)
}

/// Reads a small file through a new descriptor: a network filesystem looks at the server then. `None` if there is none.
fn read_small(directory: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        // A link or a pipe: something, and nothing to be read.
        Err(Errno::LOOP | Errno::NXIO) => return Ok(Some(String::new())),
        Err(errno) => return Err(errno),
    };
    let mut buffer = vec![0; LEASE_MOST_BYTES];
    match pread(&file, &mut buffer[..], 0) {
        Ok(read) => Ok(Some(String::from_utf8_lossy(&buffer[..read]).into_owned())),
        Err(Errno::ISDIR | Errno::INVAL) => Ok(Some(String::new())),
        Err(Errno::STALE) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Renames what belongs to other owners out of their reach. Returns the first failure, having tried all.
///
/// Whoever holds the lease may do that to everyone else's staging, and to takeovers below its own.
fn fence(directory: impl AsFd, path: &Path, me: &Owner, belongs: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut failure = None;
    let names = listing::names(&directory, usize::MAX).map_err(|errno| Error::io("list", path, errno))?.names;
    for name in names {
        if !name.to_str().is_some_and(&belongs) {
            continue;
        }
        let mut dead = OsStr::new(DEAD).to_owned();
        dead.push(me.to_string());
        dead.push(&name);
        let renamed = fault::call("takeover.fence", || rustix::fs::renameat(&directory, &*name, &directory, &*dead));
        match renamed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                failure.get_or_insert(Error::io("take away", path.join(&name), errno));
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Removes what has been taken away from its owners, and marks of takeovers that are over.
fn clear(directory: impl AsFd, path: &Path, also: impl Fn(&str) -> bool) -> Result<(), Error> {
    let names = listing::names(&directory, usize::MAX).map_err(|errno| Error::io("list", path, errno))?.names;
    for name in names {
        if name.to_str().is_some_and(|name| name.starts_with(DEAD) || also(name)) {
            remove::tree(directory.as_fd(), &name, &path.join(&name))?;
        }
    }
    Ok(())
}
