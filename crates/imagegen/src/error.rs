//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use crate::dockerfile::{Location, Problem};

/// What can fail in building, publishing and reading images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `write`, `create`, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    // dockerfile
    /// A Dockerfile that cannot be parsed.
    #[error("{at}: {problem}")]
    Dockerfile {
        /// Where.
        at: Location,
        /// What is wrong there.
        problem: Problem,
    },
}

impl Error {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Dockerfile { problem, .. } => problem.hint(),
            Self::File { .. } => None,
        }
    }
}
