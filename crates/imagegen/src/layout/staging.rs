//! A folder beside the target, in which everything waits until it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::Error;

/// What the names of staging folders end with, before six random characters.
const MARK: &str = ".imagegen-";

/// A staging folder: removed when dropped, and by the next writer when this one was killed.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: TempDir,
    /// Locked as long as its writer lives.
    _lock: File,
}

impl Staging {
    /// Makes one in `parent`, for the target named `name`, and removes those of the same name whose writers are gone.
    pub(crate) fn new(parent: &Path, name: &str) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "write into", path: parent.to_owned(), source };
        let prefix = format!(".{name}{MARK}");
        sweep(parent, &prefix);
        loop {
            let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed)?;
            let lock = File::open(dir.path()).and_then(|lock| {
                flock(&lock, FlockOperation::LockShared)?;
                Ok(lock)
            });
            // Another writer may have swept the folder away before it was locked.
            match lock {
                Ok(lock) if dir.path().exists() => return Ok(Self { dir, _lock: lock }),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the folders of killed writers. Whatever cannot be removed is left to a later run.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let stale: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| starts_with(&entry.file_name(), prefix))
        .map(|entry| entry.path())
        .collect();
    for path in stale {
        let unlocked = File::open(&path).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        if unlocked {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn starts_with(name: &OsString, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_writers_folder_goes_and_a_living_ones_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = Staging::new(parent.path(), "x").unwrap();
        let killed = parent.path().join(".x.imagegen-dead00");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("blob"), "half").unwrap();
        let next = Staging::new(parent.path(), "x").unwrap();
        assert!(!killed.exists());
        assert!(living.path().exists() && next.path().exists());
        drop((living, next));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
