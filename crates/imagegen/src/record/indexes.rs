//! Path indexes, and with them what else is known of a layer, as records.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;
use vast_envhash::Package;

use super::packages::{self, LayerPackages, MAX_LIST_BYTES};
use super::{Attachment, DIFF_ID, PACKAGES, PATH_INDEXES, Place, Stored, is_there, unless_gone};
use crate::Error;
use crate::artifact;
use crate::build::stack::{LayerBlob, MAX_ENTRIES, StackLayer};
use crate::digest::Digest;
use crate::layer::{IndexCache, LayerIndex, PATH_INDEX};
use crate::manifest::{blocking, describe, digest_of, malformed, read_small};
use crate::source::{Image, ImageSource, RawManifest};

/// The largest path index that is read, in bytes: two million files and their digests.
const MAX_INDEX_BYTES: u64 = 128 << 20;

/// How many indexes are read at once.
const PARALLEL: usize = 8;

/// The path indexes and the lists of packages that are recorded with an image, by the diff ids of their layers.
#[derive(Clone, Default)]
pub(crate) struct RecordedIndexes {
    by_diff_id: HashMap<Digest, Stored>,
    /// Those that were read, so that they are there.
    read: HashSet<Digest>,
    packages: HashMap<Digest, Stored>,
}

impl RecordedIndexes {
    /// Asks for what is recorded with `image`.
    pub(crate) async fn of(source: &Arc<dyn ImageSource>, image: &Image) -> Result<Self, Error> {
        let mut found = Self::default();
        let reference = source.reference();
        for entry in source.referrers(&image.raw.digest(), Some(PATH_INDEXES)).await? {
            let Some(artifact) = artifact::fetch(&**source, &entry).await? else { continue };
            let Ok(manifest) = artifact::parse(&artifact, PATH_INDEXES, &reference) else {
                tracing::debug!(%reference, digest = %entry.digest(), "a record of path indexes cannot be read");
                continue;
            };
            for descriptor in manifest.layers() {
                let (known, most) = match descriptor.media_type().as_ref() {
                    PATH_INDEX => (&mut found.by_diff_id, MAX_INDEX_BYTES),
                    PACKAGES => (&mut found.packages, MAX_LIST_BYTES),
                    _ => continue,
                };
                if let Some(diff_id) = diff_id_of(descriptor).filter(|_| descriptor.size() <= most) {
                    let stored = Stored { descriptor: descriptor.clone(), place: Place::Source(Arc::clone(source)) };
                    known.entry(diff_id).or_insert(stored);
                }
            }
        }
        Ok(found)
    }

    /// Whether there is one for this layer.
    pub(crate) fn has(&self, layer: &StackLayer) -> bool {
        self.by_diff_id.contains_key(&layer.diff_id)
    }

    /// The digest of what is recorded about the Debian packages of this layer.
    pub(crate) fn packages_digest(&self, layer: &StackLayer) -> Option<String> {
        Some(self.packages.get(&layer.diff_id)?.descriptor.digest().to_string())
    }

    /// The Debian packages that are recorded for this layer.
    pub(crate) async fn packages(&self, layer: &StackLayer) -> Result<Option<Vec<Package>>, Error> {
        match self.packages.get(&layer.diff_id) {
            Some(stored) => packages::read(stored).await,
            None => Ok(None),
        }
    }

    /// Takes in what was read from a layer itself, which counts for more than what somebody recorded.
    pub(crate) fn note_packages(&mut self, known: &LayerPackages) -> Result<(), Error> {
        let mut stored = packages::store(&known.packages)?;
        annotate(&mut stored.descriptor, known.diff_id);
        self.packages.insert(known.diff_id, stored);
        Ok(())
    }

    /// Adds those of another image.
    pub(crate) fn extend(&mut self, other: Self) {
        for (diff_id, stored) in other.packages {
            self.packages.entry(diff_id).or_insert(stored);
        }
        for (diff_id, stored) in other.by_diff_id {
            if let Entry::Vacant(vacant) = self.by_diff_id.entry(diff_id) {
                vacant.insert(stored);
                if other.read.contains(&diff_id) {
                    self.read.insert(diff_id);
                }
            }
        }
    }

    /// Leaves out those of which `cache` knows better: what was read from the layers themselves counts for more than what
    /// somebody recorded. Only for a cache into which no record was [loaded](Self::load).
    pub(crate) async fn retain_true(&mut self, layers: &[StackLayer], cache: &IndexCache) -> Result<(), Error> {
        for layer in layers {
            let Some(recorded) = self.by_diff_id.get(&layer.diff_id) else { continue };
            let Some(known) = known(layer, cache).await? else { continue };
            if describe(PATH_INDEX, &known).digest() != recorded.descriptor.digest() {
                self.by_diff_id.remove(&layer.diff_id);
            }
        }
        Ok(())
    }

