//! Whether an image is what it claims to be, and what the guide asks of every image.
//!
//! Without reading layers: every manifest and configuration has its digest and size, every layer is there in its size,
//! configuration and manifest agree, the three labels and the entrypoint are those of the guide. Deep, all layers are read as
//! well: digest, size and diff id of each, that they can be unpacked, and that `/.env_hash` is the hash of what they hold.

mod deep;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::Error;
use crate::digest::Digest;
use crate::manifest::{self, Manifest, is_image, is_index, load};
use crate::platform::Platform;
use crate::registry::RegistryError;
use crate::source::{Image, ImageSource, RawManifest};

/// The entrypoint of every image (guide, "External images").
pub const ENTRYPOINT: &str = "/opt/instance-tools/bin/entrypoint.sh";

/// The labels of every image (guide, "Derivative images").
pub const LABELS: [&str; 3] = ["org.opencontainers.image.source", "org.opencontainers.image.description", "maintainer"];

/// What to verify.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Read the layers.
    pub deep: bool,
    /// One platform only.
    pub platform: Option<Platform>,
    /// How many layers are read at once; 0 means as many as are published at once.
    pub parallel: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The image as it was named.
    pub reference: String,
    /// The digest that the name stands for.
    pub digest: Digest,
    /// Whether the layers were read.
    pub deep: bool,
    /// The images that were looked at.
    pub platforms: Vec<Platform>,
    /// How many layers were looked at.
    pub layers: usize,
    /// What is wrong; nothing, if the image is good.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of which platform's image; none if it concerns all.
    pub platform: Option<Platform>,
    /// What was checked.
    pub check: Check,
    /// What is wrong.
    pub message: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A manifest, its digest, size and form.
    Manifest,
    /// The configuration, its digest and form, and that it agrees with the manifest.
    Configuration,
    /// The platform of index and configuration.
    Platform,
    /// A layer's presence, digest, size and content.
    Layer,
    /// A layer's digest when uncompressed.
    DiffId,
    /// The guide's labels.
    Labels,
    /// The guide's entrypoint.
    Entrypoint,
    /// The recorded environment hash.
    EnvHash,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Configuration => "configuration",
            Self::Platform => "platform",
            Self::Layer => "layer",
            Self::DiffId => "diff id",
            Self::Labels => "labels",
            Self::Entrypoint => "entrypoint",
            Self::EnvHash => "env hash",
        })
    }
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the image of `source`.
///
/// # Errors
/// It cannot be looked at: there is no such image, or its registry does not answer. What is wrong with it is no error.
pub async fn verify(source: &Arc<dyn ImageSource>, options: &Options) -> Result<Verdict, Error> {
    let top = source.top().await?;
    let mut verdict = Verdict {
        reference: source.reference(),
        digest: top.digest(),
        deep: options.deep,
        platforms: Vec::new(),
        layers: 0,
        findings: Vec::new(),
    };
    if !is_index(&top.media_type) {
        verify_image(source, options, None, top, &mut verdict).await?;
        return Ok(verdict);
    }
    let index = match Manifest::parse(&top, &verdict.reference) {
        Ok(Manifest::Index(index)) => index,
        Ok(Manifest::Image(_)) => return Ok(verdict),
        Err(error) => {
            verdict.add(None, Check::Manifest, wrong(error)?);
            return Ok(verdict);
        }
    };
    for descriptor in index.manifests().iter().filter(|entry| is_image(entry.media_type().as_ref())) {
        let platform = platform_of(descriptor);
        // BuildKit marks attestations so; they have no platform and no layers to unpack.
        if platform.as_ref().is_some_and(|platform| platform.os == "unknown") || !asked_for(options, platform.as_ref())
        {
            continue;
        }
        match source.manifest(descriptor).await {
            Ok(raw) => verify_image(source, options, platform, raw, &mut verdict).await?,
            Err(error) => verdict.add(platform, Check::Manifest, wrong(error)?),
        }
    }
    if verdict.platforms.is_empty() && verdict.findings.is_empty() {
        // Says what there is instead.
        if let Some(platform) = &options.platform {
            source.image(platform).await?;
        }
        verdict.add(None, Check::Manifest, "its index names no image".to_owned());
    }
    Ok(verdict)
}

fn asked_for(options: &Options, platform: Option<&Platform>) -> bool {
    match (&options.platform, platform) {
        (Some(wanted), Some(platform)) => platform.satisfies(wanted),
        _ => true,
    }
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    descriptor.platform().as_ref().map(|platform| Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    })
}

