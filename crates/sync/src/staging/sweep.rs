//! Clearing away what dead owners left.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::beat::{self, DEAD_AFTER};
use super::names::{Companion, Family, Partial, Stem};
use super::owner::{Life, Owner};
use crate::engine::remove;
use crate::volume::listing;
use crate::{Error, fault};

/// What the sweeper may conclude from the item's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It holds the lock, and the filesystem's locks are exact: nobody else who lives is at this item.
    Exclusive,
    /// It holds no lock, or one that may mean nothing to other instances.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Remove,
    Keep,
    /// Nothing is known of the owner: only time tells.
    Watch,
}

/// The rules of [the module above](super).
fn judge(companion: Option<Companion>, life: Life, claim: Claim) -> Verdict {
    // Nobody publishes what was taken away once.
    if companion == Some(Companion::Dead) {
        return Verdict::Remove;
    }
    match (life, claim) {
        (Life::Alive, _) => Verdict::Keep,
        (Life::Dead, _) | (Life::Unknown, Claim::Exclusive) => Verdict::Remove,
        (Life::Unknown, Claim::Shared) => Verdict::Watch,
    }
}

/// The unpublished copies in a directory, by item.
pub(crate) fn leftovers<'a>(family: Family, names: impl Iterator<Item = &'a OsStr>) -> BTreeMap<Stem, Vec<OsString>> {
    let mut found: BTreeMap<Stem, Vec<OsString>> = BTreeMap::new();
    for name in names {
        if let Some(partial) = Partial::parse(family, name) {
            found.entry(partial.stem).or_default().push(name.to_owned());
        }
    }
    found
}

/// Owners of whom nothing is known, and what their signs of life were when they were first looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    family: Family,
    since: Instant,
    beats: Vec<(OsString, Option<u64>)>,
}

impl Watched {
    /// How many copies that is.
    pub(crate) fn copies(&self) -> u64 {
        self.beats.iter().map(|(name, _)| u64::from(is_copy(self.family, name))).sum()
    }
}

fn is_copy(family: Family, name: &OsStr) -> bool {
    Partial::parse(family, name).is_some_and(|partial| partial.companion.is_none())
}

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// How many were removed.
    pub(crate) removed: u64,
    /// What could not be removed, and why.
    pub(crate) failures: Vec<Error>,
}

/// The leftovers of one item in one directory.
pub(crate) struct Sweeper<'a> {
    pub(crate) family: Family,
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) path: &'a Path,
    pub(crate) stem: &'a Stem,
    pub(crate) me: &'a Owner,
}