    /// Reads the indexes of `layers` that are recorded and not in `cache` yet into it. Those that cannot be used stay unknown.
    ///
    /// # Errors
    /// What reading meets, and more entries together than an image may have.
    pub(crate) async fn load(&mut self, layers: &[StackLayer], cache: &IndexCache) -> Result<(), Error> {
        self.load_within(layers, cache, MAX_ENTRIES).await
    }

    async fn load_within(&mut self, layers: &[StackLayer], cache: &IndexCache, most: usize) -> Result<(), Error> {
        let mut wanted: HashMap<Digest, (Digest, Stored)> = HashMap::new();
        let mut entries = 0;
        for layer in layers {
            let digest = layer.digest()?;
            if let Some(known) = cache.load(&digest) {
                entries += known.entries.len();
            } else if let Some(stored) = self.by_diff_id.get(&layer.diff_id) {
                wanted.insert(digest, (layer.diff_id, stored.clone()));
            }
        }
        let reads = wanted.into_iter().map(|(digest, (diff_id, stored))| async move {
            // Images that share a base are looked at together, and each has a record of its own.
            let _turn = cache.turn(&digest).await;
            if let Some(known) = cache.load(&digest) {
                return Ok((diff_id, Some(known), false));
            }
            let index = match &stored.place {
                Place::Source(source) => read(&**source, &stored.descriptor, diff_id).await?.map(Arc::new),
                Place::Memory(_) => None,
            };
            if let Some(index) = &index {
                cache.note(&digest, Arc::clone(index));
            }
            Ok::<_, Error>((diff_id, index, true))
        });
        let mut reads = stream::iter(reads.map(Box::pin).collect::<Vec<_>>()).buffer_unordered(PARALLEL);
        while let Some(read) = reads.next().await {
            match read? {
                (diff_id, Some(index), was_read) => {
                    entries += index.entries.len();
                    if entries > most {
                        let reference = layers.first().map(StackLayer::reference).unwrap_or_default();
                        let why = format!("they hold more than {most} entries together");
                        return Err(malformed("path indexes", &reference, &why));
                    }
                    if was_read {
                        self.read.insert(diff_id);
                    }
                }
                (diff_id, None, _) => drop(self.by_diff_id.remove(&diff_id)),
            }
        }
        Ok(())
    }
}

fn diff_id_of(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.annotations().as_ref()?.get(DIFF_ID)?.parse().ok()
}

fn annotate(descriptor: &mut Descriptor, diff_id: Digest) {
    descriptor.set_annotations(Some(HashMap::from([(DIFF_ID.to_owned(), diff_id.to_string())])));
}

/// Reads one index; `None` where it is of no use.
async fn read(source: &dyn ImageSource, descriptor: &Descriptor, diff_id: Digest) -> Result<Option<LayerIndex>, Error> {
    let reference = source.reference();
    let read = read_small(source, descriptor, MAX_INDEX_BYTES, "path index").await;
    let Some(bytes) = unless_gone(read, source, descriptor).await? else { return Ok(None) };
    let decoded = blocking(move || Ok(LayerIndex::decode(&bytes[..]))).await?;
    match decoded {
        Ok((index, stated)) if stated == diff_id => Ok(Some(index)),
        Ok(_) => {
            tracing::debug!(%reference, digest = %descriptor.digest(), "a path index is of another layer than it says");
            Ok(None)
        }
        Err(error) => {
            tracing::debug!(%reference, digest = %descriptor.digest(), %error, "a path index cannot be used");
            Ok(None)
        }
    }
}

/// The record of the path indexes of `layers`, which make the image of the manifest `subject`, and of their packages. What is
/// recorded already is taken over; indexes of other layers are what `cache` knows. No layer is read for it, and `None` is where
/// nothing is known.
pub(crate) async fn path_indexes(
    subject: &RawManifest,
    layers: &[StackLayer],
    recorded: &RecordedIndexes,
    cache: &IndexCache,
) -> Result<Option<Attachment>, Error> {
    let blobs = stream::iter(layers.iter().map(|layer| stored(layer, recorded, cache)).collect::<Vec<_>>());
    let blobs: Vec<Option<Stored>> = blobs.buffered(PARALLEL).try_collect().await?;
    let mut blobs: Vec<Stored> = blobs.into_iter().flatten().collect();
    for stored in layers.iter().filter_map(|layer| recorded.packages.get(&layer.diff_id)) {
        let is_usable = match &stored.place {
            Place::Source(source) => is_there(&**source, &stored.descriptor).await?,
            Place::Memory(_) => true,
        };
        if is_usable {
            blobs.push(stored.clone());
        }
    }
    if blobs.is_empty() {
        return Ok(None);
    }
    let descriptors: Vec<Descriptor> = blobs.iter().map(|blob| blob.descriptor.clone()).collect();
    let manifest = artifact::manifest(PATH_INDEXES, subject, &descriptors, &BTreeMap::new())?;
    Ok(Some(Attachment { manifest, blobs }))
}

