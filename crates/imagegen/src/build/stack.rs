//! A stack of layers, wherever their blobs are: what an image or a stage consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;

use crate::Error;
use crate::digest::Digest;
use crate::layer::spool::Spool;
use crate::layer::{ContentRef, IndexCache, LayerError, LayerFile, LayerIndex, NodeKind, Tree};
use crate::manifest;
use crate::source::{BlobReader, Image, ImageSource};

/// Layers that are streamed for their headers at once.
const PARALLEL_INDEXES: usize = 4;

/// What the layers of an image may hold together: an image may have thousands of layers, each within its own bounds.
pub(crate) const MAX_ENTRIES: usize = 8_000_000;

/// Where a layer's blob is.
#[derive(Clone)]
pub(crate) enum LayerBlob {
    /// In the image that it came with.
    Source(Arc<dyn ImageSource>),
    /// In a file of this build.
    File(Arc<LayerFile>),
}

/// One layer.
#[derive(Clone)]
pub(crate) struct StackLayer {
    pub descriptor: Descriptor,
    pub diff_id: Digest,
    pub blob: LayerBlob,
}

/// Layers from the bottom up, and what they amount to once somebody asked.
#[derive(Clone, Default)]
pub(crate) struct Stack {
    pub layers: Vec<StackLayer>,
    tree: Option<Tree>,
}

impl StackLayer {
    /// A layer that was just written.
    pub(crate) fn built(file: LayerFile) -> Self {
        Self {
            descriptor: manifest::descriptor(file.media_type, file.digest, file.size_bytes),
            diff_id: file.diff_id,
            blob: LayerBlob::File(Arc::new(file)),
        }
    }

    /// The image that the layer is of, for messages.
    pub(crate) fn reference(&self) -> String {
        match &self.blob {
            LayerBlob::Source(source) => source.reference(),
            LayerBlob::File(_) => "this build".to_owned(),
        }
    }

    pub(super) async fn open(&self) -> Result<BlobReader, Error> {
        match &self.blob {
            LayerBlob::Source(source) => source.open_blob(&self.descriptor).await,
            LayerBlob::File(layer) => {
                let path = layer.file.to_path_buf();
                let file = File::open(&path).map_err(|source| Error::File { action: "read", path, source })?;
                Ok(Box::new(file))
            }
        }
    }

    /// The error that says which layer cannot be used.
    pub(crate) fn failed(&self, error: LayerError) -> Error {
        match error {
            LayerError::Io(error) => Error::from_read(error, &self.reference()),
            source => {
                Error::Layer { reference: self.reference(), digest: self.descriptor.digest().to_string(), source }
            }
        }
    }

    pub(crate) async fn index(&self, cache: &IndexCache) -> Result<Arc<LayerIndex>, Error> {
        if let LayerBlob::File(layer) = &self.blob {
            let decoded = LayerIndex::decode(&layer.index[..]).map_err(|error| self.failed(error))?;
            return Ok(Arc::new(decoded.0));
        }
        let digest = manifest::digest_of(&self.descriptor, &self.reference())?;
        // Of several that ask at once, one reads.
        let _turn = cache.turn(&digest).await;
        let (blob, cache) = (self.open().await?, cache.clone());
        let index = blocking(move || {
            if let Some(index) = cache.load(&digest) {
                return Ok(index);
            }
            let index = Arc::new(LayerIndex::read_within(blob, cache.layer_limit_bytes())?);
            // A cache that cannot be written costs the next build time, nothing else.
            if let Err(error) = cache.store(&digest, &index) {
                tracing::debug!(%digest, %error, "cannot keep a layer's index");
            }
            cache.note(&digest, Arc::clone(&index));
            Ok(index)
        });
        index.await?.map_err(|error| self.failed(error))
    }
}

impl Stack {
    /// The stack of these layers; nothing is read yet.
    pub(crate) fn new(layers: Vec<StackLayer>) -> Self {
        Self { layers, tree: None }
    }

    /// What the layers amount to. The first call streams the headers of those that `cache` does not know.
    pub(crate) async fn tree(&mut self, cache: &IndexCache) -> Result<&mut Tree, Error> {
        if self.tree.is_none() {
            self.tree = Some(trees(&self.layers, None, self.layers.len(), cache).await?.1);
        }
        Ok(self.tree.get_or_insert_default())
    }

    /// Puts a layer on top that another engine made. A tree that is known already is kept up to date.
    pub(super) async fn push_foreign(&mut self, layer: StackLayer) -> Result<(), Error> {
        if let Some(tree) = &mut self.tree {
            let index = layer.index(&IndexCache::default()).await?;
            tree.apply(self.layers.len(), &index).map_err(|error| layer.failed(error))?;
        }
        self.layers.push(layer);
        Ok(())
    }

    /// Puts a layer on top that was planned on the tree, which has it already.
    pub(crate) fn push_planned(&mut self, layer: StackLayer) {
        self.layers.push(layer);
    }

