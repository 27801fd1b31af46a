//! `rebase`: an image on another version of its base, without rebuilding anything.
//!
//! The base's layers are replaced; the image's own stay what they are, byte for byte. That is only right where a rebuild
//! would give the same layers, so it is refused unless the records prove it ([`Conflict`]): the old base's layers are the
//! image's first; no path that the own layers write or delete changed between the bases, time stamps aside; what they were
//! built against of the environment is the same; and what both image and new base say in the configuration can be told
//! apart. Facts are gathered from manifests, configurations and path indexes, decided on without any input but those
//! (`plan`), and carried out as one publication.

mod config;
mod facts;
mod gather;
mod paths;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future;
use tempfile::TempDir;
use tokio::sync::Mutex;
use vast_envhash::Inventory;

use crate::Error;
use crate::build::config::Config;
use crate::build::output::{BASE_DIGEST, BASE_NAME, Base, BuiltImage, Records};
use crate::build::overlay::{Overlay, Stamp};
use crate::build::stack::{Stack, StackLayer};
use crate::build::{Built, envhash};
use crate::digest::Digest;
use crate::layer::{Compression, IndexCache, Writing};
use crate::manifest::{PlatformImage, blocking, config_of, images, is_index, of_platform};
use crate::platform::Platform;
use crate::publish::Publication;
use crate::record::{RecordedIndexes, recorded_environment};
use crate::reference::{Reference, RegistryReference};
use crate::source::{Image, ImageSource};
use crate::transport::{TransportOptions, open_source};

pub use config::FieldConflict;
use facts::{Facts, Side};
use gather::{Gathered, Gatherer};
pub use paths::Change;
pub use plan::{Conflict, Kind};
use plan::{Dependents, Environment, Plan};

/// How images are rebased.
#[derive(Debug, Clone)]
pub struct Options {
    /// The new base.
    pub onto: Reference,
    /// The old base, where the images do not say it.
    pub from: Option<Reference>,
    /// Conflicts of these kinds do not stand in the way.
    pub allow: BTreeSet<Kind>,
    /// How new layers are compressed; only a renewed environment hash makes one.
    pub compression: Compression,
    /// What the images say about themselves.
    pub stamp: Stamp,
    /// Where indexes of layers are kept between commands.
    pub cache: Option<PathBuf>,
    /// Where temporary files go.
    pub work: PathBuf,
}

/// How many of many images are worked on at once. Each waits for the registry most of the time; each holds the indexes of
/// its own layers.
pub const AT_ONCE: usize = 8;

/// Rebases images onto one base, which is read once.
pub struct Rebasing<'a> {
    options: &'a Options,
    transports: &'a TransportOptions,
    gatherer: Gatherer,
    onto: Arc<dyn ImageSource>,
    onto_images: Vec<PlatformImage>,
    bases: Mutex<BTreeMap<String, Arc<Gathered>>>,
    old_bases: Mutex<BTreeMap<OldBase, SourcedImage>>,
    work: TempDir,
}

/// An image, and where it is.
type SourcedImage = (Arc<dyn ImageSource>, Image);

/// Which old base: by its digest, or as it was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct OldBase {
    name: String,
    platform: String,
}

/// What became of one platform.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// The platform.
    pub platform: Platform,
    /// The image has this base already.
    pub current: bool,
    /// What stands in the way, in the order of the kinds and paths; what was allowed is among it.
    pub conflicts: Vec<Conflict>,
    /// Whether all of that was allowed.
    pub possible: bool,
}

/// One image, rebased as far as it can be.
pub struct Rebased {
    /// What became of each platform.
    pub outcomes: Vec<Outcome>,
    /// The image, where every platform of it can take the base and some do not have it yet.
    pub built: Option<Built>,
}

/// Records that were missing and were found out by reading layers.
pub struct Found {
    /// The image that they are about.
    pub reference: String,
    attachment: crate::record::Attachment,
}

impl Found {
    /// What is to be attached to that image.
    #[must_use]
    pub fn publication(&self) -> Publication<'_> {
        let mut publication = Publication::default();
        self.attachment.add_to(&mut publication);
        publication
    }
}

