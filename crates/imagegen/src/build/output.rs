//! The finished image: its configuration, its manifest, its records.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tempfile::TempDir;

use super::Options;
use super::config::Config;
use super::overlay::Stamp;
use super::stack::{LayerBlob, StackLayer};
use crate::Error;
use crate::digest::Digest;
use crate::manifest::{self, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::platform::Platform;
use crate::publish::{Blob, Publication};
use crate::record::Attachment;
use crate::reference::Reference;
use crate::sink::Content;
use crate::source::{Image, RawManifest};

/// Records that describe one image and must not be taken for another's by inheritance.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";
pub(crate) const REVISION: &str = "org.opencontainers.image.revision";
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
pub(crate) const BASE_NAME: &str = "org.opencontainers.image.base.name";
pub(crate) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The image that another one was built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// Its name in a registry; other transports name a place on this machine, which says nothing elsewhere.
    name: Option<String>,
    /// The digest of its manifest for the platform.
    digest: Digest,
}

impl Base {
    pub(crate) fn of(reference: &Reference, image: &Image) -> Self {
        let name = if let Reference::Registry(registry) = reference { Some(registry.bare()) } else { None };
        Self { name, digest: image.raw.digest() }
    }
}

/// What is recorded in an image about itself.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub base: Option<Base>,
    /// Labels that the Dockerfile sets; they stay as it says.
    pub own_labels: BTreeSet<String>,
}

impl Records {
    /// Those of an image on `base` that no Dockerfile describes.
    pub(crate) fn on(base: Base) -> Self {
        Self { base: Some(base), own_labels: BTreeSet::new() }
    }

