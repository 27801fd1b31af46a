//! `diff`: what differs between two published images, in layers, files, packages and configuration.
//!
//! Two images are compared platform by platform, from their manifests, their configurations and what is
//! [recorded](crate::record) about them. Where there is no record, layers are read, each once for all that is compared, and
//! whoever asked is told before. Nothing is read that cannot matter: of equal digests nothing, of equal layers no path index,
//! and no environment where no file of one differs.
//!
//! Files are those of the whole images, with whiteouts applied; a path that one image writes twice counts once, and a layer
//! that is made anew and holds the same is no difference of files. Comparing is pure: it is given what was gathered.

mod config;
mod files;
mod fold;
mod gather;
mod layers;
mod packages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::try_join;

use crate::Error;
use crate::digest::Digest;
use crate::inspect;
use crate::manifest::{Manifest, PlatformImage, digest_of, images, no_platform, of_platform};
use crate::platform::Platform;
use crate::source::{ImageSource, RawManifest};

pub use config::{Part, Parts, Setting};
pub use files::{Aspect, FileChange, FileState, PathPattern};
pub use fold::{Count, Line, fold};
use gather::Gatherer;
pub use layers::{Layer, Layers, Recompressed};
pub use packages::{PackageChange, Packages};

/// Whether something came, went or is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The second image alone has it.
    Added,
    /// The first image alone has it.
    Removed,
    /// Both have it, each its own.
    Changed,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each section stands for itself")]
pub struct Sections {
    /// Layers.
    pub layers: bool,
    /// Files.
    pub files: bool,
    /// Packages.
    pub packages: bool,
    /// Configuration, labels and annotations.
    pub configuration: bool,
}

impl Sections {
    /// Everything.
    pub const ALL: Self = Self { layers: true, files: true, packages: true, configuration: true };
    /// Nothing.
    pub const NONE: Self = Self { layers: false, files: false, packages: false, configuration: false };
}

/// How secrets in configurations and histories are told from the rest.
#[derive(Debug, Clone, Copy)]
pub struct Redaction {
    /// Whether the value of a variable or label of this name is not shown.
    pub is_secret: fn(&str) -> bool,
    /// A text without what looks like a secret.
    pub scrub: fn(&str) -> String,
}

/// How images are compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// This platform alone. None: all that both have.
    pub platform: Option<Platform>,
    /// What is compared.
    pub sections: Sections,
    /// Read the layers instead of believing what is recorded about them.
    pub deep: bool,
    /// Times of files count.
    pub times: bool,
    /// Of the files only those that one of the patterns matches; without any, all.
    pub paths: Vec<PathPattern>,
    /// What is not shown.
    pub redaction: Redaction,
    /// Where indexes of layers are kept between commands.
    pub cache: Option<PathBuf>,
    /// Where temporary files go.
    pub work: PathBuf,
}

/// What differs between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Nothing of what was to be compared differs, and all of it could be.
    pub equal: bool,
    /// The first image.
    pub before: Side,
    /// The second image.
    pub after: Side,
    /// Platforms that only the first image has.
    pub only_before: Vec<Platform>,
    /// Platforms that only the second image has.
    pub only_after: Vec<Platform>,
    /// Annotations of the indexes that differ.
    pub annotations: Vec<Setting>,
    /// What differs for each platform that both have. Empty where both are one image.
    pub platforms: Vec<PlatformDifference>,
}

/// One of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The image as it was named.
    pub reference: String,
    /// The digest that the name stands for.
    pub digest: Digest,
}

/// What differs for one platform. A section that was not compared is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformDifference {
    /// The platform, as the second image calls it.
    pub platform: Platform,
    /// The manifest of the first image.
    pub before: Digest,
    /// The manifest of the second image.
    pub after: Digest,
    /// Layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// Packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Packages>,
    /// Files, in the order of their paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileChange>>,
    /// Configuration and annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Vec<Setting>>,
}

/// Layers that have to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The image.
    pub reference: String,
    /// What is not recorded about it.
    pub want: Want,
    /// How many layers.
    pub layers: usize,
    /// Those together, in bytes.
    pub bytes: u64,
}

/// What is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Path indexes.
    Indexes,
    /// The environment; of the layers only those are read that hold what it is made of.
    Environment,
}

impl PlatformDifference {
    /// Whether nothing of what was to be compared differs; what could not be compared is not the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        !self.differs() && self.packages.as_ref().is_none_or(|packages| packages.notes.is_empty())
    }

    /// Whether something certainly differs.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| !layers.is_same())
            || self.packages.as_ref().is_some_and(|packages| !packages.changes.is_empty())
            || self.files.as_ref().is_some_and(|files| !files.is_empty())
            || self.configuration.as_ref().is_some_and(|settings| !settings.is_empty())
    }
}

impl Difference {
    /// Whether something certainly differs. Where nothing does and the images are not [`equal`](Self::equal) either, something
    /// could not be compared.
    #[must_use]
    pub fn differs(&self) -> bool {
        !self.only_before.is_empty()
            || !self.only_after.is_empty()
            || !self.annotations.is_empty()
            || self.platforms.iter().any(PlatformDifference::differs)
    }
}

