//! What new entries of a tree are like before anything is set: a look at the first of a kind does for all.
//!
//! On a volume with a millisecond for each operation the look is one of seven that a small file costs. Entries of one kind
//! that are created with the same permissions are alike, because every directory that they are created in was made by
//! the copy: it passes on the group and the access lists that the root of the tree inherited, and its own come last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

use super::facts::Facts;

/// What an entry was born with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Born {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) mode: Mode,
    /// Whether it is the first of its kind, from which the others are known.
    pub(crate) is_first: bool,
}

impl Born {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { user: stat.st_uid, group: stat.st_gid, mode: stat.mode(), is_first: true }
    }
}

/// What has been seen. Trees have a handful of kinds and permissions.
#[derive(Debug, Default)]
pub(crate) struct Births {
    seen: RwLock<Vec<(FileType, Mode, Born)>>,
    /// Whether an entry was looked at whose time a coarse target would not keep.
    fine_time_seen: AtomicBool,
}

impl Births {
    /// What an entry of that kind, created with that mode, is like; by a look at it if it is the first.
    pub(crate) fn of(
        &self,
        kind: FileType,
        mode: Mode,
        look: impl FnOnce() -> Result<Stat, Errno>,
    ) -> Result<Born, Errno> {
        let known = |seen: &[(FileType, Mode, Born)]| {
            seen.iter()
                .find(|(one, with, _)| (*one, *with) == (kind, mode))
                .map(|(.., born)| Born { is_first: false, ..*born })
        };
        if let Some(born) = known(&self.seen.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(born);
        }
        let born = Born::of(&look()?);
        self.seen.write().unwrap_or_else(PoisonError::into_inner).push((kind, mode, born));
        Ok(born)
    }

    /// Whether a finished entry is worth a second look, for what the target did not keep and did not refuse either.
    pub(crate) fn deserves_look(&self, stat: &Stat, born: Born) -> bool {
        let is_fine = stat.modified_ns() % 2_000_000_000 != 0;
        let is_first_fine = is_fine
            && !self.fine_time_seen.load(Ordering::Relaxed)
            && !self.fine_time_seen.swap(true, Ordering::Relaxed);
        stat.kind() != FileType::Symlink && (born.is_first || is_first_fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_does_for_all_that_are_created_alike() {
        let births = Births::default();
        let file = tempfile::tempfile().unwrap();
        let look = || rustix::fs::fstat(&file);
        let mode = Mode::from_raw_mode(0o600);
        let born = births.of(FileType::RegularFile, mode, look).unwrap();
        assert_eq!(born, Born::of(&look().unwrap()));
        assert_eq!(births.of(FileType::RegularFile, mode, || Err(Errno::IO)), Ok(Born { is_first: false, ..born }));
        for (kind, mode) in [(FileType::Symlink, mode), (FileType::RegularFile, Mode::from_raw_mode(0o644))] {
            assert_eq!(births.of(kind, mode, || Err(Errno::IO)), Err(Errno::IO));
        }
    }
}
