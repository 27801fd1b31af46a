//! The environment of a published image: what its layers amount to for the environment hash.
//!
//! Of the layers only headers are read, and of their files those that the hash may look at; nothing is unpacked or run.

use std::sync::Arc;

use vast_envhash::Inventory;

use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, Stack, layers_of};
use crate::layer::IndexCache;
use crate::platform::Platform;
use crate::source::ImageSource;

/// Takes the inventory of an image for `platform`.
///
/// # Errors
/// The image cannot be had or has no such platform; what is wrong with its environment, in the words of [`vast_envhash`].
pub async fn inventory(source: &Arc<dyn ImageSource>, platform: &Platform) -> Result<Inventory, Error> {
    let work = tempfile::tempdir().map_err(|source| Error::File {
        action: "create a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let image = source.image(platform).await?;
    let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(source)), &source.reference())?;
    let cache = IndexCache::new(Some(&work.path().join("indexes")));
    envhash::inventory(&mut Stack::new(layers), &cache, platform, work.path()).await
}
