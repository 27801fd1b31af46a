//! A shared directory: looking at it, claiming it, waiting for it, taking it over.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, RenameFlags, mkdirat, open, openat, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::hold::Hold;
use super::observer::{Observer, Reading, Step, Syncing, Timing};
use super::text::Lease;
use super::{CLAIM, DIRECTORY, STAGING, SYNCED, SYNCING, TAKEOVER, clear, fence, read_small, write_lease};
use crate::cancel::Cancel;
use crate::engine::remove;
use crate::staging::owner::Owner;
use crate::volume::listing;
use crate::volume::publish::{Name, Published, publish};
use crate::{Error, Progress, fault};

/// How often someone who waits is told so.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// A directory that instances fill together: one copies, all use it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The directory it is in.
    pub(crate) parent: PathBuf,
    pub(crate) name: String,
    /// The subdirectory by whose entries an older image's finished tree is known.
    pub(crate) sign: &'static str,
    pub(crate) timing: Timing,
    /// What people call this instance.
    pub(crate) instance: String,
}

/// How waiting for a shared directory ended well.
pub(crate) enum Acquired {
    /// It is complete.
    Finished,
    /// It is this attempt's to fill. Whether another one had begun.
    Held(Hold, bool),
}

impl Shared {
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Looks at the directory.
    pub(crate) fn read(&self) -> Result<Reading, Error> {
        let path = self.path();
        let directory = match open(&path, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            // Absent, unless it is a dangling link. If it has appeared since, claiming will tell.
            Err(Errno::NOENT) if !path.is_symlink() => return Ok(Reading::default()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(Reading { exists: true, foreign: true, ..Reading::default() });
            }
            Err(errno) => return Err(Error::io("open", path, errno)),
        };
        self.read_opened(&directory).map_err(|errno| Error::io("read", path, errno))
    }

    fn read_opened(&self, directory: &OwnedFd) -> Result<Reading, Errno> {
        let mut reading = Reading { exists: true, synced: is_there(directory, SYNCED)?, ..Reading::default() };
        let syncing = read_small(directory, SYNCING)?;
        reading.syncing = syncing.map(|text| text.parse().map_or(Syncing::Opaque, Syncing::Lease));
        for name in listing::names(directory, usize::MAX)?.names {
            let text = name.to_str().unwrap_or_default();
            if let Some(number) = text.strip_prefix(TAKEOVER).and_then(|number| number.parse().ok()) {
                reading.takeover = reading.takeover.max(Some(number));
            }
            if name == self.sign {
                let inside = openat(directory, &*name, DIRECTORY, Mode::empty());
                reading.populated =
                    inside.is_ok_and(|inside| listing::names(inside, 1).is_ok_and(|listing| !listing.names.is_empty()));
                reading.foreign |= !reading.populated && openat(directory, &*name, DIRECTORY, Mode::empty()).is_err();
            } else if !text.starts_with('.') {
                reading.foreign = true;
            }
        }
        if reading.syncing.is_none() {
            // Its owner may have finished between the two looks: `.synced` appears before `.syncing` goes.
            reading.synced |= is_there(directory, SYNCED)?;
            reading.claims = if reading.synced { Vec::new() } else { self.claims() };
        }
        Ok(reading)
    }

    /// Prepared directories of this name beside it.
    pub(crate) fn claims(&self) -> Vec<String> {
        let prefix = format!("{CLAIM}{}.", self.name);
        let names = open(&self.parent, DIRECTORY, Mode::empty()).and_then(|parent| listing::names(parent, usize::MAX));
        let names = names.map(|listing| listing.names).unwrap_or_default();
        let mut claims: Vec<String> = names
            .iter()
            .filter_map(|name| name.to_str())
            .filter(|name| name.strip_prefix(&prefix).is_some_and(|owner| owner.parse::<Owner>().is_ok()))
            .map(str::to_owned)
            .collect();
        claims.sort_unstable();
        claims
    }

