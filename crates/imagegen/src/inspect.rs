//! What an image is made of, from its manifests and configurations alone: no layer is read.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, History};
use serde::Serialize;

use crate::Error;
use crate::digest::Digest;
use crate::manifest::{self, images, is_index};
use crate::platform::Platform;
use crate::source::{Image, ImageSource};

/// An image, every platform of it or one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The image as it was named.
    pub reference: String,
    /// The digest that the name stands for.
    pub digest: Digest,
    /// The media type of that manifest.
    pub media_type: String,
    /// Whether the name stands for an index.
    pub index: bool,
    /// The platforms' images, in the order of the index.
    pub images: Vec<ImageReport>,
}

/// One platform's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// The platform.
    pub platform: Platform,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The layers together, as they are stored, in bytes.
    pub size_bytes: u64,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// The configuration's user.
    pub user: Option<String>,
    /// The configuration's working directory.
    pub working_dir: Option<String>,
    /// The configuration's entrypoint.
    pub entrypoint: Vec<String>,
    /// The configuration's command.
    pub cmd: Vec<String>,
    /// Published ports, sorted.
    pub ports: Vec<String>,
    /// Volumes, sorted.
    pub volumes: Vec<String>,
    /// Environment: `NAME=value` in the image's order.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The layers from the bottom up.
    pub layers: Vec<LayerReport>,
    /// The history from the beginning.
    pub history: Vec<Step>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// The digest of the blob.
    pub digest: String,
    /// The digest of its content, uncompressed.
    pub diff_id: Option<String>,
    /// The media type.
    pub media_type: String,
    /// The size of the blob in bytes.
    pub size_bytes: u64,
    /// The command that made it, where the history tells.
    pub created_by: Option<String>,
}

/// One step of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When (RFC 3339).
    pub created: Option<String>,
    /// The command.
    pub created_by: Option<String>,
    /// What whoever built it says.
    pub comment: Option<String>,
    /// The number of the layer that it made, from 0; none where it only changed the configuration.
    pub layer: Option<usize>,
}

/// Reports on every platform of `source`'s image, or on the one asked for.
pub async fn inspect(source: &dyn ImageSource, platform: Option<&Platform>) -> Result<Report, Error> {
    let top = source.top().await?;
    let mut reports = Vec::new();
    if let Some(platform) = platform {
        reports.push(report(&source.image(platform).await?, None));
    } else {
        for listed in images(source).await? {
            reports.push(report(&listed.load(source).await?, Some(listed.platform)));
        }
    }
    Ok(Report {
        reference: source.reference(),
        digest: top.digest(),
        index: is_index(&top.media_type),
        media_type: top.media_type,
        images: reports,
    })
}

pub(crate) fn report(image: &Image, platform: Option<Platform>) -> ImageReport {
    let layers = image.manifest.layers();
    let diff_ids = image.config.rootfs().diff_ids();
    let history = steps(image.config.history().as_deref().unwrap_or_default());
    let made_by =
        |number: usize| history.iter().find(|step| step.layer == Some(number)).and_then(|step| step.created_by.clone());
    let config = image.config.config().as_ref();
    let list = |get: fn(&oci_spec::image::Config) -> &Option<Vec<String>>| {
        let mut list = config.and_then(|config| get(config).clone()).unwrap_or_default();
        list.sort();
        list
    };
    let annotations = image.manifest.annotations().clone().unwrap_or_default().into_iter().collect();
    ImageReport {
        platform: platform.unwrap_or_else(|| manifest::platform_of(&image.config)),
        digest: image.raw.digest(),
        size_bytes: manifest::total(layers.iter().map(Descriptor::size)),
        created: image.config.created().clone(),
        user: config.and_then(|config| config.user().clone()),
        working_dir: config.and_then(|config| config.working_dir().clone()),
        entrypoint: config.and_then(|config| config.entrypoint().clone()).unwrap_or_default(),
        cmd: config.and_then(|config| config.cmd().clone()).unwrap_or_default(),
        ports: list(oci_spec::image::Config::exposed_ports),
        volumes: list(oci_spec::image::Config::volumes),
        env: config.and_then(|config| config.env().clone()).unwrap_or_default(),
        labels: config.and_then(|config| config.labels().clone()).unwrap_or_default().into_iter().collect(),
        annotations,
        layers: layers
            .iter()
            .enumerate()
            .map(|(number, layer)| LayerReport {
                digest: layer.digest().to_string(),
                diff_id: diff_ids.get(number).cloned(),
                media_type: layer.media_type().to_string(),
                size_bytes: layer.size(),
                created_by: made_by(number),
            })
            .collect(),
        history,
    }
}

fn steps(history: &[History]) -> Vec<Step> {
    let mut next = 0;
    history
        .iter()
        .map(|entry| {
            let layer = (!entry.empty_layer().unwrap_or(false)).then(|| {
                next += 1;
                next - 1
            });
            Step {
                created: entry.created().clone(),
                created_by: entry.created_by().clone(),
                comment: entry.comment().clone(),
                layer,
            }
        })
        .collect()
}
