//! What can fail here.

use std::io;
use std::path::{Path, PathBuf};

/// A fact that could not be read, or a change that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory is there but could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file or link could not be changed.
    #[error("cannot change `{}`", path.display())]
    Change {
        /// The file or link.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program could not be run, or failed.
    #[error("`{program}` failed")]
    Run {
        /// The program.
        program: String,
        /// The cause, with what the program said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn change(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Change { path, source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let (Self::Read { source, .. } | Self::Change { source, .. } | Self::Run { source, .. }) = self;
        (source.kind() == io::ErrorKind::PermissionDenied).then(|| "run it as root".to_owned())
    }
}