    /// Waits until the directory is complete or this attempt's to fill. `before_claim` is asked before anything is written;
    /// its refusal counts only while nobody else has the directory.
    pub(crate) fn acquire(
        &self,
        before_claim: &mut dyn FnMut() -> Result<(), Error>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Acquired, Error> {
        let began = Instant::now();
        let mut observer = Observer::new(self.timing);
        let mut told: Option<Instant> = None;
        loop {
            let reading = self.read()?;
            let step = observer.observe(&reading, began.elapsed());
            if step == Step::Claim
                && let Err(error) = before_claim()
            {
                // Another process of this container may have filled the directory meanwhile, and takes away what was looked at.
                if self.read().is_ok_and(|now| now.exists) {
                    continue;
                }
                return Err(error);
            }
            // What is claimed is registered to be released before a stop can end the process.
            let Some(_section) = cancel.section() else { return Err(Error::Cancelled) };
            match step {
                Step::Finished => return Ok(Acquired::Finished),
                Step::Adopt => {
                    self.adopt()?;
                    return Ok(Acquired::Finished);
                }
                Step::Claim => {
                    if let Some(hold) = self.claim(cancel)? {
                        return Ok(Acquired::Held(hold, false));
                    }
                }
                Step::TakeOver(number) => {
                    if let Some(hold) = self.take_over(&reading, number, cancel)? {
                        progress
                            .message(&format!("taking over `{}` from an instance that is gone", self.path().display()));
                        return Ok(Acquired::Held(hold, true));
                    }
                }
                Step::Wait => {
                    if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                        told = Some(Instant::now());
                        progress.message(&self.waiting(&reading, began.elapsed()));
                    }
                    if cancel.sleep(self.timing.poll()) {
                        return Err(Error::Cancelled);
                    }
                }
                Step::GiveUp => {
                    let waited_s = began.elapsed().as_secs();
                    return Err(Error::Unfinished { path: self.path(), waited_s, owner: owner_of(&reading) });
                }
                Step::Foreign => return Err(Error::Foreign { path: self.path() }),
            }
        }
    }

    fn waiting(&self, reading: &Reading, waited: Duration) -> String {
        let who = owner_of(reading).map_or_else(|| "another instance".to_owned(), |owner| format!("instance {owner}"));
        let since =
            if waited < TELL_EVERY { String::new() } else { format!(", for {} min so far", waited.as_secs() / 60) };
        format!("waiting for {who} to fill `{}`{since}", self.path().display())
    }

    fn lease(&self, owner: &Owner, generation: u64) -> Lease {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let instance = self.instance.clone();
        Lease { owner: owner.clone(), instance, generation, started, released: false, counter: 0 }
    }

