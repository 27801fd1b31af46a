//! From a reference to the place that it names: [`open_source`] to read, [`open_sink`] to write.

use std::sync::Arc;

use crate::Error;
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
    match reference {
        Reference::Registry(image) => Ok(Box::new(RegistryImage::new(Arc::clone(&options.registry), image.clone()))),
        _ => Err(Error::NotWritable { reference: reference.to_string(), reason: "not yet" }),
    }
}

/// Opens the place that `reference` names for writing. Nothing appears under the name before [`ImageSink::name`].
pub async fn open_sink(reference: &Reference, options: &TransportOptions) -> Result<Box<dyn ImageSink>, Error> {
    match reference {
        Reference::Registry(image) => Ok(Box::new(RegistryImage::new(Arc::clone(&options.registry), image.clone()))),
        _ => Err(Error::NotWritable { reference: reference.to_string(), reason: "not yet" }),
    }
}
