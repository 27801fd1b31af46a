//! Facts from registries: manifests, configurations and records; layers only where a record is missing.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::Mutex;
use vast_envhash::Inventory;

use super::facts::Side;
use super::plan::Indexes;
use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, Lower, Stack, StackLayer, layers_of, trees};
use crate::digest::Digest;
use crate::layer::IndexCache;
use crate::manifest::{config_of, platform_of};
use crate::record::{Attachment, RecordedIndexes, environment, path_indexes, recorded_environment};
use crate::source::{Image, ImageSource};

/// What is known of one platform of one image.
pub(super) struct Gathered {
    pub(super) source: Arc<dyn ImageSource>,
    pub(super) image: Image,
    pub(super) layers: Vec<StackLayer>,
    pub(super) recorded: RecordedIndexes,
    pub(super) side: Side,
}

/// What is read once for all images of a command.
pub(super) struct Gatherer {
    pub(super) cache: IndexCache,
    pub(super) work: std::path::PathBuf,
    environments: Mutex<HashMap<Digest, Option<Inventory>>>,
    /// What was found out by reading layers, to be attached to the images that were read.
    pub(super) read: Mutex<Vec<Read>>,
}

/// Records that were missing.
pub(super) struct Read {
    pub(super) reference: String,
    pub(super) attachment: Attachment,
}

impl Gatherer {
    pub(super) fn new(cache: IndexCache, work: std::path::PathBuf) -> Self {
        Self { cache, work, environments: Mutex::default(), read: Mutex::default() }
    }

    /// All about one image. Layers without a path index are streamed for their headers; then the indexes are to be attached.
    ///
    /// What the layers amount to that it has in common with the old base is kept as well; `alike` may have it already.
    pub(super) async fn image(
        &self,
        source: &Arc<dyn ImageSource>,
        image: Image,
        old_base: &[Digest],
        alike: Option<&Side>,
    ) -> Result<Gathered, Error> {
        let reference = source.reference();
        let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(source)), &reference)?;
        let mut recorded = RecordedIndexes::of(source, &image).await?;
        recorded.load(&layers, &self.cache).await?;
        let diff_ids = diff_ids(&layers);
        let lower = diff_ids.iter().zip(old_base).take_while(|(one, other)| one == other).count();
        let known = alike.and_then(|alike| alike.lower_of(&diff_ids)).filter(|(known, _)| *known <= lower);
        let (below, tree) = trees(&layers, known, lower, &self.cache).await?;
        let mut indexes: Indexes = Vec::new();
        for layer in &layers {
            indexes.push(layer.index(&self.cache).await?);
        }
        if !layers.iter().all(|layer| recorded.has(layer)) {
            let attachment = path_indexes(&image.raw, &layers, &recorded, &self.cache).await?;
            let read = attachment.map(|attachment| Read { reference: reference.clone(), attachment });
            self.read.lock().await.extend(read);
        }
        let side = Side { config: config_of(&image, &reference)?, diff_ids, indexes, tree, lower: (lower, below) };
        Ok(Gathered { source: Arc::clone(source), image, layers, recorded, side })
    }

    /// The environment of an image: as recorded, or from its layers.
    pub(super) async fn environment(
        &self,
        source: &Arc<dyn ImageSource>,
        image: &Image,
        layers: &[StackLayer],
    ) -> Result<Option<Inventory>, Error> {
        let digest = image.raw.digest();
        let mut known = self.environments.lock().await;
        if let Some(known) = known.get(&digest) {
            return Ok(known.clone());
        }
        let mut found = recorded_environment(&**source, image).await?;
        if found.is_none() {
            let platform = platform_of(&image.config);
            let mut stack = Stack::new(layers.to_vec());
            let inventory = envhash::inventory(&mut stack, &self.cache, &platform, &self.work).await?;
            let attachment = environment(&image.raw, &inventory)?;
            let read = Read { reference: source.reference(), attachment };
            self.read.lock().await.push(read);
            found = Some(inventory);
        }
        known.insert(digest, found.clone());
        Ok(found)
    }
}

impl Side {
    /// The old base of `image`, whose first layers it has: what they amount to is known from the image.
    pub(super) fn base_of(image: &Self, config: Map<String, Value>, diff_ids: Vec<Digest>) -> Self {
        let (layers, tree) = image.lower.clone();
        Self { config, diff_ids, indexes: image.indexes[..layers].to_vec(), lower: (layers, tree.clone()), tree }
    }

    /// What its lower layers amount to, if an image with these diff ids has the same.
    fn lower_of(&self, diff_ids: &[Digest]) -> Option<Lower> {
        let (count, _) = self.lower;
        (self.diff_ids.get(..count)? == diff_ids.get(..count)?).then(|| self.lower.clone())
    }
}

pub(super) fn diff_ids(layers: &[StackLayer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id).collect()
}
