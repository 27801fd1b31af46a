//! Why an instruction cannot be carried out.

use std::io;
use std::path::PathBuf;

use crate::Error;
use crate::dockerfile::expand::ExpandError;
use crate::layer::LayerError;

/// What stops an instruction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildProblem {
    /// A variable's use that cannot be evaluated.
    #[error(transparent)]
    Expansion(#[from] ExpandError),
    /// A source that is not in its context.
    #[error("`{path}` does not exist in {context}")]
    NoSource {
        /// The source as written, variables expanded.
        path: String,
        /// The context, for people.
        context: String,
    },
    /// A source that exists but is kept out.
    #[error("`{path}` is excluded from {context} by its .dockerignore")]
    Ignored {
        /// The source as written, variables expanded.
        path: String,
        /// The context, for people.
        context: String,
    },
    /// A source's path leads out of its context.
    #[error("`{path}` leads out of {context}: `{}` points to `{}`", link.display(), target.display())]
    LeavesContext {
        /// The source as written, variables expanded.
        path: String,
        /// The context, for people.
        context: String,
        /// The link that leads out.
        link: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// A source whose path has `..` above the context.
    #[error("`{path}` lies outside {context}")]
    OutsideContext {
        /// The source as written, variables expanded.
        path: String,
        /// The context, for people.
        context: String,
    },
    /// A link inside a copied tree that climbs above the root of the image.
    #[error("`{}` points to `{}`, which climbs above the root of the image", link.display(), target.display())]
    ClimbingLink {
        /// The link, in its context.
        link: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// A file that cannot be part of a layer.
    #[error("`{}` is {what}, which cannot be copied into an image", path.display())]
    NotCopyable {
        /// The file, in its context.
        path: PathBuf,
        /// `a socket`, ….
        what: &'static str,
    },
    /// An archive that unpacks to more than it may.
    #[error("`{}` cannot be unpacked", path.display())]
    Excess {
        /// The archive.
        path: PathBuf,
        /// The bound.
        #[source]
        source: LayerError,
    },
    /// A file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pattern that ends inside a class or an escape.
    #[error("the pattern `{0}` does not end")]
    BadPattern(String),
    /// Several sources into what is not a directory.
    #[error("several files cannot be copied to `{0}`, which does not end with a slash")]
    NotADirectory(String),
    /// Something in the image is in the way.
    #[error("cannot put `{}` over `{}`: {why}", source_path.display(), path.display())]
    InTheWay {
        /// What was to be copied.
        source_path: PathBuf,
        /// What is there, from the root of the image.
        path: PathBuf,
        /// What the difficulty is.
        why: &'static str,
    },
    /// A destination that cannot be reached inside the image.
    #[error("`{}` cannot be reached in the image: {why}", path.display())]
    Unreachable {
        /// The destination.
        path: PathBuf,
        /// What the difficulty is.
        why: String,
    },
    /// An owner that the image does not know.
    #[error("{0} does not exist in the image")]
    NoOwner(String),
    /// A flag's value that cannot be used.
    #[error("`{flag}={value}`: {why}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A value that cannot be used.
    #[error("`{value}` {why}")]
    Value {
        /// The value, variables expanded.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Something that takes another engine.
    #[error("the native engine cannot {0}")]
    NeedsEngine(Obstacle),
    /// Something that takes an engine, and none is there.
    #[error("the native engine cannot {0}, and no engine that can is installed")]
    NoEngine(Obstacle),
    /// An image that the engine has no way to name.
    #[error("{0}")]
    Unnamed(String),
    /// Something that no engine here does.
    #[error("{0}")]
    Refused(String),
    /// A process that another engine ran.
    #[error("the command failed: {status} ({said})")]
    Process {
        /// How it ended.
        status: String,
        /// The last line that it printed.
        said: String,
    },
    /// An image, a layer or a file failed.
    #[error(transparent)]
    Image(#[from] Box<Error>),
}

/// What the native engine leaves to others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A `RUN` other than that of the environment hash.
    #[error("run `{0}`: it starts no process")]
    Run(String),
    /// `ADD` of a URL or a repository.
    #[error("fetch `{0}`: it adds local files only")]
    Remote(String),
    /// A flag that changes what is copied.
    #[error("honour `{0}`")]
    Flag(&'static str),
    /// An image built from a directory.
    #[error("build FROM `{0}`, which is a directory")]
    DirectoryBase(String),
}

impl BuildProblem {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsEngine(_) => Some(
                "`--engine buildah` and `--engine buildkit` run processes; `--engine auto` takes what is installed"
                    .to_owned(),
            ),
            Self::LeavesContext { .. } | Self::OutsideContext { .. } => {
                Some("copy the file into the folder, or pass its directory with --build-context NAME=DIR".to_owned())
            }
            Self::ClimbingLink { .. } => {
                Some("let it point inside the image: with an absolute path, or fewer `..`".to_owned())
            }
            Self::Excess { source, .. } if source.is_too_large() => {
                Some("if that is right, allow it with --max-archive SIZE".to_owned())
            }
            Self::Unnamed(_) => Some(
                "put it into a registry, or into a layout with `vast-imagegen copy`, and give that a name: \
                 --build-context NAME=oci:DIR, FROM NAME"
                    .to_owned(),
            ),
            Self::NoEngine(_) => {
                Some("install buildah, or docker with buildx, or name a builder with --builder".to_owned())
            }
            Self::NotADirectory(_) => Some("end the destination with `/`".to_owned()),
            Self::NoOwner(_) => Some("use numbers: --chown=UID:GID".to_owned()),
            Self::Image(error) => match &**error {
                Error::Layer { source, .. } if source.is_too_large() => {
                    Some("if that is right, allow it with --max-layer SIZE".to_owned())
                }
                error => error.hint(),
            },
            _ => None,
        }
    }
}
