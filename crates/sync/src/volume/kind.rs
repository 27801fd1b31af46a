//! What a filesystem is, as far as copying and locking are concerned.

use std::os::fd::AsFd;

use rustix::fs::{StatFs, fstat, fstatfs, major, minor};

/// Where the data of a filesystem is, and who arbitrates its locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One kernel serves everyone who has it mounted: operations take microseconds, and `flock` is exact.
    Local,
    /// A server or a cluster serves it and arbitrates `flock` too.
    Arbitrated,
    /// A server or a user program serves it; whether `flock` means anything to other instances is unknown.
    Remote,
}

impl Kind {
    /// Asks the kernel. What it does not know counts as [`Kind::Remote`], the careful answer.
    pub(crate) fn of(directory: impl AsFd) -> Self {
        let Ok(statfs) = fstatfs(&directory) else { return Self::Remote };
        let magic = magic_of(&statfs);
        match Self::of_magic(magic) {
            Some(kind) => kind,
            None if magic == NFS => nfs_kind(&directory),
            None => Self::Remote,
        }
    }

    /// Whether an operation is answered by this machine's own kernel.
    pub(crate) fn is_local(self) -> bool {
        self == Self::Local
    }

    /// Whether holding a `flock` proves that no other instance holds it.
    pub(crate) fn locks_are_shared(self) -> bool {
        self != Self::Remote
    }

    /// Whether a copy within the filesystem may share blocks with its original, and so take no room.
    pub(crate) fn shares_blocks(directory: impl AsFd) -> bool {
        fstatfs(directory).is_ok_and(|statfs| [XFS, BTRFS, BCACHEFS].contains(&magic_of(&statfs)))
    }

    /// The kinds that need no look at the mount options. The numbers are those of `statfs(2)` and `linux/magic.h`.
    fn of_magic(magic: u32) -> Option<Self> {
        const LOCAL: &[u32] = &[
            0xEF53, // ext2, ext3, ext4
            XFS,
            BTRFS,
            0x0102_1994, // tmpfs
            0x8584_58F6, // ramfs
            0x794C_7630, // overlayfs: its locks are taken on the overlay's own inodes
            0x2FC1_2FC1, // zfs
            0xF2F5_2010, // f2fs
            BCACHEFS,
            0x4D44,      // fat
            0x2011_BAB0, // exfat
        ];
        const ARBITRATED: &[u32] = &[
            0x00C3_6400, // ceph
            0x0116_1970, // gfs2
            0x7461_636F, // ocfs2
        ];
        if LOCAL.contains(&magic) {
            Some(Self::Local)
        } else if ARBITRATED.contains(&magic) {
            Some(Self::Arbitrated)
        } else {
            None
        }
    }
}

const NFS: u32 = 0x6969;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683E;
const BCACHEFS: u32 = 0xCA45_1A4E;

/// The magic number has 32 bits; the field's sign and width differ between architectures.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only the low 32 bits are defined")]
fn magic_of(statfs: &StatFs) -> u32 {
    statfs.f_type as u32
}

/// An NFS mount sends `flock` to the server unless told to keep it to itself.
fn nfs_kind(directory: impl AsFd) -> Kind {
    let Ok(stat) = fstat(directory) else { return Kind::Remote };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
    if server_arbitrates(&mounts, &device) { Kind::Arbitrated } else { Kind::Remote }
}

/// Whether the options of the NFS mount of that device (`0:52`) say that its locks go to the server.
///
/// A line of `/proc/self/mountinfo`: `98 29 0:52 / /workspace rw,relatime shared:1 - nfs4 host:/export rw,vers=4.2,local_lock=none`.
fn server_arbitrates(mountinfo: &str, device: &str) -> bool {
    let options = mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        (mount.split(' ').nth(2) == Some(device)).then(|| filesystem.split(' ').nth(2))?
    });
    options.is_some_and(|options| {
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        !has("nolock") && !has("local_lock=flock") && !has("local_lock=all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_an_nfs_mount_say_who_arbitrates() {
        let line =
            |options: &str| format!("98 29 0:52 / /workspace rw,relatime shared:1 - nfs4 host:/export {options}\n");
        for (options, arbitrated) in [
            ("rw,vers=4.2,local_lock=none", true),
            ("rw,vers=4.2", true),
            ("rw,vers=3,nolock,local_lock=none", false),
            ("rw,vers=3,local_lock=flock", false),
            ("rw,vers=3,local_lock=all", false),
            ("rw,vers=3,local_lock=posix", true),
        ] {
            assert_eq!(server_arbitrates(&line(options), "0:52"), arbitrated, "{options}");
            assert!(!server_arbitrates(&line(options), "0:53"), "an unknown device is never relied on");
        }
    }

    #[test]
    fn a_temporary_directory_is_local_and_an_unknown_filesystem_is_not_relied_on() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Kind::of(std::fs::File::open(directory.path()).unwrap()), Kind::Local);
        assert!(!Kind::Remote.locks_are_shared());
        assert_eq!(Kind::of_magic(0x6573_5546), None, "FUSE");
    }
}
