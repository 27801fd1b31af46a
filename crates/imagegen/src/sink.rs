//! Where images are written to: a registry, an OCI layout or an archive. Names appear last, when all they name is there.

use std::path::Path;

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use crate::Error;
use crate::source::{ImageSource, RawManifest};

/// Told how many bytes of a blob have gone out, for progress bars.
pub type BytesSent<'a> = &'a (dyn Fn(u64) + Sync);

/// A place that takes an image's blobs and manifests, and at last its name.
#[async_trait]
pub trait ImageSink: Send + Sync {
    /// The reference as the user would write it, for messages.
    fn reference(&self) -> String;

    /// Whether the blob is there already.
    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error>;

    /// Writes the blob in `file` as `descriptor`, streaming; a reader never finds it half-written under its digest.
    async fn put_blob_file(&self, descriptor: &Descriptor, file: &Path, sent: BytesSent<'_>) -> Result<(), Error>;

    /// Takes a blob over from `source`: without moving it where both allow that, else streaming.
    async fn put_blob_from(
        &self,
        descriptor: &Descriptor,
        source: &dyn ImageSource,
        sent: BytesSent<'_>,
    ) -> Result<(), Error>;

    /// Writes a manifest under its digest. All that it names must be there already.
    async fn put_manifest(&self, manifest: &RawManifest) -> Result<(), Error>;

    /// Gives the manifest, which is there already, the name of [`reference`](Self::reference). The last step of publishing.
    async fn name(&self, manifest: &RawManifest) -> Result<(), Error>;
}