impl<'a> Rebasing<'a> {
    /// Asks for the new base.
    ///
    /// # Errors
    /// What reading it meets.
    pub async fn new(options: &'a Options, transports: &'a TransportOptions) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "create a folder in", path: options.work.clone(), source };
        let work = tempfile::Builder::new().prefix("imagegen-").tempdir_in(&options.work).map_err(failed)?;
        let onto: Arc<dyn ImageSource> = open_source(&options.onto, transports).await?.into();
        let onto_images = images(&*onto).await?;
        let gatherer = Gatherer::new(IndexCache::new(options.cache.as_deref()), work.path().to_owned());
        let (bases, old_bases) = (Mutex::default(), Mutex::default());
        Ok(Self { options, transports, gatherer, onto, onto_images, bases, old_bases, work })
    }

    /// What had to be read from layers so far, and should be attached to where it was read.
    pub async fn found(&self) -> Vec<Found> {
        let read = std::mem::take(&mut *self.gatherer.read.lock().await);
        read.into_iter().map(|read| Found { reference: read.reference, attachment: read.attachment }).collect()
    }

    /// Decides about the image that `reference` names, and puts it together where it can take the base.
    ///
    /// # Errors
    /// What reading meets; that an image cannot take the base is no error.
    pub async fn rebase(&self, reference: &Reference) -> Result<Rebased, Error> {
        let mut own = Vec::new();
        let rebased = self.every_platform(reference, &mut own).await;
        self.forget(own).await;
        rebased
    }

    /// [`rebase`](Self::rebase) for many images, a few of them at once, in their order.
    pub async fn rebase_all(&self, references: &[Reference]) -> Vec<Result<Rebased, Error>> {
        let mut all = Vec::new();
        for some in references.chunks(AT_ONCE) {
            let rebasing = some.iter().map(|reference| async move {
                let mut own = Vec::new();
                (self.every_platform(reference, &mut own).await, own)
            });
            let (rebased, own): (Vec<_>, Vec<_>) = future::join_all(rebasing).await.into_iter().unzip();
            all.extend(rebased);
            // Not before all of them are done: two may have a layer in common.
            self.forget(own.concat()).await;
        }
        all
    }

    /// Forgets the layers that only images of their own have: those of a hundred images are too much to remember.
    async fn forget(&self, mut own: Vec<Digest>) {
        let bases = self.bases.lock().await;
        let is_shared = |digest: &Digest| bases.values().any(|base| base.layers.iter().any(|layer| layer.is(digest)));
        own.retain(|digest| !is_shared(digest));
        self.gatherer.cache.forget(&own);
    }

    /// Notes in `own` which layers are the image's alone.
    async fn every_platform(&self, reference: &Reference, own: &mut Vec<Digest>) -> Result<Rebased, Error> {
        let source: Arc<dyn ImageSource> = open_source(reference, self.transports).await?.into();
        let indexed = is_index(&source.top().await?.media_type);
        let (mut outcomes, mut built) = (Vec::new(), Vec::new());
        for listed in images(&*source).await? {
            let image = listed.load(&*source).await?;
            let (outcome, image) = self.platform(&source, reference, &listed.platform, image, own).await?;
            outcomes.push(outcome);
            built.extend(image);
        }
        let possible = outcomes.iter().all(|outcome| outcome.possible);
        let anything = outcomes.iter().any(|outcome| !outcome.current);
        let work = tempfile::tempdir_in(self.work.path()).map_err(|source| Error::File {
            action: "create a folder in",
            path: self.work.path().to_owned(),
            source,
        })?;
        let built = (possible && anything).then(|| Built::of(built, indexed, work)).transpose()?;
        Ok(Rebased { outcomes, built })
    }

    async fn platform(
        &self,
        source: &Arc<dyn ImageSource>,
        reference: &Reference,
        platform: &Platform,
        image: Image,
        own: &mut Vec<Digest>,
    ) -> Result<(Outcome, Option<BuiltImage>), Error> {
        let outcome = |conflicts: Vec<Conflict>, current| {
            let possible = conflicts.iter().all(|conflict| self.options.allow.contains(&conflict.kind()));
            Outcome { platform: platform.clone(), current, conflicts, possible }
        };
        let Some(onto) = of_platform(&self.onto_images, platform) else {
            let existing = self.onto_images.iter().map(|image| image.platform.clone()).collect();
            return Ok((outcome(vec![Conflict::Platform { existing }], false), None));
        };
        // Before anything is read about layers: where there is no base, nothing of it is needed.
        let (old_source, old_image) = self.old_base(reference, &image, platform).await?;
        let old_layers = gather::diff_ids(&layers_of_image(&old_image, &old_source)?);
        let layers = layers_of_image(&image, source)?;
        let shared = layers.iter().zip(&old_layers).take_while(|(layer, old)| layer.diff_id == **old).count();
        for layer in &layers[shared..] {
            own.push(layer.digest()?);
        }
        let new = self.new_base(onto, &old_layers).await?;
        let gathered = self.gatherer.image(source, image, &old_layers, Some(&new.side)).await?;
        let old = Side::base_of(&gathered.side, config_of(&old_image, &old_source.reference())?, old_layers);
        let mut facts = Facts { old: &old, image: &gathered.side, new: &new.side, environments: None };
        if let Some(conflict) = plan::not_a_base(&facts) {
            return Ok((outcome(vec![conflict], false), None));
        }
        if old_image.raw.digest() == new.image.raw.digest() {
            let kept = self.kept(&gathered, platform).await?;
            return Ok((outcome(Vec::new(), true), Some(kept)));
        }
        let mut environments = None;
        let dependents = Dependents::of(&facts);
        if plan::needs_environments(&facts, &dependents) {
            let base = layers_of_image(&old_image, &old_source)?;
            let before = self.gatherer.environment(&old_source, &old_image, &base).await?;
            let after = self.gatherer.environment(&new.source, &new.image, &new.layers).await?;
            environments = before.zip(after);
        }
        facts.environments = environments.as_ref().map(|(before, after)| (before, after));
        let planned = plan::plan(&facts, &dependents);
        let decided = outcome(planned.conflicts.clone(), false);
        if !decided.possible {
            return Ok((decided, None));
        }
        let after = environments.map(|(_, after)| after);
        let image = self.put_together(platform, &gathered, &new, old.diff_ids.len(), planned, after).await?;
        Ok((decided, Some(image)))
    }

    async fn new_base(&self, onto: &PlatformImage, old_base: &[Digest]) -> Result<Arc<Gathered>, Error> {
        let key = onto.descriptor.digest().to_string();
        let mut bases = self.bases.lock().await;
        if let Some(known) = bases.get(&key) {
            return Ok(Arc::clone(known));
        }
        let image = onto.load(&*self.onto).await?;
        let gathered = Arc::new(self.gatherer.image(&self.onto, image, old_base, None).await?);
        bases.insert(key, Arc::clone(&gathered));
        Ok(gathered)
    }

    /// The base that an image has, as it says itself or as it was given.
    async fn old_base(&self, reference: &Reference, image: &Image, platform: &Platform) -> Result<SourcedImage, Error> {
        if let Some(from) = &self.options.from {
            let known = OldBase { name: from.to_string(), platform: platform.to_string() };
            return self.known_base(known, platform, [from.clone()].into_iter()).await;
        }
        let labels = image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
        let unknown = |reason: &str| Error::NoBase { reference: reference.to_string(), reason: reason.to_owned() };
        let digest = labels.get(BASE_DIGEST).ok_or_else(|| unknown("it does not say on which base it was built"))?;
        let digest = digest.parse().map_err(|_| unknown("what it says about its base is no digest"))?;
        // A digest is the same image wherever it is found. Most bases stay in one repository, which answers; the one that the
        // image names may be another registry's, or gone.
        let named = labels.get(BASE_NAME).and_then(|name| name.parse::<RegistryReference>().ok());
        let named = named.map(|name| Reference::Registry(name.pinned(digest)));
        let places = [self.options.onto.pinned(digest)].into_iter().chain(named);
        self.known_base(OldBase { name: digest.to_string(), platform: platform.to_string() }, platform, places).await
    }

    /// The old base, from the first of `places` that has it. Images that share it share the reading of it.
    async fn known_base(
        &self,
        base: OldBase,
        platform: &Platform,
        places: impl Iterator<Item = Reference>,
    ) -> Result<SourcedImage, Error> {
        let mut known = self.old_bases.lock().await;
        if let Some((source, image)) = known.get(&base) {
            return Ok((Arc::clone(source), image.clone()));
        }
        let mut last = None;
        for place in places {
            let read = async {
                let source: Arc<dyn ImageSource> = open_source(&place, self.transports).await?.into();
                let image = source.image(platform).await?;
                Ok((source, image))
            };
            match read.await {
                Ok((source, image)) => {
                    known.insert(base, (Arc::clone(&source), image.clone()));
                    return Ok((source, image));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::NoBase {
            reference: base.name,
            reason: "there is no place to look for it".to_owned(),
        }))
    }

    /// The image that has its base already, as one of several that are published together.
    async fn kept(&self, gathered: &Gathered, platform: &Platform) -> Result<BuiltImage, Error> {
        let mut kept = BuiltImage::existing(platform.clone(), &gathered.image, gathered.layers.clone());
        kept.record_indexes(&gathered.recorded, &self.gatherer.cache).await?;
        kept.record_environment(recorded_environment(&*gathered.source, &gathered.image).await?.as_ref())?;
        Ok(kept)
    }

    async fn put_together(
        &self,
        platform: &Platform,
        image: &Gathered,
        new: &Gathered,
        base_layers: usize,
        plan: Plan,
        new_environment: Option<Inventory>,
    ) -> Result<BuiltImage, Error> {
        let mut layers: Vec<StackLayer> = new.layers.clone();
        layers.extend(image.layers.iter().skip(base_layers).cloned());
        let mut config = Config::from_document(plan.config);
        let mut stack = Stack::new(layers);
        let (inventory, record) = match plan.environment {
            Environment::Kept => (recorded_environment(&*image.source, &image.image).await?, false),
            Environment::NewBase { record } => (new_environment, record),
            Environment::Unknown => {
                let taken = envhash::inventory(&mut stack, &self.gatherer.cache, platform, self.work.path()).await?;
                (Some(taken), true)
            }
        };
        if let Some(inventory) = inventory.as_ref().filter(|_| record) {
            self.renew_hash(&mut stack, &mut config, inventory).await?;
        }
        let records = Records::on(Base::of(&self.options.onto, &new.image));
        let stamp = config.stamp_over(&self.options.stamp);
        let mut rebased = BuiltImage::assemble(platform.clone(), config, stack.layers, &records, &stamp)?;
        let mut indexes = RecordedIndexes::default();
        indexes.extend(new.recorded.clone());
        indexes.extend(image.recorded.clone());
        rebased.record_indexes(&indexes, &self.gatherer.cache).await?;
        rebased.record_environment(inventory.as_ref())?;
        Ok(rebased)
    }

    /// The one layer that a rebase may make: the environment is another one, and the image records its hash.
    async fn renew_hash(&self, stack: &mut Stack, config: &mut Config, inventory: &Inventory) -> Result<(), Error> {
        let number = stack.layers.len();
        let tree = stack.tree(&self.gatherer.cache).await?;
        let failed = |problem| Error::Overlay { overlay: envhash::FILE.into(), problem: Box::new(problem) };
        let epoch = self.options.stamp.epoch;
        let planned = Overlay::environment_hash(tree, number, &inventory.hash.to_string(), epoch).map_err(failed)?;
        let (work, compression) = (self.work.path().to_owned(), self.options.compression);
        // A hash is a few bytes.
        let how = Writing { work, compression, threads: 1, local: false };
        let layer = blocking(move || Ok(planned.write(&how))).await?.map_err(failed)?;
        stack.push_planned(layer);
        let created = self.options.stamp.created();
        config.add_history(&created, &format!("RUN env-hash > {}", envhash::FILE), true);
        Ok(())
    }
}

fn layers_of_image(image: &Image, source: &Arc<dyn ImageSource>) -> Result<Vec<StackLayer>, Error> {
    let blob = crate::build::stack::LayerBlob::Source(Arc::clone(source));
    crate::build::stack::layers_of(image, &blob, &source.reference())
}
