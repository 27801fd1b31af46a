//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use crate::build::{BuildProblem, EngineError};
use crate::definition::DefinitionError;
use crate::digest::Digest;
use crate::dockerfile::{Location, Problem};
use crate::extend::Refusal;
use crate::layer::LayerError;
use crate::platform::Platform;
use crate::reference::ParseReferenceError;
use crate::registry::RegistryError;

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

    // References, sources and sinks.
    /// Text that is not an image reference.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// A registry did not do what it was asked to.
    #[error("cannot {action} `{reference}`")]
    Registry {
        /// `read`, `write to`, ….
        action: &'static str,
        /// The image.
        reference: String,
        /// The cause.
        #[source]
        source: Box<RegistryError>,
    },
    /// The transport can be read but not written.
    #[error("cannot write `{reference}`: {reason}")]
    NotWritable {
        /// The image.
        reference: String,
        /// Why.
        reason: &'static str,
    },
    /// A layout or an archive has no image of this name.
    #[error("`{reference}` does not exist: {reason}")]
    NoImage {
        /// The image.
        reference: String,
        /// What was looked for, and what there is instead.
        reason: String,
    },
    /// The image exists, but not for this platform.
    #[error("`{reference}` has no image for {wanted}; {}", existing_platforms(existing))]
    NoPlatform {
        /// The image.
        reference: String,
        /// The platform asked for.
        wanted: Platform,
        /// Those that exist.
        existing: Vec<Platform>,
    },
    /// Two images that are for different platforms cannot be compared.
    #[error(
        "`{before}` is for {} and `{after}` for {}: they have no platform in common",
        listed(before_platforms),
        listed(after_platforms)
    )]
    NoCommonPlatform {
        /// One image.
        before: String,
        /// Its platforms.
        before_platforms: Vec<Platform>,
        /// The other.
        after: String,
        /// Its platforms.
        after_platforms: Vec<Platform>,
    },
    /// A manifest, index or configuration that cannot be understood.
    #[error("the {what} of `{reference}` cannot be used")]
    Malformed {
        /// `manifest`, `index`, `configuration`, ….
        what: &'static str,
        /// The image.
        reference: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Content that is not what its digest or size promised, or could not be read to its end.
    #[error("cannot read `{reference}`")]
    Content {
        /// The image.
        reference: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The name has a digest, and the image another one.
    #[error("`{reference}` cannot name this image, whose digest is {actual}")]
    OtherDigest {
        /// The name.
        reference: String,
        /// The image's digest.
        actual: Digest,
    },
    /// Two images for one platform cannot be in one index.
    #[error("`{first}` and `{second}` are both for {platform}")]
    SamePlatform {
        /// The platform.
        platform: String,
        /// One image.
        first: String,
        /// The other.
        second: String,
    },
    /// Some tags were moved, others not.
    #[error("{}the tag of `{failed}` could not be moved", moved_before(moved))]
    Promotion {
        /// Those that were moved.
        moved: Vec<String>,
        /// The first that was not.
        failed: String,
        /// The cause.
        #[source]
        source: Box<Error>,
    },
    /// Nothing is known about what a tag named before.
    #[error("cannot roll `{reference}` back: {reason}")]
    NoHistory {
        /// The tag.
        reference: String,
        /// Why.
        reason: String,
    },
    /// What a tag named before is no longer whole.
    #[error("cannot roll `{reference}` back to {previous}: {what} is no longer in the registry")]
    PreviousGone {
        /// The tag.
        reference: String,
        /// What it named before.
        previous: Digest,
        /// What is missing.
        what: String,
    },
    /// Somebody else moved a tag at the same time.
    #[error("somebody else moved `{reference}`, which {}, not {expected}", names(*actual))]
    Raced {
        /// The tag.
        reference: String,
        /// What it should have named.
        expected: Digest,
        /// What it names.
        actual: Option<Digest>,
    },
    /// The work was abandoned because the program is ending.
    #[error("the work was interrupted")]
    Interrupted,

    // Building.
    /// A Dockerfile that cannot be parsed.
    #[error("{at}: {problem}")]
    Dockerfile {
        /// Where.
        at: Location,
        /// What is wrong there.
        problem: Problem,
    },
    /// An instruction that cannot be carried out.
    #[error("{at}: {problem}")]
    Instruction {
        /// Where.
        at: Location,
        /// Why.
        #[source]
        problem: Box<BuildProblem>,
    },
    /// A request to build that cannot be understood, before any instruction.
    #[error("cannot build `{}`: {reason}", folder.display())]
    Request {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// An `image.toml` that cannot be used.
    #[error("cannot use `{}`", path.display())]
    Definition {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<DefinitionError>,
    },
    /// A layer that cannot be used.
    #[error("cannot use layer {digest} of `{reference}`")]
    Layer {
        /// The image.
        reference: String,
        /// The layer's digest.
        digest: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A folder cannot go on top of an image.
    #[error("cannot put `{}` on the image: {problem}", overlay.display())]
    Overlay {
        /// The folder.
        overlay: PathBuf,
        /// Why.
        #[source]
        problem: Box<BuildProblem>,
    },
    /// An overlay needs more than is recorded with an image.
    #[error("cannot extend `{reference}`")]
    Extend {
        /// The image.
        reference: String,
        /// What it needs.
        #[source]
        refusal: Box<Refusal>,
    },
    /// The base of an image is not known.
    #[error("cannot tell on which base `{reference}` is: {reason}")]
    NoBase {
        /// The image.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// The environment of an image could not be determined.
    #[error("cannot determine the image's environment")]
    Environment(#[from] vast_envhash::Error),
    /// Another program that was to build did not.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Error {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(error) => error.hint(),
            Self::Registry { source, .. } => source.hint(),
            Self::NoPlatform { existing, .. } => {
                existing.first().map(|platform| format!("choose another image, or build for --platform {platform}"))
            }
            Self::OtherDigest { .. } => Some("leave the digest out of the name that is written".to_owned()),
            Self::NotWritable { .. } => Some("write to a registry, oci: or oci-archive:".to_owned()),
            Self::SamePlatform { .. } => Some("leave one of them out, or merge them under different tags".to_owned()),
            Self::Promotion { .. } => {
                Some("run the same again: what is there already is not sent again, and the other tags follow".to_owned())
            }
            Self::NoHistory { .. } => Some(
                "history begins with the next publication by this program; name an older image by its digest with `promote`"
                    .to_owned(),
            ),
            Self::PreviousGone { .. } => Some("publish it again, from where it is still whole".to_owned()),
            Self::Raced { .. } => Some("look at what it names now, and run the same again if it is still wanted".to_owned()),
            Self::Content { .. } | Self::Malformed { .. } => {
                Some("the content was altered or badly made: `vast-imagegen verify --deep` says what else is wrong with it".to_owned())
            }
            Self::Dockerfile { problem, .. } => problem.hint(),
            Self::Instruction { problem, .. } | Self::Overlay { problem, .. } => problem.hint(),
            Self::Definition { source, .. } => source.hint(),
            Self::Engine(error) => error.hint(),
            Self::Extend { .. } => Some("with --index its layers are read once, and the path indexes kept with it".to_owned()),
            Self::NoBase { .. } => Some("name the base with --from".to_owned()),
            _ => None,
        }
    }

    /// The error behind a failed read of a blob: the source's own where it passed one through [`io::Error`].
    #[must_use]
    pub fn from_read(error: io::Error, reference: &str) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self::Content { reference: reference.to_owned(), source },
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn moved_before(moved: &[String]) -> String {
    if moved.is_empty() { String::new() } else { format!("`{}` moved, but ", moved.join("`, `")) }
}

fn names(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "names nothing".to_owned(), |digest| format!("names {digest}"))
}

fn existing_platforms(existing: &[Platform]) -> String {
    if existing.is_empty() {
        return "it has none at all".to_owned();
    }
    format!("it has {}", listed(existing))
}

fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform".to_owned();
    }
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.join(", ")
}
