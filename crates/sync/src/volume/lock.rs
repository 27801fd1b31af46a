//! An advisory lock on an item, as deployed images take it: `flock` on a file that stays.
//!
//! The file is never removed: whoever waits on a removed file holds a lock that nobody else can see. It lies in a
//! directory that users write to, so it is opened without following a link, and anything but a regular file counts as no
//! lock at all.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;

use crate::fault;

/// The answer to asking for a lock.
#[derive(Debug)]
pub(crate) enum Lock {
    /// This process has it until the value is dropped, which closes the file.
    Held(#[allow(dead_code, reason = "it is held, not used")] OwnedFd),
    /// Another process has it.
    Busy,
    /// There is no such thing as a lock here, or not with this file.
    Unusable(io::Error),
}

/// How often a lock file that is replaced while it is being locked is tried anew.
const REPLACED_RETRIES: u32 = 8;

/// Takes the lock of that file in that directory if nobody has it; does not wait.
pub(crate) fn try_lock(directory: BorrowedFd<'_>, name: &OsStr) -> Lock {
    for _ in 0..REPLACED_RETRIES {
        let file = match open(directory, name) {
            Ok(file) => file,
            Err(error) => return Lock::Unusable(error),
        };
        match fault::call("lock.flock", || flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Lock::Busy,
            Err(Errno::INTR) => continue,
            Err(refused) => return Lock::Unusable(refused.into()),
        }
        if is_still(directory, name, &file) {
            return Lock::Held(file);
        }
    }
    Lock::Unusable(io::Error::other("the lock file is being replaced all the time"))
}

fn open(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    // NONBLOCK: a FIFO in its place must not stop the boot. Writable: an exclusive lock on NFS asks for it.
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = match openat(directory, name, flags | OFlags::RDWR, mode) {
        Err(Errno::ACCESS | Errno::PERM) => openat(directory, name, flags | OFlags::RDONLY, mode)?,
        file => file?,
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Whether the name still leads to the file that was locked: someone may have removed it between opening and locking.
fn is_still(directory: BorrowedFd<'_>, name: &OsStr, file: &OwnedFd) -> bool {
    let (Ok(locked), Ok(named)) = (fstat(file), statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)) else {
        return false;
    };
    (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    fn directory() -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        (directory, file)
    }

    #[test]
    fn a_lock_is_held_once_and_its_file_stays() {
        let (directory, fd) = directory();
        let name = OsStr::new(".sync_app.lock");
        let Lock::Held(held) = try_lock(fd.as_fd(), name) else { panic!("nobody has it") };
        assert!(matches!(try_lock(fd.as_fd(), name), Lock::Busy));
        drop(held);
        assert!(directory.path().join(name).exists());
        assert!(matches!(try_lock(fd.as_fd(), name), Lock::Held(_)));
    }

    #[test]
    fn what_is_no_regular_file_is_no_lock_and_is_left_alone() {
        let (directory, fd) = directory();
        fs::write(directory.path().join("user"), "theirs").unwrap();
        symlink("user", directory.path().join("link")).unwrap();
        symlink("nowhere", directory.path().join("dangling")).unwrap();
        fs::create_dir(directory.path().join("dir")).unwrap();
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        for name in ["link", "dangling", "dir", "fifo"] {
            assert!(matches!(try_lock(fd.as_fd(), OsStr::new(name)), Lock::Unusable(_)), "{name}");
        }
        assert!(!directory.path().join("nowhere").exists());
        assert_eq!(fs::read(directory.path().join("user")).unwrap(), b"theirs");
    }

    #[test]
    fn a_removed_file_is_not_taken_for_the_lock() {
        let (directory, fd) = directory();
        let name = OsStr::new("lock");
        let old = open(fd.as_fd(), name).unwrap();
        assert!(is_still(fd.as_fd(), name, &old));
        fs::remove_file(directory.path().join(name)).unwrap();
        assert!(!is_still(fd.as_fd(), name, &old));
        let _new = open(fd.as_fd(), name).unwrap();
        assert!(!is_still(fd.as_fd(), name, &old));
    }
}
