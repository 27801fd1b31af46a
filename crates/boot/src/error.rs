//! What can go wrong in a boot.

use std::io;
use std::path::PathBuf;

/// The errors of this crate. A stage that returns one is recorded as failed, and the sequence goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file, directory or link could not be written, or not with the mode and owner it needs.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something other than what belongs there is in the way, and replacing it could do harm.
    #[error("will not touch `{}`: {reason}", path.display())]
    Refused {
        /// What was found.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("`{program}` {ended}")]
    Ended {
        /// The program.
        program: String,
        /// How it ended, as a sentence's end: "exited with 3".
        ended: String,
    },
    /// A stop was asked for while a stage ran.
    #[error("stopped by a signal")]
    Cancelled,
    /// A script could not be fetched.
    #[error("cannot fetch `{url}`")]
    Fetch {
        /// Where from, without credentials and query.
        url: String,
        /// The cause.
        #[source]
        source: crate::fetch::FetchError,
    },
    /// The workspace could not be synced.
    #[error("the workspace is not complete")]
    Sync {
        /// The cause.
        #[from]
        source: vast_sync::Error,
    },
    /// Directories of the container could not be moved to the volume.
    #[error("nothing was moved to the volume")]
    Relocate {
        /// The cause.
        #[source]
        source: vast_sync::Error,
    },
    /// The inventory of the environment could not be taken.
    #[error("the environments could not be read")]
    Inventory {
        /// The cause.
        #[from]
        source: vast_envhash::Error,
    },
    /// The limits of the container or its GPUs could not be set up.
    #[error("the container's limits could not be applied")]
    Gpu {
        /// The cause.
        #[from]
        source: vast_gpu::Error,
    },
    /// A key or a certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate {
        /// The cause.
        #[from]
        source: rcgen::Error,
    },
    /// The status page's port is not to be had.
    #[error("no status page while this boots: {by} has port {port}")]
    Port {
        /// The port.
        port: u16,
        /// The programs that have it.
        by: String,
        /// The cause.
        source: io::Error,
    },
    /// A value of the environment makes no sense.
    #[error("`{name}` is not {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A record of an earlier boot could not be understood.
    #[error("`{}` is not a record of a boot", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch { source, .. } => source.hint(),
            Self::Sync { source } | Self::Relocate { source } => source.hint(),
            Self::Run { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check that the program, and the interpreter in its first line, are installed".to_owned())
            }
            _ => None,
        }
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