/// Compares two images. Before layers are read for want of records, `reading` is told.
///
/// # Errors
/// What reading meets; images without a common platform, or without the one that was asked for.
pub async fn diff(
    before: &Arc<dyn ImageSource>,
    after: &Arc<dyn ImageSource>,
    options: &Options,
    reading: &(dyn Fn(&Reading) + Sync),
) -> Result<Difference, Error> {
    let (top_before, top_after) = try_join!(before.top(), after.top())?;
    let side =
        |source: &Arc<dyn ImageSource>, top: &RawManifest| Side { reference: source.reference(), digest: top.digest() };
    let mut difference = Difference {
        equal: true,
        before: side(before, &top_before),
        after: side(after, &top_after),
        only_before: Vec::new(),
        only_after: Vec::new(),
        annotations: Vec::new(),
        platforms: Vec::new(),
    };
    if difference.before.digest == difference.after.digest {
        return Ok(difference);
    }
    let (images_before, images_after) = try_join!(images(&**before), images(&**after))?;
    let pairs = if let Some(platform) = &options.platform {
        let none = |source: &Arc<dyn ImageSource>, images: &[PlatformImage]| {
            no_platform(source.reference(), platform, names(images))
        };
        let one = of_platform(&images_before, platform).ok_or_else(|| none(before, &images_before))?;
        vec![(one, of_platform(&images_after, platform).ok_or_else(|| none(after, &images_after))?)]
    } else {
        let common = pair(&images_before, &images_after, &mut difference);
        if common.is_empty() {
            return Err(Error::NoCommonPlatform {
                before: before.reference(),
                before_platforms: names(&images_before),
                after: after.reference(),
                after_platforms: names(&images_after),
            });
        }
        if options.sections.configuration {
            let of = |source: &Arc<dyn ImageSource>, top| index_annotations(top, &source.reference());
            let (one, other) = (of(before, &top_before)?, of(after, &top_after)?);
            difference.annotations = config::annotations(&one, &other, options.redaction);
        }
        common
    };
    let gatherer = Gatherer::new(options, reading)?;
    let mut loaded = Vec::new();
    for (one, other) in &pairs {
        let is_same = one.descriptor.digest() == other.descriptor.digest();
        let load = async { try_join!(one.load(&**before), other.load(&**after)) };
        loaded.push(if is_same { None } else { Some(load.await?) });
    }
    for (number, ((one, other), loaded_pair)) in pairs.into_iter().zip(&loaded).enumerate() {
        let platform = other.platform.clone();
        if let Some((one, other)) = loaded_pair {
            difference.platforms.push(gatherer.compare(platform, (before, one), (after, other)).await?);
            let later = loaded[number + 1..].iter().flatten();
            gatherer.forget([one, other], later.flat_map(|(one, other)| [one, other]));
        } else {
            let digest = digest_of(&one.descriptor, &before.reference())?;
            difference.platforms.push(PlatformDifference {
                platform,
                before: digest,
                after: digest,
                layers: None,
                packages: None,
                files: None,
                configuration: None,
            });
        }
    }
    difference.equal = !difference.differs() && difference.platforms.iter().all(PlatformDifference::is_same);
    Ok(difference)
}

fn names(images: &[PlatformImage]) -> Vec<Platform> {
    images.iter().map(|image| image.platform.clone()).collect()
}

/// The images of one platform each, and notes the platforms that only one side has. Sides may differ in whether they state a
/// variant (`linux/arm64`, `linux/arm64/v8`).
fn pair<'a>(
    before: &'a [PlatformImage],
    after: &'a [PlatformImage],
    difference: &mut Difference,
) -> Vec<(&'a PlatformImage, &'a PlatformImage)> {
    let mut left: Vec<&PlatformImage> = before.iter().collect();
    let exact: Vec<Option<&PlatformImage>> = after
        .iter()
        .map(|other| left.iter().position(|one| one.platform == other.platform).map(|at| left.remove(at)))
        .collect();
    let mut pairs = Vec::new();
    for (other, exact) in after.iter().zip(exact) {
        let fits =
            |one: &&PlatformImage| one.platform.satisfies(&other.platform) || other.platform.satisfies(&one.platform);
        match exact.or_else(|| left.iter().position(fits).map(|at| left.remove(at))) {
            Some(one) => pairs.push((one, other)),
            None => difference.only_after.push(other.platform.clone()),
        }
    }
    difference.only_before = left.into_iter().map(|image| image.platform.clone()).collect();
    pairs
}

/// The annotations of an index; of the manifest of a single image they are compared with it.
fn index_annotations(top: &RawManifest, reference: &str) -> Result<BTreeMap<String, String>, Error> {
    Ok(match Manifest::parse(top, reference)? {
        Manifest::Index(index) => index.annotations().clone().unwrap_or_default().into_iter().collect(),
        Manifest::Image(_) => BTreeMap::new(),
    })
}

/// The layers of two images without secrets in the commands that made them.
fn layers(one: &inspect::ImageReport, other: &inspect::ImageReport, redaction: Redaction) -> Layers {
    let mut layers = layers::compare(&one.layers, &other.layers);
    let stored = layers.recompressed.iter_mut().flat_map(|pair| [&mut pair.before, &mut pair.after]);
    for layer in layers.only_before.iter_mut().chain(&mut layers.only_after).chain(stored) {
        layer.created_by = layer.created_by.take().map(|command| (redaction.scrub)(&command));
    }
    layers
}