impl Sweeper<'_> {
    /// Removes what the dead left, and returns those of whom nothing is known.
    pub(crate) fn sweep(&self, claim: Claim, swept: &mut Swept) -> Result<Watched, Error> {
        let mut beats = Vec::new();
        let names = listing::names(self.directory, usize::MAX).map_err(|errno| Error::io("list", self.path, errno))?;
        for name in &names.names {
            let Some(partial) = Partial::parse(self.family, name) else { continue };
            if partial.stem != *self.stem {
                continue;
            }
            let life = partial.owner.as_ref().map_or(Life::Unknown, Owner::life);
            match judge(partial.companion, life, claim) {
                Verdict::Keep => {}
                Verdict::Remove => self.remove(name, partial.companion, swept),
                // The copy decides for its companions; they are removed with it.
                Verdict::Watch => beats.push((name.clone(), self.beat_of(&partial))),
            }
        }
        Ok(Watched { family: self.family, since: Instant::now(), beats })
    }

    /// Removes those who have not given a sign of life since they were first looked at, if that was long enough ago.
    /// Returns how many copies are left.
    pub(crate) fn revisit(&self, watched: &Watched, swept: &mut Swept) -> u64 {
        self.revisit_after(watched.since.elapsed(), watched, swept)
    }

    fn revisit_after(&self, elapsed: Duration, watched: &Watched, swept: &mut Swept) -> u64 {
        // First all are judged, then some removed: a copy is judged by a sign of life that is removed with it.
        let mut dead = Vec::new();
        let mut left = 0;
        for (name, before) in &watched.beats {
            let Some(partial) = Partial::parse(self.family, name) else { continue };
            if statat(self.directory, &**name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                continue;
            }
            if elapsed >= DEAD_AFTER && self.beat_of(&partial) == *before {
                dead.push((name, partial.companion));
            } else {
                left += u64::from(partial.companion.is_none());
            }
        }
        for (name, companion) in dead {
            self.remove(name, companion, swept);
        }
        left
    }

    fn beat_of(&self, partial: &Partial) -> Option<u64> {
        beat::read(self.directory.as_fd(), &Companion::Beat.of(&partial.name))
    }

    fn remove(&self, name: &OsStr, companion: Option<Companion>, swept: &mut Swept) {
        match self.take(name, companion).and_then(|taken| self.remove_tree(&taken)) {
            Ok(()) => swept.removed += u64::from(companion.is_none()),
            Err(error) => swept.failures.push(error),
        }
    }

    /// Takes a copy away from its owner in one step: should that one be alive after all, it finds its copy gone, not half
    /// of it. Returns the name it has now.
    fn take(&self, name: &OsStr, companion: Option<Companion>) -> Result<OsString, Error> {
        if companion.is_some() {
            return Ok(name.to_owned());
        }
        let mut taken = name.to_owned();
        taken.push(format!(".{}", self.me.random()));
        let taken = Companion::Dead.of(&taken);
        let renamed = fault::call("sweep.rename", || {
            match renameat_with(self.directory, name, self.directory, &*taken, RenameFlags::NOREPLACE) {
                // The name has this attempt's own random part: nothing is there to be replaced.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    renameat(self.directory, name, self.directory, &*taken)
                }
                renamed => renamed,
            }
        });
        match renamed {
            // Its owner published it, or someone else sweeps too.
            Ok(()) | Err(Errno::NOENT) => Ok(taken),
            Err(errno) => Err(Error::io("take away", self.path.join(name), errno)),
        }
    }

    fn remove_tree(&self, name: &OsStr) -> Result<(), Error> {
        remove::tree(self.directory, name, &self.path.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn only_the_dead_are_swept() {
        use Claim::{Exclusive, Shared};
        use Life::{Alive, Dead, Unknown};
        for (companion, life, claim, verdict) in [
            (None, Alive, Shared, Verdict::Keep),
            (None, Alive, Exclusive, Verdict::Keep),
            (None, Dead, Shared, Verdict::Remove),
            (None, Dead, Exclusive, Verdict::Remove),
            (None, Unknown, Exclusive, Verdict::Remove),
            (None, Unknown, Shared, Verdict::Watch),
            (Some(Companion::Beat), Unknown, Shared, Verdict::Watch),
            (Some(Companion::Scratch), Alive, Exclusive, Verdict::Keep),
            (Some(Companion::Dead), Unknown, Shared, Verdict::Remove),
            (Some(Companion::Dead), Alive, Shared, Verdict::Remove),
        ] {
            assert_eq!(judge(companion, life, claim), verdict, "{companion:?} {life:?} {claim:?}");
        }
    }

    /// A directory with an unpublished copy of an owner elsewhere, and a sweeper for it.
    fn with_sweeper(test: impl FnOnce(&Path, &Path, &Sweeper<'_>)) {
        let root = tempfile::tempdir().unwrap();
        let directory = File::open(root.path()).unwrap();
        let (stem, me) = (Stem::of(OsStr::new("app")), Owner::new());
        let elsewhere: Owner = "00000000-1-1-00000000".parse().unwrap();
        let partial = root.path().join(stem.partial(Family::Sync, &elsewhere));
        fs::create_dir_all(partial.join("inside")).unwrap();
        fs::write(partial.join("inside/file"), "half").unwrap();
        fs::write(root.path().join(Companion::Beat.of(partial.file_name().unwrap())), 7_u64.to_be_bytes()).unwrap();
        fs::write(root.path().join(".sync_app.lock"), "").unwrap();
        fs::create_dir(root.path().join(".sync_other.partial.00000000-1-1-00000000")).unwrap();
        let family = Family::Sync;
        let sweeper = Sweeper { family, directory: directory.as_fd(), path: root.path(), stem: &stem, me: &me };
        test(root.path(), &partial, &sweeper);
        assert!(root.path().join(".sync_app.lock").exists(), "locks stay");
        assert!(root.path().join(".sync_other.partial.00000000-1-1-00000000").exists(), "another item's are not ours");
    }

    fn names(root: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn whoever_holds_an_exact_lock_owns_all_copies_of_the_item() {
        with_sweeper(|root, _, sweeper| {
            let mut swept = Swept::default();
            let watched = sweeper.sweep(Claim::Exclusive, &mut swept).unwrap();
            assert_eq!((swept.removed, swept.failures.len(), watched.beats.len()), (1, 0, 0));
            assert_eq!(names(root), [".sync_app.lock", ".sync_other.partial.00000000-1-1-00000000"]);
        });
    }

    #[test]
    fn without_locks_only_a_silent_owner_is_held_for_dead() {
        with_sweeper(|root, partial, sweeper| {
            let mut swept = Swept::default();
            let watched = sweeper.sweep(Claim::Shared, &mut swept).unwrap();
            assert_eq!(sweeper.revisit_after(DEAD_AFTER / 2, &watched, &mut swept), 1, "too early to tell");
            let beat = root.join(Companion::Beat.of(partial.file_name().unwrap()));
            fs::write(&beat, 8_u64.to_be_bytes()).unwrap();
            assert_eq!(sweeper.revisit_after(DEAD_AFTER, &watched, &mut swept), 1, "it is alive");
            assert!(partial.join("inside/file").exists());
            fs::write(&beat, 7_u64.to_be_bytes()).unwrap();
            assert_eq!(sweeper.revisit_after(DEAD_AFTER, &watched, &mut swept), 0);
            assert_eq!((swept.removed, swept.failures.len()), (1, 0));
            assert_eq!(names(root), [".sync_app.lock", ".sync_other.partial.00000000-1-1-00000000"]);
        });
    }
}