async fn stored(layer: &StackLayer, recorded: &RecordedIndexes, cache: &IndexCache) -> Result<Option<Stored>, Error> {
    if let (Some(stored), LayerBlob::Source(_)) = (recorded.by_diff_id.get(&layer.diff_id), &layer.blob) {
        let usable = match &stored.place {
            Place::Source(source) if !recorded.read.contains(&layer.diff_id) => {
                is_there(&**source, &stored.descriptor).await?
            }
            _ => true,
        };
        if usable {
            return Ok(Some(stored.clone()));
        }
    }
    let bytes = match &layer.blob {
        LayerBlob::File(file) => file.index.clone(),
        LayerBlob::Source(_) => match known(layer, cache).await? {
            Some(bytes) => bytes,
            None => return Ok(None),
        },
    };
    let mut descriptor = describe(PATH_INDEX, &bytes);
    annotate(&mut descriptor, layer.diff_id);
    Ok(Some(Stored { descriptor, place: Place::Memory(bytes.into()) }))
}

/// The index that `cache` knows of a layer, as it is stored.
async fn known(layer: &StackLayer, cache: &IndexCache) -> Result<Option<Vec<u8>>, Error> {
    let (digest, diff_id, cache) = (layer.digest()?, layer.diff_id, cache.clone());
    let encoded = blocking(move || Ok(cache.load(&digest).map(|index| index.encode(&diff_id)))).await?.transpose();
    encoded.map_err(|error| malformed("path index", layer.descriptor.digest().as_ref(), &error.to_string()))
}

impl StackLayer {
    /// The digest of the layer's blob.
    pub(crate) fn digest(&self) -> Result<Digest, Error> {
        digest_of(&self.descriptor, "a layer")
    }

    /// Whether its blob has this digest.
    pub(crate) fn is(&self, digest: &Digest) -> bool {
        self.digest().is_ok_and(|own| own == *digest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use async_trait::async_trait;

    use super::*;
    use crate::layer::{Kind, Metadata};
    use crate::source::BlobReader;

    /// A place with this one blob.
    struct OneBlob(Vec<u8>);

    #[async_trait]
    impl ImageSource for OneBlob {
        fn reference(&self) -> String {
            "memory".to_owned()
        }

        async fn top(&self) -> Result<RawManifest, Error> {
            unreachable!()
        }

        async fn manifest(&self, _: &Descriptor) -> Result<RawManifest, Error> {
            unreachable!()
        }

        async fn blob_size(&self, _: &Descriptor) -> Result<Option<u64>, Error> {
            Ok(Some(self.0.len() as u64))
        }

        async fn open_blob(&self, _: &Descriptor) -> Result<BlobReader, Error> {
            Ok(Box::new(Cursor::new(self.0.clone())))
        }
    }

    #[tokio::test]
    async fn indexes_that_hold_too_much_together_are_refused() {
        let entry =
            crate::layer::Entry { path: "a".into(), kind: Kind::Directory, metadata: Metadata::root_owned(0o755, 0) };
        let index = LayerIndex { entries: vec![entry; 3], contents: vec![None; 3] };
        let mut recorded = RecordedIndexes::default();
        let layers = ["one", "two"].map(|name| {
            let diff_id = Digest::of(name.as_bytes());
            let bytes = index.encode(&diff_id).unwrap();
            let descriptor = describe(PATH_INDEX, &bytes);
            let source: Arc<dyn ImageSource> = Arc::new(OneBlob(bytes));
            let stored = Stored { descriptor, place: Place::Source(Arc::clone(&source)) };
            recorded.by_diff_id.insert(diff_id, stored);
            StackLayer { descriptor: describe("layer", name.as_bytes()), diff_id, blob: LayerBlob::Source(source) }
        });
        recorded.clone().load_within(&layers, &IndexCache::default(), 6).await.unwrap();
        let error = recorded.clone().load_within(&layers, &IndexCache::default(), 5).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "they hold more than 5 entries together");
        // What is known already counts.
        let cache = IndexCache::default();
        cache.note(&layers[0].digest().unwrap(), Arc::new(index));
        assert!(recorded.load_within(&layers, &cache, 5).await.is_err());
    }
}
