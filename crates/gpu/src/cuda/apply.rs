//! Making the changes of a plan, all of them or none.

use std::error::Error as _;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::plan::{Change, Plan};
use super::{FAILED_MARKER, PENDING_MARKER};
use crate::error::Error;
use crate::files;
use crate::runner::Runner;
use crate::toolkit::under;

/// Makes the plan's changes under `root`, and the loader's cache if anything changed. A failure half-way puts back what was there.
///
/// What is recorded is recorded first: after the changes nothing is left that could fail without them being taken back. Killed half-way, the next boot gathers what it finds and plans the rest; [`PENDING_MARKER`] tells it that the loader's cache is stale.
///
/// # Errors
/// The first change that could not be made. Why is in [`FAILED_MARKER`] as well, if it could be written.
pub fn apply(plan: &Plan, root: &Path, runner: &dyn Runner) -> Result<(), Error> {
    mark(root, plan.failure.as_deref())
        .and_then(|()| change_all(plan, root, runner))
        .inspect_err(|error| record(root, error))
}

/// Leaves the reason of a failed set-up for people and later stages. That it cannot be left must not hide the reason itself.
pub(super) fn record(root: &Path, error: &Error) {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let _ = mark(root, Some(&format!("{error}{cause}")));
}

fn mark(root: &Path, failure: Option<&str>) -> Result<(), Error> {
    let path = under(root, Path::new(FAILED_MARKER));
    let done = match failure {
        Some(failure) => files::publish(&path, format!("{failure}\n").as_bytes()),
        None => remove(&path),
    };
    done.map_err(Error::change(&path))
}

fn change_all(plan: &Plan, root: &Path, runner: &dyn Runner) -> Result<(), Error> {
    if !plan.ldconfig {
        return Ok(());
    }
    let pending = under(root, Path::new(PENDING_MARKER));
    files::publish(&pending, b"").map_err(Error::change(&pending))?;
    let mut undo: Vec<Before> = Vec::new();
    let made = plan.changes.iter().try_for_each(|change| {
        let path = under(root, change.path());
        // A file is written through a link to its target, so that is what has to come back.
        let path = if let Change::Write { .. } = change { fs::canonicalize(&path).unwrap_or(path) } else { path };
        Before::take(&path)
            .map(|before| undo.push(before))
            .and_then(|()| make(change, &path))
            .map_err(Error::change(&path))
    });
    let result = made.and_then(|()| runner.ldconfig(root));
    if result.is_err() {
        let restored = undo.into_iter().rev().map(Before::restore).filter(Result::is_err).count() == 0;
        // What was there had a cache that fits it, unless an earlier set-up was cut short as well.
        let cache = runner.ldconfig(root);
        if !restored || cache.is_err() {
            return result;
        }
    }
    // One that cannot be removed costs the next boot another cache, and no more.
    let _ = remove(&pending);
    result
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Write { path, .. } | Self::Remove { path } | Self::Link { path, .. } => path,
        }
    }
}

fn make(change: &Change, path: &Path) -> io::Result<()> {
    match change {
        Change::Write { content, .. } => files::publish(path, content.as_bytes()),
        Change::Remove { .. } => remove(path),
        Change::Link { target, .. } => link(target, path),
    }
}

/// Puts a link into place in one step.
fn link(target: &Path, path: &Path) -> io::Result<()> {
    let beside = files::beside(path);
    remove(&beside)?;
    symlink(target, &beside)?;
    fs::rename(&beside, path).inspect_err(|_| {
        let _ = remove(&beside);
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What stood at a path before it was changed.
enum Before {
    Nothing(PathBuf),
    Link(PathBuf, PathBuf),
    File(PathBuf, Vec<u8>, Permissions),
}

impl Before {
    fn take(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Nothing(path)),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&path).map(|target| Self::Link(path, target)),
            Ok(metadata) => {
                let content = fs::read(&path)?;
                Ok(Self::File(path, content, metadata.permissions()))
            }
        }
    }

    fn restore(self) -> io::Result<()> {
        match self {
            Self::Nothing(path) => remove(&path),
            Self::Link(path, target) => link(&target, &path),
            Self::File(path, content, permissions) => {
                files::publish(&path, &content)?;
                fs::set_permissions(&path, Permissions::from_mode(permissions.mode()))
            }
        }
    }
}
