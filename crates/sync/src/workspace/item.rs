//! One item: its lock, its copy, its publication.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::plan::is_there;
use super::{Options, Outcome, Report, Size};
use crate::engine::notes::Notes;
use crate::engine::{self, Copied, Manner, Place, remove};
use crate::staging::beat::Beat;
use crate::staging::names::{Companion, Family, Stem};
use crate::staging::owner::Owner;
use crate::staging::sweep::{Claim, Sweeper, Swept, Watched};
use crate::volume::kind::Kind;
use crate::volume::lock::{Lock, try_lock};
use crate::volume::publish::{Name, Published, publish};
use crate::{Error, Progress};

/// How often an item is begun anew when another instance, which could not know better, took the copy away.
const ATTEMPTS: u32 = 3;

/// How long to wait for an item that another instance is at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    None,
    UpTo(Duration),
}

/// An item that is to be copied.
pub(super) struct Copying<'a> {
    pub(super) name: &'a OsStr,
    pub(super) size: Size,
    pub(super) source: BorrowedFd<'a>,
    pub(super) workspace: BorrowedFd<'a>,
    pub(super) kind: Kind,
    pub(super) options: &'a Options,
    pub(super) progress: &'a dyn Progress,
}

/// What came of one attempt.
enum End {
    Published(Copied),
    /// Something has the name.
    Taken,
}

