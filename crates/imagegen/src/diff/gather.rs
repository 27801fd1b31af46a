//! What is compared, from records; layers only where a record is missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, TryStreamExt as _};
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};
use tokio::try_join;
use vast_envhash::Package;

use super::files::{self, Files};
use super::packages::{self, Known, Packages};
use super::{Options, PlatformDifference, Reading, Want, config};
use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, MAX_ENTRIES, Stack, StackLayer, layers_of};
use crate::digest::Digest;
use crate::error::with_causes;
use crate::inspect;
use crate::layer::{IndexCache, LayerError, LayerIndex};
use crate::manifest::{config_of, digest_of, total};
use crate::platform::Platform;
use crate::record::{RecordedIndexes, database_layer, recorded_environment};
use crate::source::{Image, ImageSource};

/// Layers that are streamed for their headers at once.
const PARALLEL: usize = 4;

/// What is read once for all platforms.
pub(super) struct Gatherer<'a> {
    options: &'a Options,
    reading: &'a (dyn Fn(&Reading) + Sync),
    cache: IndexCache,
    work: TempDir,
    /// Recorded lists of packages by the digests of the records.
    packages: Mutex<HashMap<String, Option<Vec<Package>>>>,
    /// The bound of an image's entries.
    most_entries: usize,
}

/// One image for one platform.
struct One<'a> {
    source: &'a Arc<dyn ImageSource>,
    image: &'a Image,
    layers: Vec<StackLayer>,
    /// What each layer is known by: what the image says it holds, or where no word is taken, its blob.
    ids: Vec<Digest>,
    /// What is recorded with it, once somebody asked.
    recorded: OnceCell<RecordedIndexes>,
}

impl<'a> One<'a> {
    fn new((source, image): (&'a Arc<dyn ImageSource>, &'a Image), deep: bool) -> Result<Self, Error> {
        let layers = layers_of(image, &LayerBlob::Source(Arc::clone(source)), &source.reference())?;
        let ids = layers.iter().map(|layer| if deep { layer.digest() } else { Ok(layer.diff_id) });
        let ids = ids.collect::<Result<_, _>>()?;
        Ok(Self { source, image, layers, ids, recorded: OnceCell::new() })
    }

    async fn recorded(&self) -> Result<&RecordedIndexes, Error> {
        self.recorded.get_or_try_init(|| RecordedIndexes::of(self.source, self.image)).await
    }

    fn layers(&self) -> impl Iterator<Item = (Digest, &StackLayer)> {
        self.ids.iter().copied().zip(&self.layers)
    }

    /// Refuses an image that holds more than `most` entries in those layers whose indexes are known so far.
    fn check_bound(&self, indexes: &HashMap<Digest, Arc<LayerIndex>>, most: usize) -> Result<(), Error> {
        let mut entries = 0_usize;
        for (id, layer) in self.layers() {
            entries += indexes.get(&id).map_or(0, |index| index.entries.len());
            if entries > most {
                let (limit, what) = (most as u64, "entries together with the layers below it");
                return Err(layer.failed(LayerError::TooMuch { limit, what }));
            }
        }
        Ok(())
    }

