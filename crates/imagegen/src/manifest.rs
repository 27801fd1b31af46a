//! Reading manifests: image or index, OCI's or Docker's, and choosing the image of a platform.

use std::io::Read;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;
use crate::digest::Digest;
use crate::platform::Platform;
use crate::source::{Image, ImageSource, RawManifest};

pub use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE as OCI_CONFIG, IMAGE_DOCKER_CONFIG_MEDIA_TYPE as DOCKER_CONFIG,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE as DOCKER_INDEX, IMAGE_MANIFEST_MEDIA_TYPE as DOCKER_MANIFEST,
    OCI_IMAGE_INDEX_MEDIA_TYPE as OCI_INDEX, OCI_IMAGE_MEDIA_TYPE as OCI_MANIFEST,
};

/// The largest manifest that is read, in bytes. Registries refuse more than 4 MiB (OCI distribution spec, "Pushing manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The largest configuration that is read, in bytes: thousands of history lines and labels fit many times.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// A manifest, parsed.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// One image, or another artifact with layers.
    Image(Box<ImageManifest>),
    /// Manifests by platform.
    Index(Box<ImageIndex>),
}

/// One entry of an index, or the single image of a name without one.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// The platform; of an index entry that names none, that of its configuration.
    pub platform: Platform,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The image itself, where its platform could not be told without reading it.
    read: Option<Box<Image>>,
}

impl PlatformImage {
    /// The image; `source` is where it was listed.
    ///
    /// # Errors
    /// What reading it meets.
    pub async fn load(&self, source: &(impl ImageSource + ?Sized)) -> Result<Image, Error> {
        match &self.read {
            Some(image) => Ok((**image).clone()),
            None => load(source, source.manifest(&self.descriptor).await?).await,
        }
    }
}

/// The fields that decide what a document is when its media type does not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Parses the manifest of `reference`.
    pub fn parse(raw: &RawManifest, reference: &str) -> Result<Self, Error> {
        let kind: Kind = parse(&raw.bytes, "manifest", reference)?;
        if kind.schema_version != Some(2) {
            return Err(malformed(
                "manifest",
                reference,
                "its schema version is not 2 (images older than 2016 have 1)",
            ));
        }
        if kind.media_type.as_deref().is_some_and(|inner| is_index(inner) != is_index(&raw.media_type)) {
            // Such a document means different things to different readers (CVE-2021-41190).
            return Err(malformed("manifest", reference, "its media type is not the one it was delivered with"));
        }
        if is_index(&raw.media_type) {
            return Ok(Self::Index(Box::new(parse(&raw.bytes, "index", reference)?)));
        }
        if kind.manifests.is_some() {
            return Err(malformed("manifest", reference, "it is an index that was delivered as an image"));
        }
        Ok(Self::Image(Box::new(parse(&raw.bytes, "manifest", reference)?)))
    }
}

/// Whether the media type is an index's, OCI's or Docker's.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_INDEX
}

/// Whether the media type is an image manifest's, OCI's or Docker's.
#[must_use]
pub fn is_image(media_type: &str) -> bool {
    media_type == OCI_MANIFEST || media_type == DOCKER_MANIFEST
}

/// The media type of a manifest that was stored without one.
#[must_use]
pub fn sniff_media_type(bytes: &[u8]) -> &'static str {
    let Ok(kind) = serde_json::from_slice::<Kind>(bytes) else { return OCI_MANIFEST };
    match kind.media_type.as_deref() {
        Some(DOCKER_MANIFEST) => DOCKER_MANIFEST,
        Some(DOCKER_INDEX) => DOCKER_INDEX,
        Some(OCI_INDEX) => OCI_INDEX,
        _ if kind.manifests.is_some() => OCI_INDEX,
        _ => OCI_MANIFEST,
    }
}

/// The SHA-256 digest of a descriptor.
///
/// # Errors
/// The descriptor uses another algorithm, which no registry must support.
pub fn digest_of(descriptor: &Descriptor, reference: &str) -> Result<Digest, Error> {
    descriptor.digest().to_string().parse().map_err(|error| Error::Malformed {
        what: "descriptor",
        reference: reference.to_owned(),
        source: Box::new(error),
    })
}

/// A descriptor of `bytes`.
#[must_use]
pub fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    descriptor(media_type, Digest::of(bytes), bytes.len() as u64)
}

/// A descriptor of a blob of this digest and size.
#[must_use]
#[allow(clippy::missing_panics_doc, reason = "a digest's text is always a digest")]
pub fn descriptor(media_type: &str, digest: Digest, size_bytes: u64) -> Descriptor {
    #[allow(clippy::expect_used, reason = "a digest's text is 64 lower-case hex digits by construction")]
    let sha256 = digest.hex().parse::<oci_spec::image::Sha256Digest>().expect("a digest has 64 hex digits");
    Descriptor::new(MediaType::from(media_type), size_bytes, sha256)
}

