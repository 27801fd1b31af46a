//! `extend`: an overlay on top of a published image, for every platform of it, without pulling anything.
//!
//! What is read of the image are its manifests, configurations and records ([`crate::record`]): the path indexes say where
//! each entry of the overlay belongs, as they say it to a build. The result is the image that `FROM image`, `COPY overlay/ /`
//! and, where the overlay changes the environment, `RUN env-hash > /.env_hash` would give.
//!
//! An image without path indexes is taken for one of plain directories where every image has them, and overlays that depend
//! on more are refused ([`Refusal`]), unless the layers may be read once ([`Options::index`]).

mod environment;
mod refusal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vast_envhash::Inventory;

use crate::Error;
use crate::build::config::Config;
use crate::build::output::{Base, BuiltImage, Records};
use crate::build::overlay::{Overlay, Stamp};
use crate::build::stack::{LayerBlob, Stack, StackLayer, layers_of};
use crate::build::{BuildProblem, Built, envhash};
use crate::environment::touching;
use crate::layer::{Compression, IndexCache, Tree, Writing};
use crate::manifest::{blocking, images, is_index};
use crate::platform::Platform;
use crate::publish::Publication;
use crate::record::{Attachment, RecordedIndexes, path_indexes, recorded_environment};
use crate::reference::Reference;
use crate::source::{Image, ImageSource};

pub use refusal::Refusal;

/// The history line of the layer.
const CREATED_BY: &str = "COPY overlay/ / # vast-imagegen extend";

/// How an image is extended.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that goes on top.
    pub overlay: PathBuf,
    /// Layers without a path index may be streamed for their headers, once; the indexes are attached to the image.
    pub index: bool,
    /// How the new layer is compressed.
    pub compression: Compression,
    /// Threads that compress.
    pub threads: usize,
    /// Whether what is made stays on the disk of `work`, as in a layout there, which then writes it while it is made.
    pub local: bool,
    /// What the image says about itself.
    pub stamp: Stamp,
    /// Where indexes of layers are kept between commands.
    pub cache: Option<PathBuf>,
    /// Where temporary files go.
    pub work: PathBuf,
}

/// An extended image, which nothing has published yet.
pub struct Extended {
    /// The image.
    pub built: Built,
    /// What was found and done beside it, for each platform.
    pub platforms: Vec<Report>,
    attachments: Vec<Attachment>,
}

/// What was done for one platform.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The platform.
    pub platform: Platform,
    /// The layers that were streamed for want of a path index.
    pub indexed: Vec<String>,
    /// Whether the image's tree was known: without it the overlay lies on plain directories.
    pub tree_known: bool,
    /// The environment hash, where it is known.
    pub env_hash: Option<String>,
    /// Whether the overlay changed the environment, so that the hash was taken anew.
    pub environment_changed: bool,
    /// What looks wrong but did not stop anything.
    pub warnings: Vec<String>,
}

impl Extended {
    /// What is to be attached to the image that was extended, so that the next one need not read its layers; nothing where
    /// nothing was read.
    #[must_use]
    pub fn indexes(&self) -> Publication<'_> {
        let mut publication = Publication::default();
        for attachment in &self.attachments {
            attachment.add_to(&mut publication);
        }
        publication
    }
}

/// Extends the image that `reference` names.
///
/// # Errors
/// [`Error::Extend`] where the overlay cannot go on top without knowing more; what reading meets.
pub async fn extend(
    source: &Arc<dyn ImageSource>,
    reference: &Reference,
    options: &Options,
) -> Result<Extended, Error> {
    let failed = |source| Error::File { action: "create a folder in", path: options.work.clone(), source };
    let work = tempfile::Builder::new().prefix("imagegen-").tempdir_in(&options.work).map_err(failed)?;
    let top = source.top().await?;
    let extending = Extending {
        source,
        reference,
        options,
        cache: IndexCache::new(options.cache.as_deref()),
        how: Writing {
            work: work.path().to_owned(),
            compression: options.compression,
            threads: options.threads,
            local: options.local,
        },
    };
    let (mut built, mut reports, mut attachments) = (Vec::new(), Vec::new(), Vec::new());
    for listed in images(&**source).await? {
        let image = listed.load(&**source).await?;
        let (image, report, attached) = extending.platform(listed.platform, image).await?;
        built.push(image);
        reports.push(report);
        attachments.extend(attached);
    }
    let built = Built::of(built, is_index(&top.media_type), work)?;
    Ok(Extended { built, platforms: reports, attachments })
}

struct Extending<'a> {
    source: &'a Arc<dyn ImageSource>,
    reference: &'a Reference,
    options: &'a Options,
    cache: IndexCache,
    how: Writing,
}

