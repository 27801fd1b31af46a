//! One image of a registry, as a source and a sink.

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use super::client::Client;
use crate::Error;
use crate::reference::RegistryReference;
use crate::sink::{BytesSent, Content, ImageSink, Placed};
use crate::source::{BlobReader, ImageSource, RawManifest};

/// One image of a registry.
#[derive(Debug)]
pub struct RegistryImage {
    client: Arc<Client>,
    reference: RegistryReference,
}

impl RegistryImage {
    /// The image that `reference` names, reached through `client`.
    #[must_use]
    pub fn new(client: Arc<Client>, reference: RegistryReference) -> Self {
        Self { client, reference }
    }
}

#[async_trait]
impl ImageSource for RegistryImage {
    fn reference(&self) -> String {
        self.reference.to_string()
    }

    async fn top(&self) -> Result<RawManifest, Error> {
        Err(Error::Interrupted)
    }

    async fn manifest(&self, _: &Descriptor) -> Result<RawManifest, Error> {
        Err(Error::Interrupted)
    }

    async fn blob_size(&self, _: &Descriptor) -> Result<Option<u64>, Error> {
        Err(Error::Interrupted)
    }

    async fn open_blob(&self, _: &Descriptor) -> Result<BlobReader, Error> {
        Err(Error::Interrupted)
    }
}

#[async_trait]
impl ImageSink for RegistryImage {
    fn reference(&self) -> String {
        self.reference.to_string()
    }

    async fn has_blob(&self, _: &Descriptor) -> Result<bool, Error> {
        Err(Error::Interrupted)
    }

    async fn put_blob(&self, _: &Descriptor, _: Content<'_>, _: BytesSent<'_>) -> Result<Placed, Error> {
        Err(Error::Interrupted)
    }

    async fn put_manifest(&self, _: &RawManifest) -> Result<(), Error> {
        Err(Error::Interrupted)
    }

    async fn name(&self, _: &RawManifest) -> Result<(), Error> {
        Err(Error::Interrupted)
    }
}
