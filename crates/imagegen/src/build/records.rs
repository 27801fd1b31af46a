//! What is recorded about a finished image.

use std::collections::BTreeSet;
use std::path::Path;

use vast_envhash::Inventory;

use super::output::BuiltImage;
use super::stack::{LayerBlob, Stack, StackLayer};
use super::{Context, envhash};
use crate::Error;
use crate::environment::touching;
use crate::layer::{IndexCache, LayerIndex, NodeKind};
use crate::platform::Platform;
use crate::record::{RecordedIndexes, environment, path_indexes};

impl BuiltImage {
    /// Records the path indexes of the layers, as far as they are made here, recorded already, or in `cache`.
    pub(crate) async fn record_indexes(&mut self, recorded: &RecordedIndexes, cache: &IndexCache) -> Result<(), Error> {
        let attachment = path_indexes(&self.manifest, self.layers(), recorded, cache).await?;
        if let Some(attachment) = attachment {
            self.attach(attachment);
        }
        Ok(())
    }

    /// Records the environment, where it is known.
    pub(crate) fn record_environment(&mut self, inventory: Option<&Inventory>) -> Result<(), Error> {
        if let Some(inventory) = inventory {
            let attachment = environment(&self.manifest, inventory)?;
            self.attach(attachment);
        }
        Ok(())
    }
}

impl StackLayer {
    /// Whether a layer of this build certainly leaves the environment as it is, whatever is below it.
    pub(super) fn leaves_environment(&self) -> bool {
        let LayerBlob::File(file) = &self.blob else { return false };
        LayerIndex::decode(&file.index[..]).is_ok_and(|(index, _)| touching(&index, None).is_empty())
    }
}

/// What the image at the bottom of a build by another engine says about itself.
#[derive(Default)]
pub(super) struct Stated {
    pub(super) indexes: RecordedIndexes,
    pub(super) environment: Option<Inventory>,
}

/// The environment of an image whose topmost layers, `own` of them, another engine made on what `below` is stated of.
///
/// It is the recorded one where the new layers leave that as it is. Where they change it, or record a hash of which nothing
/// is known, it is taken from the layers, with the help of the indexes that are recorded: they are loaded into `cache`. Otherwise
/// nobody asked for it, and no layer of a base is read.
pub(super) async fn environment_of(
    context: &Context<'_>,
    platform: &Platform,
    layers: &[StackLayer],
    own: usize,
    below: &mut Stated,
    cache: &IndexCache,
) -> Result<Option<Inventory>, Error> {
    let new = &layers[layers.len() - own..];
    let hash = recorded_hash(context, new).await?;
    let kept = below.environment.take();
    let inventory = match (kept, &hash) {
        (Some(inventory), _) if new.iter().all(StackLayer::leaves_environment) => inventory,
        (None, None) => return Ok(None),
        _ => {
            below.indexes.load(layers, cache).await?;
            let mut stack = Stack::new(layers.to_vec());
            let installed = envhash::installed(&mut stack, cache, platform, context.work).await?;
            if let Some(packages) = installed.of_layer() {
                below.indexes.note_packages(&packages)?;
            }
            match installed.inventory {
                Ok(inventory) => inventory,
                Err(error) => {
                    context.progress.warning(&format!("the environment for {platform} is not recorded: {error}"));
                    return Ok(None);
                }
            }
        }
    };
    let taken = inventory.hash.to_string();
    if let Some(hash) = hash.filter(|hash| *hash != taken) {
        let file = envhash::FILE;
        context.progress.warning(&format!("`{file}` for {platform} says `{hash}`, but the environment is `{taken}`"));
    }
    Ok(Some(inventory))
}

/// What the topmost of `layers` that has one says in `/.env_hash`. Only layers of this build are read.
async fn recorded_hash(context: &Context<'_>, layers: &[StackLayer]) -> Result<Option<String>, Error> {
    /// A hash, with room for what somebody adds to it.
    const MOST_BYTES: u64 = 4096;
    let mut stack = Stack::new(layers.to_vec());
    // A hard link to a file of the base has no target here; what the whole image amounts to is for others to judge.
    let Ok(tree) = stack.tree(&context.cache).await else { return Ok(None) };
    let place = match tree.get(Path::new(envhash::FILE.trim_start_matches('/'))).map(|node| &node.kind) {
        Some(NodeKind::File { size, content }) if *size <= MOST_BYTES => *content,
        _ => return Ok(None),
    };
    let spool = stack.contents(&BTreeSet::from([place]), &context.cache, context.work).await?;
    let Some(path) = spool.path(place) else { return Ok(None) };
    let bytes = std::fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_owned(), source })?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}