/// Every image of the source: the entries of its index (artifacts that are no images, such as attestations, left out),
/// or its one image.
pub async fn images(source: &(impl ImageSource + ?Sized)) -> Result<Vec<PlatformImage>, Error> {
    let top = source.top().await?;
    let reference = source.reference();
    match Manifest::parse(&top, &reference)? {
        Manifest::Image(_) => {
            let image = load(source, top).await?;
            let descriptor = describe(&image.raw.media_type, &image.raw.bytes);
            Ok(vec![PlatformImage { platform: platform_of(&image.config), descriptor, read: Some(Box::new(image)) }])
        }
        Manifest::Index(index) => {
            let mut found = Vec::new();
            for descriptor in index.manifests() {
                if !is_image(descriptor.media_type().as_ref()) {
                    continue;
                }
                let (platform, read) = if let Some(platform) = descriptor.platform() {
                    let platform = Platform {
                        os: platform.os().to_string(),
                        architecture: platform.architecture().to_string(),
                        variant: platform.variant().clone(),
                    };
                    check_platform(&platform, "index", &reference)?;
                    (platform, None)
                } else {
                    let image = load(source, source.manifest(descriptor).await?).await?;
                    (platform_of(&image.config), Some(Box::new(image)))
                };
                // BuildKit marks attestations so.
                if platform.os != "unknown" {
                    found.push(PlatformImage { platform, descriptor: descriptor.clone(), read });
                }
            }
            Ok(found)
        }
    }
}

/// The image of `source` for `platform`.
pub(crate) async fn select(source: &(impl ImageSource + ?Sized), platform: &Platform) -> Result<Image, Error> {
    let top = source.top().await?;
    if !is_index(&top.media_type) {
        let image = load(source, top).await?;
        let existing = platform_of(&image.config);
        if existing.satisfies(platform) {
            return Ok(image);
        }
        return Err(no_platform(source.reference(), platform, vec![existing]));
    }
    let images = images(source).await?;
    if let Some(image) = of_platform(&images, platform) {
        return load(source, source.manifest(&image.descriptor).await?).await;
    }
    let existing: Vec<Platform> = images.into_iter().map(|image| image.platform).collect();
    Err(no_platform(source.reference(), platform, existing))
}

/// The one of `images` that is for `platform`. An exact match goes before one that only satisfies: linux/arm/v7 for itself,
/// any variant for linux/arm.
pub(crate) fn of_platform<'a>(images: &'a [PlatformImage], platform: &Platform) -> Option<&'a PlatformImage> {
    let exact = images.iter().find(|image| image.platform == *platform);
    exact.or_else(|| images.iter().find(|image| image.platform.satisfies(platform)))
}

pub(crate) fn no_platform(reference: String, wanted: &Platform, existing: Vec<Platform>) -> Error {
    Error::NoPlatform { reference, wanted: wanted.clone(), existing }
}

/// The image of a manifest: fetches its configuration and parses both.
pub async fn load(source: &(impl ImageSource + ?Sized), raw: RawManifest) -> Result<Image, Error> {
    let reference = source.reference();
    let Manifest::Image(manifest) = Manifest::parse(&raw, &reference)? else {
        return Err(malformed("index", &reference, "it names another index where an image is needed"));
    };
    let raw_config = read_small(source, manifest.config(), MAX_CONFIG_BYTES, "configuration").await?;
    let config: ImageConfiguration = parse(&raw_config, "configuration", &reference)?;
    check_platform(&platform_of(&config), "configuration", &reference)?;
    Ok(Image { raw, manifest: *manifest, raw_config, config })
}

/// Reads a blob of at most `limit_bytes` into memory.
pub async fn read_small(
    source: &(impl ImageSource + ?Sized),
    descriptor: &Descriptor,
    limit_bytes: u64,
    what: &'static str,
) -> Result<Vec<u8>, Error> {
    let reference = source.reference();
    if descriptor.size() > limit_bytes {
        return Err(malformed(what, &reference, &format!("it is larger than {limit_bytes} bytes")));
    }
    let mut reader = source.open_blob(descriptor).await?;
    blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| Error::from_read(error, &reference))?;
        Ok(bytes)
    })
    .await
}

/// Refuses a manifest of another size than its descriptor says.
pub(crate) fn check_size(manifest: &RawManifest, descriptor: &Descriptor, reference: &str) -> Result<(), Error> {
    let actual = manifest.bytes.len() as u64;
    if actual == descriptor.size() {
        return Ok(());
    }
    let why = format!("manifest {} has {actual} bytes where its index says {}", descriptor.digest(), descriptor.size());
    Err(malformed("index", reference, &why))
}

/// Refuses to give a name with a digest to anything but the content of that digest.
pub(crate) fn check_pin(pin: Option<Digest>, manifest: &RawManifest, reference: &str) -> Result<(), Error> {
    let actual = manifest.digest();
    match pin {
        Some(expected) if expected != actual => Err(Error::OtherDigest { reference: reference.to_owned(), actual }),
        _ => Ok(()),
    }
}

/// Runs blocking work off the async threads; a panic in it is passed on.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}

/// Refuses a platform that would act on a terminal: it is printed by every command.
fn check_platform(platform: &Platform, what: &'static str, reference: &str) -> Result<(), Error> {
    let text = platform.to_string();
    if text.contains(char::is_control) || vast_envhash::printable(&text) != text {
        return Err(malformed(what, reference, "it names a platform with characters that control a terminal"));
    }
    Ok(())
}

/// The sum of sizes that anybody may claim: at most what a number can say.
pub fn total(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// The platform that a configuration names.
#[must_use]
pub fn platform_of(config: &ImageConfiguration) -> Platform {
    Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone(),
    }
}

/// The configuration of an image as it is stored, with what is not known here.
pub(crate) fn config_of(image: &Image, reference: &str) -> Result<Map<String, Value>, Error> {
    parse(&image.raw_config, "configuration", reference)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &'static str, reference: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Malformed {
        what,
        reference: reference.to_owned(),
        source: Box::new(error),
    })
}

/// An error for a document that can be parsed but not be right.
pub(crate) fn malformed(what: &'static str, reference: &str, why: &str) -> Error {
    Error::Malformed { what, reference: reference.to_owned(), source: why.into() }
}