    /// Every record with its value; those without are removed if they were inherited.
    fn values(&self, stamp: &Stamp) -> [(&'static str, Option<String>); 6] {
        [
            (CREATED, Some(stamp.created())),
            (REVISION, stamp.revision.clone()),
            (VERSION, stamp.version.clone()),
            (TITLE, stamp.title.clone()),
            (BASE_NAME, self.base.as_ref().and_then(|base| base.name.clone())),
            (BASE_DIGEST, self.base.as_ref().map(|base| base.digest.to_string())),
        ]
    }
}

impl Options {
    /// The epoch as RFC 3339 text, which configurations and records hold.
    pub(super) fn created(&self) -> String {
        Stamp::of(self).created()
    }
}

/// The image of one platform.
pub struct BuiltImage {
    /// What it runs on.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: RawManifest,
    /// Its configuration.
    pub config: Vec<u8>,
    layers: Vec<StackLayer>,
    /// What is recorded about it.
    attachments: Vec<Attachment>,
}

/// What was built. Its new layers are in temporary files that go when this value goes.
pub struct Built {
    images: Vec<BuiltImage>,
    index: Option<RawManifest>,
    _work: TempDir,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDocument<'a> {
    schema_version: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<DescriptorDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<DescriptorDocument>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<DescriptorDocument>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDocument {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

impl BuiltImage {
    /// Puts the image together: records into labels and annotations, layers into configuration and manifest.
    pub(crate) fn assemble(
        platform: Platform,
        mut config: Config,
        layers: Vec<StackLayer>,
        records: &Records,
        stamp: &Stamp,
    ) -> Result<Self, Error> {
        let mut annotations = BTreeMap::new();
        for (key, value) in records.values(stamp) {
            let own = config.label(key).filter(|_| records.own_labels.contains(key)).map(str::to_owned);
            match own.or(value) {
                Some(value) => {
                    config.set_label(key, &value);
                    annotations.insert(key, value);
                }
                None => config.remove_label(key),
            }
        }
        config.set_created(&stamp.created());
        config.set_diff_ids(&layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
        let config = config.to_bytes();
        let document = ManifestDocument {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: Some(describe(OCI_CONFIG, &config)),
            layers: Some(layers.iter().map(layer_document).collect()),
            manifests: None,
            annotations,
        };
        Ok(Self { platform, manifest: raw(OCI_MANIFEST, &document)?, config, layers, attachments: Vec::new() })
    }

    /// This image alone as [`publish`](crate::publish::publish) takes it.
    #[must_use]
    pub fn publication(&self) -> Publication<'_> {
        let mut publication = Publication::default();
        for layer in &self.layers {
            let content = match &layer.blob {
                LayerBlob::Source(source) => Content::Source(&**source),
                LayerBlob::File(file) => Content::File(&file.file),
            };
            publication.blobs.push(Blob { descriptor: layer.descriptor.clone(), content });
        }
        let descriptor = manifest::describe(OCI_CONFIG, &self.config);
        publication.blobs.push(Blob { descriptor, content: Content::Bytes(&self.config) });
        publication.manifests.push(self.manifest.clone());
        for attachment in &self.attachments {
            attachment.add_to(&mut publication);
        }
        publication
    }

    /// An image that is there already, as part of something that is published anew.
    pub(crate) fn existing(platform: Platform, image: &Image, layers: Vec<StackLayer>) -> Self {
        let (manifest, config) = (image.raw.clone(), image.raw_config.clone());
        Self { platform, manifest, config, layers, attachments: Vec::new() }
    }

    pub(super) fn layers(&self) -> &[StackLayer] {
        &self.layers
    }

    pub(super) fn attach(&mut self, attachment: Attachment) {
        self.attachments.push(attachment);
    }

    /// The layers' digests, from the bottom up.
    #[must_use]
    pub fn layer_digests(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect()
    }
}

impl Built {
    pub(super) fn new(images: Vec<BuiltImage>, work: TempDir) -> Result<Self, Error> {
        Self::of(images, false, work)
    }

    /// All images together: under an index where there are several, or where there was one before.
    pub(crate) fn of(images: Vec<BuiltImage>, indexed: bool, work: TempDir) -> Result<Self, Error> {
        let mut index = None;
        if indexed || images.len() > 1 {
            let entry = |image: &BuiltImage| DescriptorDocument {
                platform: Some(image.platform.clone()),
                ..describe(&image.manifest.media_type, &image.manifest.bytes)
            };
            let document = ManifestDocument {
                schema_version: 2,
                media_type: OCI_INDEX,
                config: None,
                layers: None,
                manifests: Some(images.iter().map(entry).collect()),
                annotations: BTreeMap::new(),
            };
            index = Some(raw(OCI_INDEX, &document)?);
        }
        Ok(Self { images, index, _work: work })
    }

    /// The images, one for each platform.
    #[must_use]
    pub fn images(&self) -> &[BuiltImage] {
        &self.images
    }

    /// The digest that names all of it: of the index, or of the only image.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let only = self.images.first().map(|image| &image.manifest);
        self.index.as_ref().or(only).map_or_else(|| Digest::of(b""), RawManifest::digest)
    }

    /// All of it as [`publish`](crate::publish::publish) takes it.
    #[must_use]
    pub fn publication(&self) -> Publication<'_> {
        let mut publication = Publication::default();
        for image in self.images.iter().map(BuiltImage::publication) {
            publication.blobs.extend(image.blobs);
            publication.manifests.extend(image.manifests);
            publication.referrers.extend(image.referrers);
        }
        publication.manifests.extend(self.index.clone());
        publication
    }
}

fn describe(media_type: &str, bytes: &[u8]) -> DescriptorDocument {
    DescriptorDocument {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes).to_string(),
        size: bytes.len() as u64,
        platform: None,
    }
}

fn layer_document(layer: &StackLayer) -> DescriptorDocument {
    let stored = layer.descriptor.media_type().to_string();
    // An OCI manifest names OCI types; the bytes are the same.
    let media_type = match stored.as_str() {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",

        other => other,
    };
    DescriptorDocument {
        media_type: media_type.to_owned(),
        digest: layer.descriptor.digest().to_string(),
        size: layer.descriptor.size(),
        platform: None,
    }
}

fn raw(media_type: &str, document: &ManifestDocument<'_>) -> Result<RawManifest, Error> {
    let bytes = serde_json::to_vec(document).map_err(|error| Error::Malformed {
        what: "manifest",
        reference: "this build".to_owned(),
        source: Box::new(error),
    })?;
    Ok(RawManifest { bytes, media_type: media_type.to_owned() })
}
