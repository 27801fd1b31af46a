//! `docker save` archives: `manifest.json`, configurations, and layers under paths of Docker's choice.
//!
//! Docker does not keep manifests, so one is made: the same archive always gives the same one. Layers are given as they
//! lie in the archive, normally uncompressed; then their digest is their diff id, which is checked as they are read.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::image::{Descriptor, ImageConfiguration};
use serde::Deserialize;
use serde_json::json;

use super::TarStore;
use crate::Error;
use crate::digest::{Digest, Hashing, Verified};
use crate::layout::Store as _;
use crate::manifest::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, OCI_CONFIG, OCI_MANIFEST, blocking, digest_of, malformed};
use crate::reference::{FileReference, Reference};
use crate::source::{BlobReader, ImageSource, RawManifest};

/// One image of a `docker save` archive.
#[derive(Debug)]
pub struct DockerArchive {
    store: Arc<TarStore>,
    reference: String,
    top: RawManifest,
    /// Paths in the archive by digest.
    blobs: HashMap<Digest, String>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    /// The image that `file` names.
    pub async fn open(file: &FileReference) -> Result<Self, Error> {
        let reference = Reference::DockerArchive(file.clone()).to_string();
        let file = file.clone();
        blocking(move || {
            let store = TarStore::open(&file.path)?;
            Self::read(store, reference, file.name.as_deref())
        })
        .await
    }

    fn read(store: TarStore, reference: String, name: Option<&str>) -> Result<Self, Error> {
        let saved = read_file(&store, "manifest.json", MAX_MANIFEST_BYTES, &reference)?;
        let saved: Vec<Saved> = parse(&saved, "manifest.json", &reference)?;
        let saved = choose(&saved, name, &reference)?;
        let raw_config = read_file(&store, &saved.config, MAX_CONFIG_BYTES, &reference)?;
        let config: ImageConfiguration = parse(&raw_config, "configuration", &reference)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != saved.layers.len() {
            let why = format!("it lists {} layers and the configuration {}", saved.layers.len(), diff_ids.len());
            return Err(malformed("manifest.json", &reference, &why));
        }
        let mut blobs = HashMap::from([(Digest::of(&raw_config), saved.config.clone())]);
        let mut layers = Vec::new();
        for (path, diff_id) in saved.layers.iter().zip(diff_ids) {
            let (media_type, digest, size) = describe_layer(&store, path, diff_id, &reference)?;
            blobs.insert(digest, path.clone());
            layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
        }
        let config = json!({"mediaType": OCI_CONFIG, "digest": Digest::of(&raw_config), "size": raw_config.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}).to_string();
        let top = RawManifest { bytes: manifest.into_bytes(), media_type: OCI_MANIFEST.to_owned() };
        Ok(Self { store: Arc::new(store), reference, top, blobs })
    }
}

fn choose<'a>(saved: &'a [Saved], name: Option<&str>, reference: &str) -> Result<&'a Saved, Error> {
    let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let missing = |reason: String| Error::NoImage { reference: reference.to_owned(), reason };
    let names = || {
        let names: Vec<String> = saved.iter().flat_map(tags).collect();
        if names.is_empty() { "its images have no names".to_owned() } else { format!("it has {}", names.join(", ")) }
    };
    match (name, saved) {
        (_, []) => Err(missing("the archive is empty".to_owned())),
        (None, [only]) => Ok(only),
        (None, many) => Err(missing(format!("the archive holds {} images, name one; {}", many.len(), names()))),
        (Some(name), _) => saved
            .iter()
            .find(|image| tags(image).iter().any(|tag| full_name(tag) == full_name(name)))
            .ok_or_else(|| missing(format!("the archive has no image of this name; {}", names()))),
    }
}

/// `debian` and `docker.io/library/debian:latest` are the same name.
fn full_name(name: &str) -> String {
    name.parse::<oci_client::Reference>().map_or_else(|_| name.to_owned(), |reference| reference.whole())
}

/// Media type, digest and size in bytes of a layer as it lies in the archive.
fn describe_layer(
    store: &TarStore,
    path: &str,
    diff_id: &str,
    reference: &str,
) -> Result<(&'static str, Digest, u64), Error> {
    let failed = |error: io::Error| Error::from_read(error, reference);
    let missing = || malformed("archive", reference, &format!("layer `{path}` is missing"));
    let (mut reader, size) = store.open(path).map_err(failed)?.ok_or_else(missing)?;
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
    let media_type = match magic.as_slice() {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => {
            let digest = diff_id.parse().map_err(|error| Error::Malformed {
                what: "configuration",
                reference: reference.to_owned(),
                source: Box::new(error),
            })?;
            return Ok(("application/vnd.oci.image.layer.v1.tar", digest, size));
        }
    };
    // Newer archives are OCI layouts as well: there the path is the digest. Else the layer has to be read once.
    let named = path.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
    let digest = if let Some(digest) = named {
        digest
    } else {
        let mut hashing = Hashing::new(io::Cursor::new(magic).chain(reader));
        io::copy(&mut hashing, &mut io::sink()).map_err(failed)?;
        hashing.finish().1
    };
    Ok((media_type, digest, size))
}

fn read_file(store: &TarStore, path: &str, limit_bytes: u64, reference: &str) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::from_read(error, reference);
    let Some((mut reader, size)) = store.open(path).map_err(failed)? else {
        let reason = format!("the archive has no `{path}`, so it is not from `docker save`");
        return Err(Error::NoImage { reference: reference.to_owned(), reason });
    };
    if size > limit_bytes {
        return Err(malformed("archive", reference, &format!("`{path}` is too large")));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str, reference: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Malformed {
        what,
        reference: reference.to_owned(),
        source: Box::new(error),
    })
}

#[async_trait]
impl ImageSource for DockerArchive {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    async fn top(&self) -> Result<RawManifest, Error> {
        Ok(self.top.clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        if digest_of(descriptor, &self.reference)? == self.top.digest() {
            return Ok(self.top.clone());
        }
        Err(malformed("archive", &self.reference, &format!("it has no manifest {}", descriptor.digest())))
    }

    async fn blob_size(&self, descriptor: &Descriptor) -> Result<Option<u64>, Error> {
        let Some(path) = self.blobs.get(&digest_of(descriptor, &self.reference)?) else { return Ok(None) };
        let opened = self.store.open(path).map_err(|error| Error::from_read(error, &self.reference))?;
        Ok(opened.map(|(_, size_bytes)| size_bytes))
    }

    async fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        let digest = digest_of(descriptor, &self.reference)?;
        let missing = || malformed("archive", &self.reference, &format!("blob {digest} is missing"));
        let path = self.blobs.get(&digest).ok_or_else(missing)?;
        let opened = self.store.open(path).map_err(|error| Error::from_read(error, &self.reference))?;
        let (reader, _) = opened.ok_or_else(missing)?;
        Ok(Box::new(Verified::new(reader, digest, descriptor.size())))
    }
}
