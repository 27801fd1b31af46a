//! A directory on the target's filesystem for what has no place in the tree yet, made when it is first needed.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::remove;
use crate::Error;

/// The directory, or the promise of one.
pub(crate) struct Scratch<'a> {
    parent: BorrowedFd<'a>,
    name: OsString,
    path: PathBuf,
    made: OnceLock<OwnedFd>,
    making: Mutex<()>,
    next: AtomicU64,
}

impl<'a> Scratch<'a> {
    /// A scratch directory that would lie in `parent`; `path` is its own, for messages.
    pub(crate) fn new(parent: BorrowedFd<'a>, name: &OsStr, path: PathBuf) -> Self {
        let (made, making, next) = (OnceLock::new(), Mutex::new(()), AtomicU64::new(0));
        Self { parent, name: name.to_owned(), path, made, making, next }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> Result<BorrowedFd<'_>, Error> {
        if self.made.get().is_none() {
            let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            if self.made.get().is_none() {
                let failed = |errno| Error::io("create", &self.path, errno);
                mkdirat(self.parent, &self.name, Mode::RWXU).map_err(failed)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(self.parent, &self.name, flags, Mode::empty()).map_err(failed)?;
                return Ok(self.made.get_or_init(|| made).as_fd());
            }
        }
        match self.made.get() {
            Some(made) => Ok(made.as_fd()),
            None => unreachable!("made above"),
        }
    }

    /// A name in it that was not given before.
    pub(crate) fn fresh_name(&self) -> CString {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        CString::new(number.to_string()).unwrap_or_default()
    }

    /// Removes it with what is in it, if it was made.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        match self.made.take() {
            Some(_) => remove::tree(self.parent, &self.name, &self.path),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // On the way out of a failure: that one is what the caller is told, and the next run sweeps.
        let _ = self.clear();
    }
}