impl Extending<'_> {
    async fn platform(
        &self,
        platform: Platform,
        image: Image,
    ) -> Result<(BuiltImage, Report, Option<Attachment>), Error> {
        let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(self.source)), self.reference)?;
        let mut recorded = RecordedIndexes::of(self.source, &image).await?;
        recorded.load(&layers, &self.cache).await?;
        let mut inventory = recorded_environment(&**self.source, &image).await?;
        let mut report = Report {
            platform: platform.clone(),
            indexed: Vec::new(),
            tree_known: true,
            env_hash: None,
            environment_changed: false,
            warnings: Vec::new(),
        };
        let mut attachment = None;
        for layer in &layers {
            if self.cache.load(&layer.digest()?).is_none() {
                report.indexed.push(layer.descriptor.digest().to_string());
            }
        }
        let mut stack = Stack::new(layers);
        let mut before = None;
        let overlay = if report.indexed.is_empty() || self.options.index {
            before = Some(stack.tree(&self.cache).await?.clone());
            // Known is not recorded: another platform may have the same layers, this machine may have read them before.
            if self.options.index && !stack.layers.iter().all(|layer| recorded.has(layer)) {
                attachment = path_indexes(&image.raw, &stack.layers, &recorded, &self.cache).await?;
            }
            self.overlay_on(&mut stack).await?
        } else {
            report.indexed.clear();
            report.tree_known = false;
            self.overlay_on_unknown(stack.layers.len()).await?
        };
        report.warnings.clone_from(&overlay.warnings);
        let mut config = Config::parse(&image.raw_config).map_err(|error| Error::Malformed {
            what: "configuration",
            reference: self.reference.to_string(),
            source: Box::new(error),
        })?;
        if !overlay.is_empty() {
            let layer = self.write(overlay, &mut stack, &mut config, CREATED_BY).await?;
            let index = layer.index(&self.cache).await?;
            let touched = touching(&index, before.as_ref());
            if !touched.is_empty() && (inventory.is_some() || has_hash(before.as_ref())) {
                report.environment_changed = true;
                let renewed = self.renewed(inventory.as_ref(), touched, &mut stack, &platform, &mut recorded).await?;
                if inventory.as_ref().is_none_or(|before| before.hash != renewed.hash) {
                    let number = stack.layers.len();
                    let tree = stack.tree(&self.cache).await?;
                    let hash = renewed.hash.to_string();
                    let planned = Overlay::environment_hash(tree, number, &hash, self.options.stamp.epoch);
                    let planned = planned.map_err(|problem| self.problem(problem))?;
                    let by = format!("RUN env-hash > {}", envhash::FILE);
                    self.write(planned, &mut stack, &mut config, &by).await?;
                }
                inventory = Some(renewed);
            }
        }
        report.env_hash = inventory.as_ref().map(|inventory| inventory.hash.to_string());
        let records = Records::on(Base::of(self.reference, &image));
        let stamp = config.stamp_over(&self.options.stamp);
        let mut extended = BuiltImage::assemble(platform, config, stack.layers, &records, &stamp)?;
        if report.tree_known {
            extended.record_indexes(&recorded, &self.cache).await?;
        }
        extended.record_environment(inventory.as_ref())?;
        Ok((extended, report, attachment))
    }

    /// Writes a planned layer onto the stack, and says so in the history.
    async fn write(
        &self,
        overlay: Overlay,
        stack: &mut Stack,
        config: &mut Config,
        created_by: &str,
    ) -> Result<StackLayer, Error> {
        let how = self.how.clone();
        let written = blocking(move || Ok(overlay.write(&how))).await?;
        let layer = written.map_err(|problem| self.problem(problem))?;
        stack.push_planned(layer.clone());
        config.add_history(&self.options.stamp.created(), created_by, true);
        Ok(layer)
    }

    /// Plans the overlay on the image's tree.
    async fn overlay_on(&self, stack: &mut Stack) -> Result<Overlay, Error> {
        let number = stack.layers.len();
        let tree = stack.tree(&self.cache).await?;
        let planned = Overlay::plan(tree, number, &self.options.overlay, self.options.stamp.epoch);
        planned.map_err(|problem| self.problem(problem))
    }

    /// Plans the overlay on an image of which nothing is known, where that is safe.
    async fn overlay_on_unknown(&self, number: usize) -> Result<Overlay, Error> {
        let (folder, epoch) = (self.options.overlay.clone(), self.options.stamp.epoch);
        let planned = blocking(move || Ok(Overlay::plan(&mut Tree::default(), number, &folder, epoch))).await?;
        let overlay = planned.map_err(|problem| self.problem(problem))?.without_parents();
        refusal::check(overlay.paths())
            .map_err(|refusal| Error::Extend { reference: self.reference.to_string(), refusal: Box::new(refusal) })?;
        Ok(overlay)
    }

    /// The environment with the overlay, which changes it in the paths `touched`: from the recorded inventory where the
    /// overlay's own files say the rest, else from the layers, where they may be read: then `recorded` learns of the packages.
    async fn renewed(
        &self,
        before: Option<&Inventory>,
        touched: Vec<PathBuf>,
        stack: &mut Stack,
        platform: &Platform,
        recorded: &mut RecordedIndexes,
    ) -> Result<Inventory, Error> {
        let renewed = before.and_then(|before| {
            let tree = stack.tree_if_known()?;
            environment::with_overlay(before, &touched, tree, stack.layers.len() - 1, &self.options.overlay)
        });
        match renewed {
            Some(renewed) => Ok(renewed),
            None if self.options.index => {
                let installed = envhash::installed(stack, &self.cache, platform, &self.how.work).await?;
                if let Some(packages) = installed.of_layer() {
                    recorded.note_packages(&packages)?;
                }
                Ok(installed.inventory?)
            }
            None => {
                let refusal = Refusal { unknown_parents: Vec::new(), environment: touched };
                Err(Error::Extend { reference: self.reference.to_string(), refusal: Box::new(refusal) })
            }
        }
    }

    fn problem(&self, problem: BuildProblem) -> Error {
        Error::Overlay { overlay: self.options.overlay.clone(), problem: Box::new(problem) }
    }
}

/// Whether the image records an environment hash.
fn has_hash(tree: Option<&Tree>) -> bool {
    tree.is_some_and(|tree| tree.get(Path::new(envhash::FILE.trim_start_matches('/'))).is_some())
}
