//! From a reference to the place that it names: [`open_source`] to read, [`open_sink`] to write.

use std::sync::Arc;

use crate::Error;
use crate::archive::{DockerArchive, OciArchiveSink};
use crate::layout::{LayoutSink, LayoutSource};
use crate::reference::Reference;
use crate::registry::{Client, RegistryImage};
use crate::sink::ImageSink;
use crate::source::ImageSource;

/// What the transports share: one registry client, so that its connections, tokens and limits are shared as well.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// Speaks to registries.
    pub registry: Arc<Client>,
}

impl TransportOptions {
    /// Options around one registry client.
    #[must_use]
    pub fn new(registry: Client) -> Self {
        Self { registry: Arc::new(registry) }
    }
}

/// Opens the image that `reference` names for reading. A registry is not asked before the first read.
pub async fn open_source(reference: &Reference, options: &TransportOptions) -> Result<Box<dyn ImageSource>, Error> {
    Ok(match reference {
        Reference::Registry(image) => Box::new(RegistryImage::new(Arc::clone(&options.registry), image.clone())),
        Reference::OciLayout(file) => Box::new(LayoutSource::open_folder(file).await?),
        Reference::OciArchive(file) => Box::new(LayoutSource::open_archive(file).await?),
        Reference::DockerArchive(file) => Box::new(DockerArchive::open(file).await?),
    })
}

/// Opens the place that `reference` names for writing. Nothing appears under the name before [`ImageSink::name`].
///
/// # Errors
/// The place cannot be written to, or the transport cannot be written at all.
#[allow(clippy::unused_async, reason = "the counterpart of `open_source`; a transport that has to ask first may come")]
pub async fn open_sink(reference: &Reference, options: &TransportOptions) -> Result<Box<dyn ImageSink>, Error> {
    Ok(match reference {
        Reference::Registry(image) => Box::new(RegistryImage::new(Arc::clone(&options.registry), image.clone())),
        Reference::OciLayout(file) => Box::new(LayoutSink::new(file)?),
        Reference::OciArchive(file) => Box::new(OciArchiveSink::new(file)?),
        Reference::DockerArchive(_) => {
            let reason = "Docker's archives can be read, but keep no digests to publish under";
            return Err(Error::NotWritable { reference: reference.to_string(), reason });
        }
    })
}