async fn verify_image(
    source: &Arc<dyn ImageSource>,
    options: &Options,
    listed: Option<Platform>,
    raw: RawManifest,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let image = match load(&**source, raw).await {
        Ok(image) => image,
        Err(error) => {
            let check = if matches!(error, Error::Malformed { what: "manifest" | "index", .. }) {
                Check::Manifest
            } else {
                Check::Configuration
            };
            verdict.add(listed, check, wrong(error)?);
            return Ok(());
        }
    };
    let platform = manifest::platform_of(&image.config);
    if listed.is_none() && !asked_for(options, Some(&platform)) {
        // The error names what there is.
        source.image(options.platform.as_ref().unwrap_or(&platform)).await?;
    }
    if let Some(listed) = listed.as_ref().filter(|listed| !platform.satisfies(listed)) {
        let message = format!("the index lists it for {listed}, its configuration is for {platform}");
        verdict.add(Some(platform.clone()), Check::Platform, message);
    }
    verdict.platforms.push(platform.clone());
    verdict.layers += image.manifest.layers().len();
    let mut findings = agreement(&image);
    findings.extend(guide(&image));
    if options.deep {
        findings.extend(deep::verify(source, &image, &platform, options.parallel).await?);
    } else {
        findings.extend(presence(&**source, &image).await?);
    }
    verdict.findings.extend(findings.into_iter().map(|(check, message)| Finding {
        platform: Some(platform.clone()),
        check,
        message,
    }));
    Ok(())
}

impl Verdict {
    fn add(&mut self, platform: Option<Platform>, check: Check, message: String) {
        self.findings.push(Finding { platform, check, message });
    }
}

/// Whether manifest and configuration agree about the layers.
fn agreement(image: &Image) -> Vec<(Check, String)> {
    let mut findings = Vec::new();
    let layers = image.manifest.layers().len();
    let diff_ids = image.config.rootfs().diff_ids().len();
    if layers != diff_ids {
        let message = format!("the manifest has {layers} layers, the configuration {diff_ids} diff ids");
        findings.push((Check::Configuration, message));
    }
    let history = image.config.history().as_deref().unwrap_or_default();
    let steps = history.iter().filter(|step| !step.empty_layer().unwrap_or(false)).count();
    if !history.is_empty() && steps != layers {
        findings
            .push((Check::Configuration, format!("the history tells of {steps} layers, the manifest has {layers}")));
    }
    findings
}

/// What the guide asks of every image, as far as its configuration shows.
fn guide(image: &Image) -> Vec<(Check, String)> {
    let mut findings = Vec::new();
    let config = image.config.config().as_ref();
    let labels: BTreeMap<String, String> =
        config.and_then(|config| config.labels().clone()).unwrap_or_default().into_iter().collect();
    for name in LABELS {
        if labels.get(name).is_none_or(|value| value.trim().is_empty()) {
            findings.push((Check::Labels, format!("the label `{name}` is missing")));
        }
    }
    let entrypoint = config.and_then(|config| config.entrypoint().clone()).unwrap_or_default();
    if entrypoint.first().map(String::as_str) != Some(ENTRYPOINT) {
        let message = format!("the entrypoint is {}, not [\"{ENTRYPOINT}\"]", quoted(&entrypoint));
        findings.push((Check::Entrypoint, message));
    }
    findings
}

fn quoted(words: &[String]) -> String {
    if words.is_empty() { "missing".to_owned() } else { format!("{words:?}") }
}

/// Whether every layer is there in its size.
async fn presence(source: &dyn ImageSource, image: &Image) -> Result<Vec<(Check, String)>, Error> {
    let mut findings = Vec::new();
    for layer in image.manifest.layers() {
        let stored = match source.blob_size(layer).await {
            Ok(stored) => stored,
            Err(error) => {
                findings.push((Check::Layer, wrong(error)?));
                continue;
            }
        };
        match stored {
            Some(size) if size == layer.size() => {}
            Some(size) => {
                let message = format!("layer {} has {size} bytes instead of {}", layer.digest(), layer.size());
                findings.push((Check::Layer, message));
            }
            None => findings.push((Check::Layer, format!("layer {} is missing", layer.digest()))),
        }
    }
    Ok(findings)
}

/// What an error says about the image itself.
///
/// # Errors
/// It says nothing about the image: the error, as it was.
fn wrong(error: Error) -> Result<String, Error> {
    let about_the_image = match &error {
        Error::Content { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
        Error::Registry { source, .. } => {
            matches!(**source, RegistryError::Digest { .. } | RegistryError::NotFound { .. })
        }
        Error::Malformed { .. } | Error::Layer { .. } | Error::NoImage { .. } | Error::Environment(_) => true,
        _ => false,
    };
    if !about_the_image {
        return Err(error);
    }
    // The causes say what is wrong; that it could not be read, and of which image, the verdict says itself.
    let mut message = None;
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        message = Some(match message {
            Some(text) => format!("{text}: {next}"),
            None => next.to_string(),
        });
        cause = next.source();
    }
    Ok(message.unwrap_or_else(|| error.to_string()))
}
