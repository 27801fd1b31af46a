//! One process of a container swaps at a time: a boot's stage, or someone's hand.
//!
//! The lock is on the container's own disk, where no other instance is, and only against confusion: where it cannot be had,
//! the work goes on without.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::volume::lock::{Lock, try_lock};
use crate::{Error, Progress};

/// Where it is, as a path of the container.
const DIRECTORY: &str = "var/lib/vast-sync";

/// How often it is asked for while another process has it.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for the lock, for as long as it takes: whoever has it is at work. It is held until the value is dropped.
pub(crate) fn take(root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Option<Lock>, Error> {
    let directory = root.join(DIRECTORY);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&directory);
    let Ok(directory) = made.and_then(|()| File::open(&directory)) else { return Ok(None) };
    let mut told = false;
    loop {
        match try_lock(directory.as_fd(), OsStr::new("lock")) {
            Lock::Busy => {}
            lock => return Ok(Some(lock)),
        }
        if !told {
            told = true;
            progress.message("waiting for another process of this container, which is moving directories too");
        }
        if cancel.sleep(PAUSE) {
            return Err(Error::Cancelled);
        }
    }
}
