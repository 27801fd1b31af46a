//! Environment inventories as records.

use std::collections::BTreeMap;

use vast_envhash::Inventory;

use super::{Attachment, ENVIRONMENT, Place, Stored, unless_gone};
use crate::Error;
use crate::artifact;
use crate::manifest::{describe, malformed, read_small};
use crate::source::{Image, ImageSource, RawManifest};

/// The largest inventory that is read, in bytes: a hundred thousand packages.
const MAX_INVENTORY_BYTES: u64 = 16 << 20;

/// The inventory that is recorded with `image`, if there is one that can be used.
pub(crate) async fn recorded_environment(source: &dyn ImageSource, image: &Image) -> Result<Option<Inventory>, Error> {
    let reference = source.reference();
    for entry in source.referrers(&image.raw.digest(), Some(ENVIRONMENT)).await? {
        let Some(artifact) = artifact::fetch(source, &entry).await? else { continue };
        let Ok(manifest) = artifact::parse(&artifact, ENVIRONMENT, &reference) else { continue };
        let [blob] = manifest.layers().as_slice() else { continue };
        let read = read_small(source, blob, MAX_INVENTORY_BYTES, "environment inventory").await;
        let Some(bytes) = unless_gone(read, source, blob).await? else { continue };
        match serde_json::from_slice::<Inventory>(&bytes) {
            // One that contradicts itself was edited, or is of a scheme that is not known here.
            Ok(inventory) if inventory.scheme == vast_envhash::SCHEME && inventory.recompute() == inventory.hash => {
                return Ok(Some(inventory));
            }
            _ => tracing::debug!(%reference, digest = %entry.digest(), "an environment inventory cannot be used"),
        }
    }
    Ok(None)
}

/// The record of `inventory` for the image of the manifest `subject`.
pub(crate) fn environment(subject: &RawManifest, inventory: &Inventory) -> Result<Attachment, Error> {
    let bytes = serde_json::to_vec(inventory)
        .map_err(|error| malformed("environment inventory", "this build", &error.to_string()))?;
    let descriptor = describe(ENVIRONMENT, &bytes);
    let annotations = BTreeMap::from([("ai.vast.environment.hash".to_owned(), inventory.hash.to_string())]);
    let manifest = artifact::manifest(ENVIRONMENT, subject, std::slice::from_ref(&descriptor), &annotations)?;
    let place = Place::Memory(bytes.into());
    Ok(Attachment { manifest, blobs: vec![Stored { descriptor, place }] })
}