    fn files(&self, indexes: &HashMap<Digest, Arc<LayerIndex>>) -> Result<Files, Error> {
        let mut files = Files::default();
        for (id, layer) in self.layers() {
            let index = indexes.get(&id).map(Arc::clone).unwrap_or_default();
            files.push(id, index).map_err(|error| layer.failed(error))?;
        }
        Ok(files)
    }
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(options: &'a Options, reading: &'a (dyn Fn(&Reading) + Sync)) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "create a folder in", path: options.work.clone(), source };
        let work = tempfile::Builder::new().prefix("imagegen-").tempdir_in(&options.work).map_err(failed)?;
        let cache = IndexCache::new(options.cache.as_deref());
        Ok(Self { options, reading, cache, work, packages: Mutex::default(), most_entries: MAX_ENTRIES })
    }

    pub(super) async fn compare(
        &self,
        platform: Platform,
        before: (&Arc<dyn ImageSource>, &Image),
        after: (&Arc<dyn ImageSource>, &Image),
    ) -> Result<PlatformDifference, Error> {
        let (sections, redaction) = (self.options.sections, self.options.redaction);
        let (one, other) = (One::new(before, self.options.deep)?, One::new(after, self.options.deep)?);
        let reports = [inspect::report(one.image, None), inspect::report(other.image, None)];
        let configuration = if sections.configuration {
            let mut settings = config::compare(
                &config_of(one.image, &one.source.reference())?,
                &config_of(other.image, &other.source.reference())?,
                redaction,
            );
            settings.extend(config::annotations(&reports[0].annotations, &reports[1].annotations, redaction));
            Some(settings)
        } else {
            None
        };
        let content =
            if sections.files || sections.packages { Some(self.content(&platform, &one, &other).await?) } else { None };
        let (files, packages) = content.unzip();
        Ok(PlatformDifference {
            platform,
            before: one.image.raw.digest(),
            after: other.image.raw.digest(),
            layers: sections.layers.then(|| super::layers(&reports[0], &reports[1], redaction)),
            packages: packages.filter(|_| sections.packages),
            files: files.filter(|_| sections.files),
            configuration,
        })
    }

    /// Forgets the layers that `done` have and `later` do not. What was read stays in the directory of the cache, if there is
    /// one: the indexes of many platforms together are much to remember.
    pub(super) fn forget<'i>(&self, done: [&'i Image; 2], later: impl Iterator<Item = &'i Image>) {
        let needed: HashSet<&str> =
            later.flat_map(|image| image.manifest.layers()).map(|layer| layer.digest().as_ref()).collect();
        let layers = done.into_iter().flat_map(|image| image.manifest.layers());
        let unneeded = layers.filter(|layer| !needed.contains(layer.digest().as_ref()));
        let digests: Vec<Digest> = unneeded.filter_map(|layer| digest_of(layer, "a layer").ok()).collect();
        self.cache.forget(&digests);
    }

    /// What differs in the layers' content.
    async fn content(
        &self,
        platform: &Platform,
        one: &One<'_>,
        other: &One<'_>,
    ) -> Result<(Vec<files::FileChange>, Packages), Error> {
        if one.ids == other.ids {
            return Ok((Vec::new(), Packages::default()));
        }
        let indexes = self.indexes(one, other).await?;
        let (before, after) = (one.files(&indexes)?, other.files(&indexes)?);
        let mut changes = files::compare(&before, &after, self.options.times);
        let mut packages = Packages::default();
        if self.options.sections.packages && packages::may_differ(&changes) {
            let ((was, mut notes), (is, more)) =
                try_join!(self.known(platform, one, &before), self.known(platform, other, &after))?;
            packages = packages::compare((&before, &was), (&after, &is));
            notes.extend(more);
            packages.notes = notes;
        }
        if !self.options.paths.is_empty() {
            changes.retain(|change| self.options.paths.iter().any(|pattern| pattern.matches(&change.path)));
        }
        Ok((changes, packages))
    }

    /// The indexes of both images' layers, each once however often it is there.
    async fn indexes(&self, one: &One<'_>, other: &One<'_>) -> Result<HashMap<Digest, Arc<LayerIndex>>, Error> {
        let mut indexes = HashMap::new();
        let mut wanted: BTreeMap<Digest, (&One<'_>, StackLayer)> = BTreeMap::new();
        for side in [one, other] {
            for (id, layer) in side.layers() {
                if indexes.contains_key(&id) || wanted.contains_key(&id) {
                    continue;
                }
                match self.cache.load(&layer.digest()?) {
                    Some(index) => {
                        indexes.insert(id, index);
                        side.check_bound(&indexes, self.most_entries)?;
                    }
                    None => drop(wanted.insert(id, (side, layer.clone()))),
                }
            }
        }
        if !self.options.deep && !wanted.is_empty() {
            // The first image is the one that is there already: of layers that both have, its records are asked first.
            let (first, second) = try_join!(one.recorded(), other.recorded())?;
            let mut recorded = first.clone();
            recorded.extend(second.clone());
            let layers: Vec<StackLayer> = wanted.values().map(|(_, layer)| layer.clone()).collect();
            recorded.load(&layers, &self.cache).await?;
            for layer in layers {
                if let Some(index) = self.cache.load(&layer.digest()?) {
                    wanted.remove(&layer.diff_id);
                    indexes.insert(layer.diff_id, index);
                }
            }
        }
        for side in [one, other] {
            let of_side = |wanting: &One<'_>| std::ptr::eq(wanting, side);
            let missing: Vec<&StackLayer> =
                wanted.values().filter(|(wanting, _)| of_side(wanting)).map(|(_, layer)| layer).collect();
            self.tell(side, Want::Indexes, missing.iter().map(|layer| layer.descriptor.size()));
        }
        let reads =
            wanted.iter().map(|(id, (_, layer))| async { Ok::<_, Error>((*id, layer.index(&self.cache).await?)) });
        let reads = stream::iter(reads.map(Ok::<_, Error>).collect::<Vec<_>>());
        let mut reads = reads.try_buffer_unordered(PARALLEL);
        for side in [one, other] {
            side.check_bound(&indexes, self.most_entries)?;
        }
        while let Some((id, index)) = reads.try_next().await? {
            indexes.insert(id, index);
            for side in [one, other] {
                side.check_bound(&indexes, self.most_entries)?;
            }
        }
        // Whoever asks for the layers later does so by their blobs.
        for (id, layer) in one.layers().chain(other.layers()) {
            if let Some(index) = indexes.get(&id) {
                self.cache.note(&layer.digest()?, Arc::clone(index));
            }
        }
        Ok(indexes)
    }

    /// What is known about the packages of an image, and what is not, in words.
    async fn known(&self, platform: &Platform, one: &One<'_>, files: &Files) -> Result<(Known, Vec<String>), Error> {
        if !self.options.deep
            && let Some(inventory) = recorded_environment(&**one.source, one.image).await?
        {
            return Ok((Known { inventory: Some(inventory), debian: self.packages(one, files).await? }, Vec::new()));
        }
        self.tell(one, Want::Environment, one.layers.iter().map(|layer| layer.descriptor.size()));
        let mut stack = Stack::new(one.layers.clone());
        let installed = envhash::installed(&mut stack, &self.cache, platform, self.work.path()).await?;
        let note = |error: &dyn std::error::Error| format!("{}: {}", one.source.reference(), with_causes(error));
        let (mut known, mut notes) = (Known::default(), Vec::new());
        match installed.inventory {
            Ok(inventory) => known.inventory = Some(inventory),
            Err(error) => notes.push(note(&error)),
        }
        match installed.packages {
            Ok(packages) => known.debian = Some(packages),
            Err(error) => notes.push(note(&error)),
        }
        notes.dedup();
        Ok((known, notes))
    }

    /// The Debian packages that are recorded for the layer with the image's package database. Images often share it, also with
    /// those for other platforms: what is recorded for it is read once.
    async fn packages(&self, one: &One<'_>, files: &Files) -> Result<Option<Vec<Package>>, Error> {
        let Some(layer) = database_layer(&files.tree).and_then(|number| one.layers.get(number)) else {
            return Ok(None);
        };
        let recorded = one.recorded().await?;
        let Some(digest) = recorded.packages_digest(layer) else { return Ok(None) };
        let mut known = self.packages.lock().await;
        if let Some(known) = known.get(&digest) {
            return Ok(known.clone());
        }
        let read = recorded.packages(layer).await?;
        known.insert(digest, read.clone());
        Ok(read)
    }

    fn tell(&self, one: &One<'_>, want: Want, sizes: impl ExactSizeIterator<Item = u64>) {
        if sizes.len() > 0 {
            let (layers, reference) = (sizes.len(), one.source.reference());
            (self.reading)(&Reading { reference, want, layers, bytes: total(sizes) });
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::json;

    use super::super::{Redaction, Sections};
    use super::*;
    use crate::layer::{Entry, Kind, Metadata, TarWriter};
    use crate::manifest::{OCI_CONFIG, OCI_MANIFEST};
    use crate::source::{BlobReader, RawManifest};

    /// A place with these blobs.
    struct Blobs(HashMap<String, Vec<u8>>);

    #[async_trait]
    impl ImageSource for Blobs {
        fn reference(&self) -> String {
            "memory".to_owned()
        }

        async fn top(&self) -> Result<RawManifest, Error> {
            unreachable!()
        }

        async fn manifest(&self, _: &oci_spec::image::Descriptor) -> Result<RawManifest, Error> {
            unreachable!()
        }

        async fn blob_size(&self, descriptor: &oci_spec::image::Descriptor) -> Result<Option<u64>, Error> {
            Ok(self.0.get(descriptor.digest().as_ref()).map(|blob| blob.len() as u64))
        }

        async fn open_blob(&self, descriptor: &oci_spec::image::Descriptor) -> Result<BlobReader, Error> {
            Ok(Box::new(std::io::Cursor::new(self.0[descriptor.digest().as_ref()].clone())))
        }
    }

    /// A layer with one directory.
    fn layer(name: &str) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        let entry = Entry { path: name.into(), kind: Kind::Directory, metadata: Metadata::root_owned(0o755, 0) };
        tar.append(&entry, &mut std::io::empty()).unwrap();
        tar.finish().unwrap()
    }

    fn image(layers: &[Vec<u8>]) -> Image {
        let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let raw_config =
            serde_json::to_vec(&json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs})).unwrap();
        let layers: Vec<_> =
            layers.iter().map(|layer| describe("application/vnd.oci.image.layer.v1.tar", layer)).collect();
        let manifest = json!({"schemaVersion": 2, "config": describe(OCI_CONFIG, &raw_config), "layers": layers});
        let raw = RawManifest { bytes: serde_json::to_vec(&manifest).unwrap(), media_type: OCI_MANIFEST.to_owned() };
        let manifest = serde_json::from_slice(&raw.bytes).unwrap();
        let config = serde_json::from_slice(&raw_config).unwrap();
        Image { raw, manifest, raw_config, config }
    }

    #[tokio::test]
    async fn an_image_that_holds_too_much_in_all_its_layers_is_refused_and_nothing_is_kept_of_what_is_done() {
        let layers = ["a", "b", "c"].map(layer);
        let blobs = layers.iter().map(|layer| (Digest::of(layer).to_string(), layer.clone())).collect();
        let source: Arc<dyn ImageSource> = Arc::new(Blobs(blobs));
        let work = tempfile::tempdir().unwrap();
        let options = Options {
            platform: None,
            sections: Sections::ALL,
            deep: true,
            times: false,
            paths: Vec::new(),
            redaction: Redaction { is_secret: |_| false, scrub: str::to_owned },
            cache: None,
            work: work.path().to_owned(),
        };
        let (all, one) = (image(&layers), image(&layers[..1]));
        let mut gatherer = Gatherer::new(&options, &|_| {}).unwrap();
        let sides = [&all, &one].map(|image| One::new((&source, image), true).unwrap());
        gatherer.most_entries = 3;
        assert_eq!(gatherer.indexes(&sides[0], &sides[1]).await.unwrap().len(), 3);
        // What is known already counts as well.
        gatherer.most_entries = 2;
        let refused = gatherer.indexes(&sides[0], &sides[1]).await.unwrap_err();
        assert!(with_causes(&refused).contains("more than 2 entries together"), "{refused}");
        let digest = |number: usize| sides[0].layers[number].digest().unwrap();
        gatherer.forget([&all, &all], std::iter::once(&one));
        assert!(gatherer.cache.load(&digest(0)).is_some() && gatherer.cache.load(&digest(1)).is_none());
        let refused = gatherer.indexes(&sides[0], &sides[1]).await.unwrap_err();
        assert!(with_causes(&refused).contains("more than 2 entries together"), "{refused}");
    }
}