    fn open_parent(&self) -> Result<OwnedFd, Error> {
        // Opened first: of one that is there and cannot be looked at, making it would only tell that it exists.
        let opened = match open(&self.parent, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(&self.parent);
                made.map_err(|source| self.refused("create", &self.parent, source))?;
                open(&self.parent, DIRECTORY, Mode::empty())
            }
            opened => opened,
        };
        opened.map_err(|errno| Error::io("open", &self.parent, errno))
    }

    fn refused(&self, action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Error {
        let source = source.into();
        if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
            return Error::ReadOnly { path: self.parent.clone() };
        }
        Error::io(action, path, source)
    }

    /// Claims a directory that is not there. `None`: someone was faster.
    fn claim(&self, cancel: &Cancel) -> Result<Option<Hold>, Error> {
        let parent = self.open_parent()?;
        let owner = Owner::new();
        let prepared = format!("{CLAIM}{}.{owner}", self.name);
        let path = self.parent.join(&prepared);
        let mode = Mode::from_raw_mode(0o755);
        fault::call("claim.mkdir", || mkdirat(&parent, &*prepared, mode))
            .map_err(|errno| self.refused("create", &path, errno))?;
        let lease = self.lease(&owner, 1);
        let claimed = write_lease(&parent, &Path::new(&prepared).join(SYNCING), &lease)
            .and_then(|file| Ok(self.give_name(&parent, &prepared)?.then_some(file)));
        let file = match claimed {
            Ok(Some(file)) => file,
            // Someone has the name, or has removed what was prepared because someone has.
            Ok(None) | Err(Errno::NOENT) => {
                let _ = remove::tree(parent.as_fd(), OsStr::new(&prepared), &path);
                return Ok(None);
            }
            Err(errno) => {
                let _ = remove::tree(parent.as_fd(), OsStr::new(&prepared), &path);
                return Err(self.refused("claim", &self.path(), errno));
            }
        };
        let at = (parent.as_fd(), OsStr::new(&self.name));
        let bytes = lease.to_text().len() as u64;
        Hold::start(at, self.path(), owner, file, bytes, self.timing.beat(), cancel).map(Some)
    }

    /// Makes the prepared directory the shared one; whether nothing had the name.
    fn give_name(&self, parent: &OwnedFd, prepared: &str) -> Result<bool, Errno> {
        let renamed = fault::call("claim.rename", || {
            renameat_with(parent, prepared, parent, &*self.name, RenameFlags::NOREPLACE)
        });
        match renamed {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        // As older images do it. What was prepared stays beside until the mark is there, and tells of a death in between.
        match fault::call("claim.mkdir-plain", || mkdirat(parent, &*self.name, Mode::from_raw_mode(0o755))) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        let (from, to) = (Path::new(prepared).join(SYNCING), Path::new(&self.name).join(SYNCING));
        let directory = parent.as_fd();
        let moved = publish(Name { directory, name: from.as_os_str() }, Name { directory, name: to.as_os_str() })?;
        let _ = fault::call("claim.rmdir", || rustix::fs::unlinkat(parent, prepared, AtFlags::REMOVEDIR));
        Ok(moved == Published::Yes)
    }

    /// Takes the directory over from the owner of `seen`. `None`: someone else is doing that, or it is not dead after all.
    fn take_over(&self, seen: &Reading, number: u64, cancel: &Cancel) -> Result<Option<Hold>, Error> {
        let path = self.path();
        let failed = |action| {
            let path = path.clone();
            move |errno| Error::io(action, path, errno)
        };
        let directory = open(&path, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
        let owner = Owner::new();
        let mine = format!("{TAKEOVER}{number}");
        match fault::call("takeover.mkdir", || mkdirat(&directory, &*mine, Mode::RWXU)) {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.refused("take over", &path, errno)),
        }
        let withdraw = || {
            let _ = remove::tree(directory.as_fd(), OsStr::new(&mine), &path.join(&mine));
        };
        let still = |reading: &Reading| {
            reading.syncing == seen.syncing
                && !reading.synced
                && reading.takeover.is_none_or(|highest| highest <= number)
        };
        if !still(&self.read_opened(&directory).map_err(failed("read"))?) {
            withdraw();
            return Ok(None);
        }
        // A taker before this one may only have been paused: its lease can no longer be put in place after this.
        fence(&directory, &path, &owner, |name| {
            name.strip_prefix(TAKEOVER).and_then(|other| other.parse().ok()).is_some_and(|other: u64| other < number)
        })?;
        if !still(&self.read_opened(&directory).map_err(failed("read"))?) {
            withdraw();
            return Ok(None);
        }
        let lease = self.lease(&owner, number + 1);
        let staged = Path::new(&mine).join("lease");
        let placed = write_lease(&directory, &staged, &lease).and_then(|file| {
            let placed = if seen.syncing.is_some() {
                fault::call("takeover.rename", || renameat(&directory, &staged, &directory, SYNCING)).map(|()| true)
            } else {
                let directory = directory.as_fd();
                let name = |name| Name { directory, name };
                publish(name(staged.as_os_str()), name(OsStr::new(SYNCING))).map(|done| done == Published::Yes)
            };
            placed.map(|placed| placed.then_some(file))
        });
        let file = match placed {
            Ok(Some(file)) => file,
            // Someone took this takeover for a dead one's, or an older image's mark appeared.
            Ok(None) | Err(Errno::NOENT) => {
                withdraw();
                return Ok(None);
            }
            Err(errno) => {
                withdraw();
                return Err(self.refused("take over", &path, errno));
            }
        };
        let bytes = lease.to_text().len() as u64;
        let at = (directory.as_fd(), OsStr::new("."));
        let hold = Hold::start(at, path.clone(), owner.clone(), file, bytes, self.timing.beat(), cancel)?;
        // From here on the owner before can publish nothing.
        fence(&directory, &path, &owner, |name| name.starts_with(STAGING))?;
        clear(&directory, &path, |name| name.starts_with(TAKEOVER))?;
        if is_there(&directory, SYNCED).map_err(failed("look at"))? {
            hold.forget();
            return Ok(None);
        }
        Ok(Some(hold))
    }

    /// Marks an older image's finished tree.
    fn adopt(&self) -> Result<(), Error> {
        let path = self.path().join(SYNCED);
        match fault::call("adopt.create", || open(&path, super::SMALL_FILE, Mode::from_raw_mode(0o644))) {
            // It can be used without the mark as well.
            Ok(_) | Err(Errno::EXIST | Errno::ROFS) => Ok(()),
            Err(errno) => Err(Error::io("create", path, errno)),
        }
    }

    /// Removes prepared directories beside a directory that is there: none of them can become it any more.
    pub(crate) fn clear_claims(&self) {
        let claims = self.claims();
        if claims.is_empty() {
            return;
        }
        let Ok(parent) = open(&self.parent, DIRECTORY, Mode::empty()) else { return };
        for claim in claims {
            let _ = remove::tree(parent.as_fd(), OsStr::new(&claim), &self.parent.join(&claim));
        }
    }
}

/// What people call the instance that fills the directory.
pub(crate) fn owner_of(reading: &Reading) -> Option<String> {
    match &reading.syncing {
        Some(Syncing::Lease(lease)) if !lease.instance.is_empty() => Some(lease.instance.clone()),
        _ => None,
    }
}

fn is_there(directory: impl AsFd, name: &str) -> Result<bool, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