    /// The tree, if somebody asked for it before.
    pub(crate) fn tree_if_known(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// Takes `wanted` contents out of the layers that hold them, into files in `work`. Each layer is streamed at most once, and
    /// may unpack to what `cache` allows.
    pub(crate) async fn contents(
        &self,
        wanted: &BTreeSet<ContentRef>,
        cache: &IndexCache,
        work: &Path,
    ) -> Result<Spool, Error> {
        let created = Spool::create(work);
        let created = created.map_err(|source| Error::File { action: "create", path: work.to_owned(), source })?;
        let mut spool = created.with_layer_limit(cache.layer_limit_bytes());
        let mut by_layer: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for content in wanted {
            by_layer.entry(content.layer).or_default().insert(content.entry);
        }
        for (number, entries) in by_layer {
            let Some(layer) = self.layers.get(number) else { continue };
            let limit = self.size_of(number, &entries);
            let blob = layer.open().await?;
            let (filled, result) = blocking(move || {
                let result = spool.take(number, blob, &entries, limit);
                (spool, result)
            })
            .await?;
            spool = filled;
            result.map_err(|error| layer.failed(error))?;
        }
        Ok(spool)
    }

    /// The bytes that these entries of a layer hold according to the tree, as a bound: what is larger is not that layer.
    fn size_of(&self, layer: usize, entries: &BTreeSet<usize>) -> u64 {
        let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
        for (_, node) in self.tree.iter().flat_map(Tree::iter) {
            if let NodeKind::File { size, content } = node.kind
                && content.layer == layer
                && entries.contains(&content.entry)
            {
                sizes.insert(content.entry, size);
            }
        }
        manifest::total(sizes.into_values())
    }
}

/// What some first layers of an image amount to, and how many those are.
pub(crate) type Lower = (usize, Tree);

/// What the first `lower` of `layers` amount to, if there are as many, and what all of them do. Some of them, no more than
/// `lower`, may be `known` from another image that has the same. Streams the headers of the layers that `cache` does not know.
pub(crate) async fn trees(
    layers: &[StackLayer],
    known: Option<Lower>,
    lower: usize,
    cache: &IndexCache,
) -> Result<(Tree, Tree), Error> {
    let (known, mut tree) = known.unwrap_or_default();
    let lower = lower.min(layers.len());
    let mut at_lower = tree.clone();
    let mut indexes = stream::iter(layers.iter().map(|layer| layer.index(cache))).buffered(PARALLEL_INDEXES);
    let mut entries = 0;
    for (number, layer) in layers.iter().enumerate() {
        let Some(index) = indexes.try_next().await? else { break };
        entries += index.entries.len();
        if entries > MAX_ENTRIES {
            let (limit, what) = (MAX_ENTRIES as u64, "entries together with the layers below it");
            return Err(layer.failed(LayerError::TooMuch { limit, what }));
        }
        if number >= known {
            // Held together for longer than needed, each layer would copy the directories that it touches.
            if number < lower {
                at_lower = Tree::default();
            }
            tree.apply(number, &index).map_err(|error| layer.failed(error))?;
        }
        if number + 1 == lower {
            at_lower = tree.clone();
        }
    }
    Ok((at_lower, tree))
}

/// An image's layers as a stack.
pub(crate) fn layers_of(image: &Image, blob: &LayerBlob, reference: &dyn Display) -> Result<Vec<StackLayer>, Error> {
    let malformed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Malformed {
        what: "configuration",
        reference: reference.to_string(),
        source,
    };
    let descriptors = image.manifest.layers();
    let diff_ids = image.config.rootfs().diff_ids();
    if descriptors.len() != diff_ids.len() {
        let counts = format!("it has {} layers but {} diff ids", descriptors.len(), diff_ids.len());
        return Err(malformed(counts.into()));
    }
    descriptors
        .iter()
        .zip(diff_ids)
        .map(|(descriptor, diff_id)| {
            let diff_id = diff_id.parse().map_err(|error| malformed(Box::new(error)))?;
            Ok(StackLayer { descriptor: descriptor.clone(), diff_id, blob: blob.clone() })
        })
        .collect()
}

/// Runs work that blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        // A bug in our own code: it surfaces where it would have without the thread.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Interrupted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, Kind, Metadata};

    #[test]
    fn sizes_that_a_recorded_index_claims_bound_what_is_read_however_large_they_are() {
        let file = |path: &str, size| Entry {
            path: path.into(),
            kind: Kind::File { size },
            metadata: Metadata::root_owned(0o644, 0),
        };
        let entries = vec![file("a", u64::MAX), file("b", 7), file("c", 8)];
        let index = LayerIndex { contents: vec![None; entries.len()], entries };
        let mut tree = Tree::default();
        tree.apply(0, &index).unwrap();
        let stack = Stack { layers: Vec::new(), tree: Some(tree) };
        assert_eq!(stack.size_of(0, &BTreeSet::from([1, 2])), 15);
        assert_eq!(stack.size_of(0, &BTreeSet::from([0, 1])), u64::MAX);
    }
}
