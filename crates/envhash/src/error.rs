//! What can go wrong while reading a root.

use std::io;
use std::path::{Path, PathBuf};

/// Why an inventory could not be taken. Every variant names the path, as seen inside the root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The root directory itself cannot be opened.
    #[error("cannot open the root `{}`", path.display())]
    Root {
        /// The directory, as given by the caller.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory that the hash needs cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The path inside the root.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Text that Python or dpkg would refuse to decode.
    #[error("`{}` is not UTF-8 (byte {offset})", path.display())]
    NotUtf8 {
        /// The path inside the root.
        path: PathBuf,
        /// How many bytes are valid before the first that is not.
        offset: usize,
    },
    /// A package database that dpkg would refuse.
    #[error("`{}`{}: {problem}", path.display(), if *line == 0 { String::new() } else { format!(" line {line}") })]
    Dpkg {
        /// The path inside the root.
        path: PathBuf,
        /// The line, counted from 1; 0 for the whole.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The version or the layout of an environment's interpreter is not certain.
    #[error("cannot tell the Python of `{}`: {reason}", path.display())]
    Interpreter {
        /// The environment's `bin/python`, inside the root.
        path: PathBuf,
        /// What was looked at and found wanting.
        reason: String,
    },
    /// An archive on the search path that cannot be read.
    #[error("`{}` is not a readable zip archive: {problem}", path.display())]
    Archive {
        /// The path inside the root.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A scheme number that this version does not know.
    #[error("unknown scheme {0}")]
    Scheme(u32),
}

impl Error {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn not_utf8(path: &Path, error: std::str::Utf8Error) -> Self {
        Self::NotUtf8 { path: path.to_path_buf(), offset: error.valid_up_to() }
    }

    pub(crate) fn interpreter(path: &Path, reason: impl Into<String>) -> Self {
        Self::Interpreter { path: path.to_path_buf(), reason: reason.into() }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Interpreter { .. } => Some(
                "run it on the live system, where the interpreter itself can be asked, or remove the environment"
                    .into(),
            ),
            Self::NotUtf8 { path, .. } if path.extension().is_some_and(|suffix| suffix == "pth") => {
                Some("the interpreter of this environment does not start with such a file: rewrite it as UTF-8".into())
            }
            Self::NotUtf8 { .. } => Some("Python refuses this file too: reinstall the package it belongs to".into()),
            Self::Scheme(_) => Some("this version knows scheme 1".into()),
            Self::Root { .. } | Self::Read { .. } | Self::Dpkg { .. } | Self::Archive { .. } => None,
        }
    }
}
