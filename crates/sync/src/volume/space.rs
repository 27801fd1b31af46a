//! Room: what a filesystem has left.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

use crate::engine::survey::Size;
use crate::{Error, Resource};

/// What a filesystem has left. `None` where it does not say: some user-space filesystems report zeroes for everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that an unprivileged writer may still use.
    pub(crate) bytes: Option<u64>,
    /// Files and directories that may still be made.
    pub(crate) inodes: Option<u64>,
    /// What a file's size is rounded up to, in bytes.
    pub(crate) block_bytes: u64,
    /// Whether it is mounted read-only.
    pub(crate) read_only: bool,
}

impl Room {
    /// Asks the filesystem of an open file or directory.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let statvfs = fstatvfs(fd)?;
        Ok(Self {
            bytes: (statvfs.f_blocks > 0).then(|| statvfs.f_bavail.saturating_mul(statvfs.f_frsize)),
            inodes: (statvfs.f_files > 0).then_some(statvfs.f_favail),
            block_bytes: statvfs.f_frsize.max(1),
            read_only: statvfs.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// Fails when the room is known and less than what is needed.
    pub(crate) fn check(&self, path: &Path, bytes: u64, inodes: u64) -> Result<(), Error> {
        let short = |resource, needed, available: Option<u64>| match available {
            Some(available) if available < needed => {
                Err(Error::NoSpace { path: path.to_owned(), resource, needed, available, source: None })
            }
            _ => Ok(()),
        };
        short(Resource::Bytes, bytes, self.bytes)?;
        short(Resource::Inodes, inodes, self.inodes)
    }
}

/// Whether an error says that a volume or a quota is full.
pub(crate) fn is_full(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::DQUOT)
}

/// Says what ran out on the filesystem of `fd`, when a write of `path` was refused for lack of room for a tree.
pub(crate) fn full(fd: impl AsFd, path: &Path, tree: &Size, errno: Errno) -> Error {
    let room = Room::of(fd).unwrap_or_default();
    let (resource, needed, available) = if room.inodes == Some(0) {
        (Resource::Inodes, tree.inodes, 0)
    } else {
        let available = room.bytes.unwrap_or(0);
        // There would be room for it if holes took none: so they do.
        let with_holes = if tree.allocated_bytes > available { 0 } else { tree.bytes };
        (Resource::Bytes, tree.allocated_bytes.max(with_holes), available)
    };
    let source = Some(io::Error::from(errno));
    Error::NoSpace { path: path.to_owned(), resource, needed, available, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_room_refuses() {
        let room = |bytes, inodes| Room { bytes, inodes, block_bytes: 4096, read_only: false };
        let path = Path::new("/workspace");
        assert!(room(Some(10), Some(2)).check(path, 10, 2).is_ok());
        assert!(room(None, None).check(path, u64::MAX, u64::MAX).is_ok());
        assert_eq!(
            room(Some(9), None).check(path, 10, 2).unwrap_err().to_string(),
            "no room for `/workspace`: 10 bytes needed, 9 available"
        );
        assert_eq!(
            room(Some(10), Some(1)).check(path, 10, 2).unwrap_err().to_string(),
            "no room for `/workspace`: 2 inodes needed, 1 available"
        );
    }
}
