//! A sign of life beside an unpublished copy, for observers on other machines.
//!
//! A file with a number that its owner raises. Observers compare what they read with what they read before, by their own
//! monotonic clocks; the file's times, which a server gives and a client may cache, count for nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, pread, pwrite};

/// How often an owner gives a sign of life.
const EVERY: Duration = Duration::from_secs(10);

/// After how long without one an owner is held for dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_mins(1);

/// A thread that gives signs of life until the value is dropped.
pub(crate) struct Beat {
    directory: OwnedFd,
    name: OsString,
    /// Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    /// Gives the first sign, and goes on.
    pub(crate) fn start(directory: BorrowedFd<'_>, name: OsString) -> Result<Self, Errno> {
        Self::start_every(EVERY, directory, name)
    }

    fn start_every(every: Duration, directory: BorrowedFd<'_>, name: OsString) -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fcntl_dupfd_cloexec(directory, 0)?;
        let file = openat(&directory, &*name, flags, Mode::from_raw_mode(0o644))?;
        pwrite(&file, &1_u64.to_be_bytes(), 0)?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("vast-sync-beat".to_owned()).spawn(move || {
            let mut count = 1_u64;
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                count += 1;
                // A volume that does not answer lets nobody see the sign, nor do any work: there is no one to tell.
                let _ = pwrite(&file, &count.to_be_bytes(), 0);
                let _ = rustix::fs::fdatasync(&file);
            }
        });
        let thread = thread.map_err(|_| Errno::AGAIN)?;
        Ok(Self { directory, name, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What cannot be removed now is swept later, with the copy it belongs to.
        let _ = unlinkat(&self.directory, &*self.name, AtFlags::empty());
    }
}

/// What the sign of life says; `None` if there is none.
pub(crate) fn read(directory: BorrowedFd<'_>, name: &OsStr) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let mut count = [0; 8];
    let read = pread(file.as_fd(), &mut count, 0).ok()?;
    (read == count.len()).then_some(u64::from_be_bytes(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_count_rises_while_the_owner_lives_and_the_file_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = File::open(root.path()).unwrap();
        let name = OsStr::new("beat");
        let beat = Beat::start_every(Duration::from_millis(1), directory.as_fd(), name.to_owned()).unwrap();
        while read(directory.as_fd(), name).unwrap() < 3 {
            std::thread::yield_now();
        }
        drop(beat);
        assert_eq!(read(directory.as_fd(), name), None);
    }
}
