//! What `stat` says, in the units and types the engine works with.

use rustix::fs::{FileType, Mode, Stat, Timespec, Timestamps};

/// Reads a [`Stat`], whose fields have other types on each architecture.
pub(crate) trait Facts {
    fn kind(&self) -> FileType;
    /// The permissions with the set-user-ID, set-group-ID and sticky bits.
    fn mode(&self) -> Mode;
    /// The size in bytes; zero for what has none.
    fn bytes(&self) -> u64;
    /// What the file takes on its filesystem, in bytes: less than its size when it has holes or is compressed.
    fn allocated_bytes(&self) -> u64;
    /// Whether the file has other names, here or elsewhere.
    fn is_linked(&self) -> bool;
    /// How many names the file has, here and elsewhere; at least one.
    fn names(&self) -> u64;
    /// Which inode it is.
    fn id(&self) -> (u64, u64);
    fn times(&self) -> Timestamps;
    /// When the content was changed last, in nanoseconds since 1970.
    fn modified_ns(&self) -> i128;
}

impl Facts for Stat {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.st_mode)
    }

    fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.st_mode & 0o7777)
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.st_size).unwrap_or(0)
    }

    fn allocated_bytes(&self) -> u64 {
        u64::try_from(self.st_blocks).unwrap_or(0).saturating_mul(512)
    }

    fn is_linked(&self) -> bool {
        self.st_nlink > 1 && self.kind() != FileType::Directory
    }

    #[allow(clippy::useless_conversion, reason = "the field is narrower on some architectures")]
    fn names(&self) -> u64 {
        u64::from(self.st_nlink).max(1)
    }

    fn id(&self) -> (u64, u64) {
        (self.st_dev, self.st_ino)
    }

    fn times(&self) -> Timestamps {
        let time =
            |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) };
        Timestamps {
            last_access: time(self.st_atime, self.st_atime_nsec),
            last_modification: time(self.st_mtime, self.st_mtime_nsec),
        }
    }

    #[allow(clippy::useless_conversion, reason = "the field is narrower on some architectures")]
    fn modified_ns(&self) -> i128 {
        i128::from(self.st_mtime) * 1_000_000_000 + i128::from(self.st_mtime_nsec)
    }
}