impl Copying<'_> {
    /// Takes the item's lock and publishes it. `None`: another instance is at it, for longer than there is patience.
    pub(super) fn run(&self, patience: Patience, report: &mut Report, swept: &mut Swept) -> Option<Outcome> {
        // The lock is held until the item is published.
        let (lock, claim) = match self.lock(patience) {
            Ok(Some((lock, claim))) => (lock, claim),
            Ok(None) => return None,
            Err(error) => return Some(Outcome::Failed(Arc::new(error))),
        };
        if let Lock::Unusable(refused) = &lock {
            let name = self.name.display();
            let text =
                format!("no lock for `{name}` ({refused}): another instance may copy it too, and one publishes it");
            self.progress.warning(&text);
            report.warnings.push(text);
        }
        Some(match self.attempts(claim, report, swept) {
            Ok(End::Taken) => {
                self.progress.advance(self.size.bytes, self.size.entries);
                Outcome::PublishedElsewhere
            }
            Ok(End::Published(Copied { bytes, entries, .. })) => Outcome::Published { bytes, entries },
            Err(error) => Outcome::Failed(Arc::new(error)),
        })
    }

    fn lock(&self, patience: Patience) -> Result<Option<(Lock, Claim)>, Error> {
        let name = Stem::of(self.name).lock();
        let began = Instant::now();
        let mut told = false;
        loop {
            let lock = try_lock(self.workspace, &name);
            let claim = match &lock {
                Lock::Held(_) if self.kind.locks_are_shared() => Claim::Exclusive,
                Lock::Held(_) | Lock::Unusable(_) => Claim::Shared,
                Lock::Busy => {
                    let Patience::UpTo(most) = patience else { return Ok(None) };
                    let waited = began.elapsed();
                    if waited >= most {
                        let path = self.options.workspace.join(&name);
                        return Err(Error::Locked { path, waited_s: waited.as_secs() });
                    }
                    if !told {
                        told = true;
                        self.progress
                            .message(&format!("waiting for another instance to copy `{}`", self.name.display()));
                    }
                    std::thread::sleep(pause(waited));
                    continue;
                }
            };
            return Ok(Some((lock, claim)));
        }
    }

    fn attempts(&self, claim: Claim, report: &mut Report, swept: &mut Swept) -> Result<End, Error> {
        let mut attempt = 1;
        loop {
            match self.attempt(claim, report, swept) {
                Err(Error::Lost { .. }) if attempt < ATTEMPTS => attempt += 1,
                end => return end,
            }
        }
    }

    fn attempt(&self, claim: Claim, report: &mut Report, swept: &mut Swept) -> Result<End, Error> {
        let workspace = &self.options.workspace;
        let owner = Owner::new();
        let stem = Stem::of(self.name);
        let sweeper =
            Sweeper { family: Family::Sync, directory: self.workspace, path: workspace, stem: &stem, me: &owner };
        let watched = sweeper.sweep(claim, swept)?;
        let end = if is_there(self.workspace, workspace, self.name)? {
            Ok(End::Taken)
        } else {
            let notes = Notes::new(self.progress);
            let end = self.copy_and_publish(&stem, &owner, claim, &notes);
            report.warnings.extend(notes.texts());
            end
        };
        report.leftovers_kept += self.revisit(&sweeper, &watched, swept);
        end
    }

    /// Copying took its time: who has given no sign of life since is dead.
    fn revisit(&self, sweeper: &Sweeper<'_>, watched: &Watched, swept: &mut Swept) -> u64 {
        let left = sweeper.revisit(watched, swept);
        if left > 0 {
            let name = self.name.display();
            self.progress.message(&format!("{left} unfinished copies of `{name}` stay: their owners may be alive"));
        }
        left
    }

    fn copy_and_publish(&self, stem: &Stem, owner: &Owner, claim: Claim, notes: &Notes<'_>) -> Result<End, Error> {
        let workspace = &self.options.workspace;
        let partial = stem.partial(Family::Sync, owner);
        let scratch = Companion::Scratch.of(&partial);
        let (from, to) = (self.options.source.join(self.name), workspace.join(&partial));
        let from = Place { directory: self.source, name: self.name, path: &from };
        let to = Place { directory: self.workspace, name: &partial, path: &to };
        let final_path = workspace.join(self.name);
        engine::check(self.source, &self.size, Place { path: &final_path, ..to })?;
        // Observers elsewhere cannot tell by the lock that this owner is alive.
        let _beat = if claim == Claim::Shared || !self.kind.is_local() {
            let name = Companion::Beat.of(&partial);
            Some(
                Beat::start(self.workspace, name)
                    .map_err(|errno| Error::io("create a sign of life for", to.path, errno))?,
            )
        } else {
            None
        };
        let manner = Manner { size: self.size, merge: false, scratch: &scratch, notes, leave_out: &[] };
        let done = engine::transfer(from, to, &manner, self.progress).and_then(|copied| {
            let wanted = Name { directory: self.workspace, name: self.name };
            match publish(Name { directory: self.workspace, name: &partial }, wanted) {
                Ok(Published::Yes) => Ok(End::Published(copied)),
                Ok(Published::NameTaken) => Ok(End::Taken),
                // What is no file, directory or link may have been left out.
                Err(Errno::NOENT) if copied.entries == 0 => Ok(End::Published(copied)),
                Err(errno) => Err(Error::io("publish", &final_path, errno)),
            }
        });
        if matches!(done, Ok(End::Published(_))) {
            return done;
        }
        // Gone although nobody removed it here: another instance took it for a dead owner's.
        let lost = done.as_ref().is_err_and(is_about_something_missing)
            && statat(self.workspace, to.name, AtFlags::SYMLINK_NOFOLLOW).is_err();
        let removed = remove::tree(self.workspace, to.name, to.path);
        match done {
            Err(_) if lost => Err(Error::Lost { path: PathBuf::from(to.path) }),
            Err(error) => Err(error),
            Ok(end) => removed.map(|()| end),
        }
    }
}

fn is_about_something_missing(error: &Error) -> bool {
    let gone = [Errno::NOENT, Errno::STALE].map(|errno| Some(errno.raw_os_error()));
    matches!(error, Error::Io { source, .. } if gone.contains(&source.raw_os_error()))
}

/// The shortest pause between two looks at a lock: most are held for an instant.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest: what a boot may lose after a lock was given back.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long to pause after having waited that long.
fn pause(waited: Duration) -> Duration {
    (waited / 4).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}
