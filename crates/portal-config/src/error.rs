//! What can fail here: files. A bad value is never an [`Error`]: see [`StrictErrors`](crate::StrictErrors) and
//! [`Warning`](crate::Warning).

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file exists but could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file could not be replaced; what was there before is still there.
    #[error("cannot publish `{}`", path.display())]
    Publish {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn publish(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Publish { path, source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let (Self::Read { source, path } | Self::Publish { source, path }) = self;
        match source.kind() {
            io::ErrorKind::PermissionDenied => Some("run it as root".to_owned()),
            io::ErrorKind::ReadOnlyFilesystem => Some(format!("`{}` is on a read-only file system", path.display())),
            // Renaming over a mount point: the file itself was bind-mounted.
            io::ErrorKind::ResourceBusy => Some(format!(
                "mount the directory of `{}` rather than the file, so that it can be replaced",
                path.display()
            )),
            _ => None,
        }
    }
}
