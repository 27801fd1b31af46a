//! Where images are read from: a registry, an OCI layout, an archive, or memory, behind one lazy view.

use std::io::Read;

use async_trait::async_trait;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};

use crate::Error;
use crate::digest::Digest;
use crate::platform::Platform;

/// A manifest as its source holds it: the bytes, which decide the digest, and their media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Exactly the stored bytes.
    pub bytes: Vec<u8>,
    /// The stored media type: an image manifest's or an index's, OCI's or Docker's.
    pub media_type: String,
}

impl RawManifest {
    /// The digest that names this manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// One platform's image: its manifest and its configuration. Layers stay where they are until they are opened.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest as stored.
    pub raw: RawManifest,
    /// The manifest, parsed. Docker's schema 2 manifests have the same fields.
    pub manifest: ImageManifest,
    /// The configuration as stored; its digest is the manifest's `config`.
    pub raw_config: Vec<u8>,
    /// The configuration, parsed.
    pub config: ImageConfiguration,
}

/// The content of a blob. Reading fails at the end if digest or size are not those of its descriptor.
pub type BlobReader = Box<dyn Read + Send>;

/// The repository of a registry that a source reads from: a sink in the same registry mounts blobs instead of moving them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host (and port) that answers for the registry.
    pub api_host: String,
    /// The repository.
    pub repository: String,
}

/// A place that holds one named image (perhaps for several platforms) and its blobs.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// The reference as the user would write it, for messages.
    fn reference(&self) -> String;

    /// The top manifest: of an index where the name has one, else of the image.
    async fn top(&self) -> Result<RawManifest, Error>;

    /// A manifest that an index names, verified against its descriptor.
    async fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error>;

    /// The image for `platform`.
    ///
    /// # Errors
    /// Where there is none, [`Error::NoPlatform`] names the platforms that exist.
    async fn image(&self, platform: &Platform) -> Result<Image, Error> {
        crate::manifest::select(self, platform).await
    }

    /// The size in bytes that the source has stored for a blob, without reading it; `None` where it lacks the blob.
    async fn blob_size(&self, descriptor: &Descriptor) -> Result<Option<u64>, Error>;

    /// Opens a blob for blocking reads (call it from a blocking thread), verified against its descriptor as it is read.
    ///
    /// Nothing is fetched before the first read, so any number of blobs may be open at once.
    async fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader, Error>;

    /// The descriptors of the artifacts that refer to the manifest `subject`, of one type or of all: signatures, bills of
    /// materials, and the [records](crate::record) of this program. A place that keeps none has none.
    async fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let _ = (subject, artifact_type);
        Ok(Vec::new())
    }

    /// Where in a registry the blobs are, if they are in one.
    fn origin(&self) -> Option<Origin> {
        None
    }
}
