//! Where images are written to: a registry, an OCI layout or an archive. Names appear last, when all they name is there.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use crate::Error;
use crate::digest::Digest;
use crate::registry::RegistryImage;
use crate::source::{ImageSource, RawManifest};

/// Told how many bytes of a blob have gone out so far, for progress bars. An upload that starts again counts from nothing again.
pub type BytesSent<'a> = &'a (dyn Fn(u64) + Sync);

/// Where a blob's bytes come from. All three can be read again, so an interrupted upload can be.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Bytes in memory: configurations, small records.
    Bytes(&'a [u8]),
    /// A file: a layer that was just built.
    File(&'a Path),
    /// Another image's source: a layer of the base.
    Source(&'a dyn ImageSource),
}

impl Content<'_> {
    /// What to name when the content cannot be read: its own source, or the target that it was for.
    pub(crate) fn blame(&self, target: &str) -> String {
        match self {
            Self::Source(source) => source.reference(),
            Self::File(path) => path.display().to_string(),
            Self::Bytes(_) => target.to_owned(),
        }
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Source(source) => f.debug_tuple("Source").field(&source.reference()).finish(),
        }
    }
}

/// What it took to have a blob in a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was there.
    Present,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// Its bytes were written.
    Written,
}

/// A place that takes an image's blobs and manifests, and at last its name.
///
/// What was put but never named may disappear again when the sink is dropped.
#[async_trait]
pub trait ImageSink: Send + Sync {
    /// The reference as the user would write it, for messages.
    fn reference(&self) -> String;

    /// Whether the blob is there already.
    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error>;

    /// Makes sure that the blob is there: without moving it where that is possible, else streaming it from `content`.
    /// A reader never finds it half-written under its digest.
    async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: Content<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Placed, Error>;

    /// Writes a manifest under its digest. All that it names must be there already.
    async fn put_manifest(&self, manifest: &RawManifest) -> Result<(), Error>;

    /// Writes artifact manifests that have `subject` as theirs, so that whoever has the subject finds them. All that they
    /// name, and the subject, must be there already.
    async fn attach(&self, subject: &Digest, referrers: &[RawManifest]) -> Result<(), Error>;

    /// Gives the manifest, which is there already, the name of [`reference`](Self::reference). The last step of publishing.
    async fn name(&self, manifest: &RawManifest) -> Result<(), Error>;

    /// The image as one of a registry, where names have a [history](crate::history).
    fn registry(&self) -> Option<&RegistryImage> {
        None
    }

    /// Cleans up what was begun and not completed, as well as it can. Called when publishing is over, however it ended.
    async fn settle(&self) {}
}
