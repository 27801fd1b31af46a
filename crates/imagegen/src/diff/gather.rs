//! What is compared, from records; layers only where a record is missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, TryStreamExt as _};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::try_join;

use super::files::{self, Files};
use super::packages::{self, Known, Packages};
use super::{Options, PlatformDifference, Reading, Want, config};
use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, Stack, StackLayer, layers_of};
use crate::digest::Digest;
use crate::inspect;
use crate::layer::{IndexCache, LayerIndex};
use crate::platform::Platform;
use crate::record::{RecordedIndexes, recorded_environment};
use crate::source::{Image, ImageSource};

/// Layers that are streamed for their headers at once.
const PARALLEL: usize = 4;

/// What is read once for all platforms.
pub(super) struct Gatherer<'a> {
    options: &'a Options,
    reading: &'a (dyn Fn(&Reading) + Sync),
    cache: IndexCache,
    work: TempDir,
}

/// One image for one platform.
struct One<'a> {
    source: &'a Arc<dyn ImageSource>,
    image: &'a Image,
    layers: Vec<StackLayer>,
}

impl<'a> One<'a> {
    fn new((source, image): (&'a Arc<dyn ImageSource>, &'a Image)) -> Result<Self, Error> {
        let layers = layers_of(image, &LayerBlob::Source(Arc::clone(source)), &source.reference())?;
        Ok(Self { source, image, layers })
    }

    fn config(&self) -> Result<Map<String, Value>, Error> {
        serde_json::from_slice(&self.image.raw_config).map_err(|error| Error::Malformed {
            what: "configuration",
            reference: self.source.reference(),
            source: Box::new(error),
        })
    }

    fn files(&self, indexes: &HashMap<Digest, Arc<LayerIndex>>) -> Result<Files, Error> {
        let mut files = Files::default();
        for layer in &self.layers {
            let index = indexes.get(&layer.diff_id).map(Arc::clone).unwrap_or_default();
            files.push(layer.diff_id, index).map_err(|error| layer.failed(error))?;
        }
        Ok(files)
    }
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(options: &'a Options, reading: &'a (dyn Fn(&Reading) + Sync)) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "create a folder in", path: options.work.clone(), source };
        let work = tempfile::Builder::new().prefix("imagegen-").tempdir_in(&options.work).map_err(failed)?;
        Ok(Self { options, reading, cache: IndexCache::new(options.cache.as_deref()), work })
    }

    pub(super) async fn compare(
        &self,
        platform: Platform,
        before: (&Arc<dyn ImageSource>, &Image),
        after: (&Arc<dyn ImageSource>, &Image),
    ) -> Result<PlatformDifference, Error> {
        let (sections, redaction) = (self.options.sections, self.options.redaction);
        let (one, other) = (One::new(before)?, One::new(after)?);
        let reports = [inspect::report(one.image, None), inspect::report(other.image, None)];
        let configuration = if sections.configuration {
            let mut settings = config::compare(&one.config()?, &other.config()?, redaction);
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

    /// What differs in the layers' content.
    async fn content(
        &self,
        platform: &Platform,
        one: &One<'_>,
        other: &One<'_>,
    ) -> Result<(Vec<files::FileChange>, Packages), Error> {
        let ids = |one: &One<'_>| one.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
        if ids(one) == ids(other) {
            return Ok((Vec::new(), Packages::default()));
        }
        let indexes = self.indexes(one, other).await?;
        let (before, after) = (one.files(&indexes)?, other.files(&indexes)?);
        let mut changes = files::compare(&before, &after, self.options.times);
        let mut packages = Packages::default();
        if self.options.sections.packages && packages::may_differ(&changes) {
            let ((was, mut notes), (is, more)) = try_join!(self.known(platform, one), self.known(platform, other))?;
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
            for layer in &side.layers {
                if indexes.contains_key(&layer.diff_id) || wanted.contains_key(&layer.diff_id) {
                    continue;
                }
                match self.cache.load(&layer.digest()?) {
                    Some(index) => drop(indexes.insert(layer.diff_id, index)),
                    None => drop(wanted.insert(layer.diff_id, (side, layer.clone()))),
                }
            }
        }
        if !self.options.deep && !wanted.is_empty() {
            // The first image is the one that is there already: of layers that both have, its records are asked first.
            let of = |side: &One<'_>| {
                let (source, image) = (Arc::clone(side.source), side.image.clone());
                async move { RecordedIndexes::of(&source, &image).await }
            };
            let (mut recorded, more) = try_join!(of(one), of(other))?;
            recorded.extend(more);
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
        let reads = wanted
            .values()
            .map(|(_, layer)| async { Ok::<_, Error>((layer.diff_id, layer.index(&self.cache).await?)) });
        let reads = stream::iter(reads.map(Ok::<_, Error>).collect::<Vec<_>>());
        let read: Vec<(Digest, Arc<LayerIndex>)> = reads.try_buffer_unordered(PARALLEL).try_collect().await?;
        indexes.extend(read);
        // Whoever asks for the layers later does so by their blobs.
        for layer in one.layers.iter().chain(&other.layers) {
            if let Some(index) = indexes.get(&layer.diff_id) {
                self.cache.note(&layer.digest()?, Arc::clone(index));
            }
        }
        Ok(indexes)
    }

    /// What is known about the packages of an image, and what is not, in words.
    async fn known(&self, platform: &Platform, one: &One<'_>) -> Result<(Known, Vec<String>), Error> {
        if !self.options.deep
            && let Some(inventory) = recorded_environment(&**one.source, one.image).await?
        {
            return Ok((Known { inventory: Some(inventory), debian: None }, Vec::new()));
        }
        self.tell(one, Want::Environment, one.layers.iter().map(|layer| layer.descriptor.size()));
        let mut stack = Stack::new(one.layers.clone());
        let installed = envhash::installed(&mut stack, &self.cache, platform, self.work.path()).await?;
        let note = |error: &dyn std::error::Error| format!("{}: {}", one.source.reference(), chain(error));
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

    fn tell(&self, one: &One<'_>, want: Want, sizes: impl ExactSizeIterator<Item = u64>) {
        if sizes.len() > 0 {
            let (layers, reference) = (sizes.len(), one.source.reference());
            (self.reading)(&Reading { reference, want, layers, bytes: sizes.sum() });
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
