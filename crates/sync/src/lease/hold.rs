//! Holding a shared directory: signs of life, publishing, and the ways it ends.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, fdatasync, mkdirat, openat, renameat, unlinkat};
use rustix::io::{Errno, pwrite, write};

use super::text::Lease;
use super::{DEAD, DIRECTORY, STAGING, SYNCED, SYNCING, TAKEOVER, clear, read_small};
use crate::cancel::{Cancel, Registration};
use crate::engine::remove;
use crate::staging::owner::Owner;
use crate::volume::flush;
use crate::volume::kind::Kind;
use crate::volume::publish::{Name, Published, publish};
use crate::{Error, fault};

/// What the signal's thread, the sign of life and the work share.
struct Held {
    directory: OwnedFd,
    path: PathBuf,
    owner: Owner,
    file: OwnedFd,
    text_bytes: u64,
    /// Whether everyone who sees the directory sees it through this machine's kernel.
    is_local: bool,
}

/// A shared directory that this attempt fills. Dropped before it is finished, it is released for others.
pub(crate) struct Hold {
    held: Arc<Held>,
    beat: Option<(Sender<()>, JoinHandle<()>)>,
    on_cancel: Option<Registration>,
    finished: bool,
}

impl Hold {
    /// Begins to give signs of life for a lease that was just put in place.
    pub(super) fn start(
        (parent, name): (BorrowedFd<'_>, &OsStr),
        path: PathBuf,
        owner: Owner,
        file: OwnedFd,
        text_bytes: u64,
        every: Duration,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let directory =
            openat(parent, name, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", &path, errno))?;
        let is_local = Kind::of(&directory).is_local();
        let held = Arc::new(Held { directory, path, owner, file, text_bytes, is_local });
        let beat = beat(every, Arc::clone(&held)).map_err(|source| Error::Io {
            action: "give signs of life in",
            path: held.path.clone(),
            source,
        })?;
        let released = Arc::clone(&held);
        let on_cancel = Some(cancel.on_fire(move || released.release()));
        Ok(Self { held, beat: Some(beat), on_cancel, finished: false })
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.held.directory.as_fd()
    }

    /// Where this attempt writes before it publishes, seen from the directory. It is made by the first call.
    pub(crate) fn staging(&self) -> Result<OsString, Error> {
        let staging = self.held.staging();
        // Nobody looks into a home before it has its own permissions.
        match fault::call("stage.mkdir", || mkdirat(&self.held.directory, &*staging, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => Ok(staging),
            Err(errno) => Err(Error::io("create", self.held.path.join(&staging), errno)),
        }
    }

    /// Fails when the directory has another owner by now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let text = read_small(&self.held.directory, SYNCING)
            .map_err(|errno| Error::io("read", self.held.path.join(SYNCING), errno))?;
        let lease = text.and_then(|text| text.parse::<Lease>().ok());
        match lease {
            Some(lease) if lease.owner == self.held.owner && !lease.released => Ok(()),
            _ => Err(self.lost()),
        }
    }

    fn lost(&self) -> Error {
        Error::Lost { path: self.held.path.clone() }
    }

    /// Gives something in staging its final name in the directory.
    pub(crate) fn publish(&self, staged: &Path, wanted: &Path) -> Result<Published, Error> {
        self.check()?;
        let directory = self.held.directory.as_fd();
        let from = Path::new(&self.held.staging()).join(staged);
        let (from, to) = (Name { directory, name: from.as_os_str() }, Name { directory, name: wanted.as_os_str() });
        match publish(from, to) {
            // Taken away between the check and the rename.
            Err(Errno::NOENT) => Err(self.lost()),
            published => published.map_err(|errno| Error::io("publish", self.held.path.join(wanted), errno)),
        }
    }

    /// Marks the directory as complete, with this text, and lets go of it. Everything in it must be published.
    pub(crate) fn finish(mut self, text: &str) -> Result<(), Error> {
        let held = Arc::clone(&self.held);
        let (directory, path) = (&held.directory, &held.path);
        let staged = Path::new(&self.staging()?).join("synced");
        let failed = |action| move |errno| Error::io(action, path.join(SYNCED), errno);
        let flags = super::SMALL_FILE;
        let file = fault::call("stage.create", || openat(directory, &staged, flags, Mode::from_raw_mode(0o644)))
            .map_err(failed("create"))?;
        write(&file, text.as_bytes()).map_err(failed("write"))?;
        // The mark must not outlive a power failure that what it marks did not.
        flush::filesystem(directory).map_err(failed("flush"))?;
        self.publish(Path::new("synced"), Path::new(SYNCED))?;
        flush::file(directory).map_err(failed("flush"))?;
        self.finished = true;
        self.stop();
        // From here on the directory is complete, whatever is left in it.
        let _ = fault::call("lease.unlink", || unlinkat(directory, SYNCING, AtFlags::empty()));
        let mine = held.staging();
        let _ = clear(directory, path, |name| mine == *name || name.starts_with(TAKEOVER));
        Ok(())
    }

    /// Lets go of a directory that turned out to be complete.
    pub(super) fn forget(mut self) {
        self.finished = true;
        self.stop();
        let _ = fault::call("lease.unlink", || unlinkat(&self.held.directory, SYNCING, AtFlags::empty()));
    }

    /// No more signs of life, and nothing to release.
    fn stop(&mut self) {
        drop(self.on_cancel.take());
        if let Some((stop, thread)) = self.beat.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stop();
        if self.finished {
            return;
        }
        self.held.release();
        // What cannot be removed now is removed by whoever takes over.
        let _ = remove::tree(self.held.directory.as_fd(), &self.held.dead(), &self.held.path);
    }
}

impl Held {
    fn staging(&self) -> OsString {
        OsString::from(format!("{STAGING}{}", self.owner))
    }

    /// What staging is called when its owner itself gives it up.
    fn dead(&self) -> OsString {
        OsString::from(format!("{DEAD}{}", self.owner))
    }

    /// Gives the directory up: first so that nothing of this attempt can be published any more, then so that others know.
    fn release(&self) {
        let _ = fault::call("release.rename", || {
            renameat(&self.directory, &*self.staging(), &self.directory, &*self.dead())
        });
        let state = Lease::state_text(true);
        let _ =
            fault::call("release.write", || pwrite(&self.file, state.as_bytes(), Lease::state_offset(self.text_bytes)));
        self.show();
    }

    /// Lets others see what was written to the lease. On this machine they do already, and a flush could wait for minutes
    /// behind that of what is being copied: a living owner would be taken for dead.
    fn show(&self) {
        if !self.is_local {
            let _ = fdatasync(&self.file);
        }
    }
}

/// Raises the counter until the sender is dropped.
fn beat(every: Duration, held: Arc<Held>) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name("vast-sync-lease".to_owned()).spawn(move || {
        let mut counter = 0_u64;
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            counter += 1;
            let digits = Lease::counter_text(counter);
            // A volume that does not answer lets nobody see the sign, nor do any work: there is no one to tell.
            let _ = pwrite(&held.file, digits.as_bytes(), Lease::counter_offset(held.text_bytes));
            held.show();
        }
    })?;
    Ok((stop, thread))
}
