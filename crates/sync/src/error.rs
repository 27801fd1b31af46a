//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::copy::Differences;
use crate::workspace::Report;

/// What can fail in copying a tree and in publishing it on a volume.
///
/// A message names what failed and on what; the cause is the error's `source()`, and what the user can do about it,
/// where there is something, is [`Error::hint`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One operation on one path failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: `create`, `read`, `publish`, ….
        action: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// The target has no room, either by what it said beforehand or by what a write came back with.
    #[error(
        "no room for `{}`: {needed} {resource} needed, {available} available", path.display()
    )]
    NoSpace {
        /// The path that did not fit; the root of the target when the check beforehand refused.
        path: PathBuf,
        /// What ran out.
        resource: Resource,
        /// How much the whole copy needs, in the unit of `resource`.
        needed: u64,
        /// How much the target had when it was asked last, in the unit of `resource`.
        available: u64,
        /// The refusal of the filesystem; absent when the check beforehand refused.
        #[source]
        source: Option<io::Error>,
    },

    /// The target cannot hold symbolic links, and the source has some.
    #[error("the filesystem of `{}` cannot hold symbolic links, and the source has {count}", path.display())]
    NoSymlinks {
        /// Where one was tried.
        path: PathBuf,
        /// How many the source has.
        count: u64,
        /// The refusal of the filesystem.
        #[source]
        source: io::Error,
    },

    /// The target of a copy is there and not an empty directory.
    #[error("`{}` is there already", path.display())]
    TargetExists {
        /// The target.
        path: PathBuf,
    },

    /// The target of a copy lies inside its source.
    #[error("the target `{}` lies inside the source `{}`", target.display(), from.display())]
    TargetInsideSource {
        /// The source.
        from: PathBuf,
        /// The target.
        target: PathBuf,
    },

    /// A file or directory of the source became another one, or shorter, while it was read.
    #[error("`{}` changed while it was copied", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },

    /// What this process was writing was taken away by another instance, which held it for abandoned.
    #[error("`{}` was taken away while it was being written", path.display())]
    Lost {
        /// The unpublished copy.
        path: PathBuf,
    },

    /// Another instance held the lock of an item for longer than this one may wait.
    #[error("`{}` was held by another instance for {waited_s} s", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long was waited, in seconds.
        waited_s: u64,
    },

    /// The workspace is on a filesystem mounted read-only.
    #[error("`{}` is read-only", path.display())]
    ReadOnly {
        /// The workspace.
        path: PathBuf,
    },

    /// Another instance did not finish filling a directory for longer than this one may wait.
    #[error("`{}` is not complete after {waited_s} s{}", path.display(),
        owner.as_ref().map(|owner| format!(" (instance {owner} is filling it)")).unwrap_or_default())]
    Unfinished {
        /// The shared directory.
        path: PathBuf,
        /// How long was waited, in seconds.
        waited_s: u64,
        /// What people call the instance that fills it, if that is known.
        owner: Option<String>,
    },

    /// A shared directory is something that neither this program nor an older image made.
    #[error("`{}` is there, and is not what this program makes of it", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
    },

    /// A directory of the container was being replaced by a link to a volume that is not there now.
    #[error("`{}` was being moved to `{}`, which is not there", path.display(), target.display())]
    Interrupted {
        /// The directory, or where it was.
        path: PathBuf,
        /// Where its copy is when the volume is mounted.
        target: PathBuf,
    },

    /// Something that has to be a directory is something else, such as a link.
    #[error("`{}` is not a directory", path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },

    /// There is no id of the environment.
    #[error("the environment has no id: `{}` is missing or empty", path.display())]
    NoId {
        /// Where an image leaves it.
        path: PathBuf,
    },

    /// The id of the environment cannot be the name of a directory.
    #[error(transparent)]
    InvalidId(#[from] crate::environment::InvalidId),

    /// A stop was asked for.
    #[error("stopped")]
    Cancelled,

    /// A copy is not like its source.
    #[error("the copy differs from its source in {} places, first `{}`: {}", .0.count,
        .0.first.first().map_or(Path::new(""), |first| &first.path).display(),
        .0.first.first().map_or("", |first| first.what))]
    Differs(Differences),

    /// Some items of the workspace could not be published; the others were.
    #[error("{} of {} items could not be published", report.failed(), report.items.len())]
    Incomplete {
        /// What became of every item.
        report: Box<Report>,
        /// The first failure.
        #[source]
        source: Arc<Self>,
    },
}

/// What a filesystem can run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Data, in bytes.
    Bytes,
    /// Files and directories.
    Inodes,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Inodes => "inodes",
        })
    }
}

impl Error {
    /// Makes an [`Error::Io`] of what a system call came back with.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace { needed, available, resource: Resource::Bytes, .. } => {
                let missing_mb = needed.saturating_sub(*available).div_ceil(1_000_000);
                Some(if missing_mb > 0 {
                    format!("free {missing_mb} MB on that volume, or use a larger one; nothing there was changed")
                } else {
                    "a quota or a reserve is in the way; raise it, or use a larger volume".to_owned()
                })
            }
            Self::NoSpace { resource: Resource::Inodes, .. } => {
                Some("delete small files on that volume, or use one with more inodes".to_owned())
            }
            Self::NoSymlinks { .. } => {
                Some("use a volume with a Linux filesystem; FAT, exFAT and some object stores have no links".to_owned())
            }
            Self::TargetExists { .. } => {
                Some("name a path that is not there yet, or pass --merge to add what is missing".to_owned())
            }
            Self::Locked { .. } => {
                Some("see `vast-sync status`; stop the other instance if it hangs, then boot again".to_owned())
            }
            Self::Unfinished { path, owner: None, .. } => Some(format!(
                "if no instance is filling it any more, remove `{}` and boot again; until then the container uses its own",
                path.display()
            )),
            Self::Unfinished { .. } => {
                Some("see `vast-sync status`; the container uses its own until then; boot again later".to_owned())
            }
            Self::Foreign { path } => Some(format!(
                "rename `{}`, or create `.synced` in it if it is complete; then boot again",
                path.display()
            )),
            Self::Interrupted { .. } => Some("mount the volume and boot again".to_owned()),
            Self::NoId { .. } => Some("run `env-hash > /.env_hash` when building the image, or set ENV_ID".to_owned()),
            Self::ReadOnly { .. } => Some("mount the volume writable, or point WORKSPACE elsewhere".to_owned()),
            Self::Lost { .. } => Some("run it again: the other instance published, or has given up".to_owned()),
            Self::Incomplete { source, .. } => source.hint(),
            Self::Io { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                Some("raise the limit of open files (`ulimit -n`)".to_owned())
            }
            Self::Differs(_) => {
                Some("the source changed meanwhile, or the volume loses what is written to it; copy again".to_owned())
            }
            Self::Io { .. }
            | Self::TargetInsideSource { .. }
            | Self::SourceChanged { .. }
            | Self::NoDirectory { .. }
            | Self::InvalidId(_)
            | Self::Cancelled => None,
        }
    }
}

/// An error and its causes, in one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
