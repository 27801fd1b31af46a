//! Reading a layout.

use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::image::{Descriptor, ImageIndex};

use super::{Folder, REF_NAME, REFERRERS, Store, blob_path};
use crate::Error;
use crate::archive::TarStore;
use crate::artifact;
use crate::digest::{Digest, Verified};
use crate::manifest::{
    MAX_MANIFEST_BYTES, OCI_INDEX, blocking, check_size, digest_of, is_image, malformed, read_small, sniff_media_type,
};
use crate::reference::{FileReference, Reference};
use crate::source::{BlobReader, ImageSource, RawManifest};

/// One image of an OCI layout, in a folder or an archive.
pub struct LayoutSource {
    store: Arc<dyn Store>,
    reference: String,
    top: RawManifest,
    /// The entries that may be artifacts about others.
    artifacts: Vec<Descriptor>,
}

impl std::fmt::Debug for LayoutSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayoutSource").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl LayoutSource {
    /// The image that `file` names in a folder.
    pub async fn open_folder(file: &FileReference) -> Result<Self, Error> {
        let reference = Reference::OciLayout(file.clone()).to_string();
        Self::open(Arc::new(Folder(file.path.clone())), reference, file).await
    }

    /// The image that `file` names in a tar archive.
    pub async fn open_archive(file: &FileReference) -> Result<Self, Error> {
        let reference = Reference::OciArchive(file.clone()).to_string();
        let path = file.path.clone();
        let store = blocking(move || TarStore::open(&path)).await?;
        Self::open(Arc::new(store), reference, file).await
    }

    async fn open(store: Arc<dyn Store>, reference: String, file: &FileReference) -> Result<Self, Error> {
        let (name, pin) = (file.name.clone(), file.digest);
        blocking(move || {
            let index = read_index(&*store, &reference)?;
            let top = match choose(&index, name.as_deref(), pin, &reference)? {
                Chosen::Entry(descriptor) => read_manifest(&*store, descriptor, &reference)?,
                Chosen::Blob(digest) => read_pinned(&*store, digest, &reference)?,
                Chosen::Index(bytes) => RawManifest { bytes, media_type: OCI_INDEX.to_owned() },
            };
            let artifacts = artifacts(&index);
            Ok(Self { store, reference, top, artifacts })
        })
        .await
    }
}

/// What a name in a layout stands for.
enum Chosen<'a> {
    Entry(&'a Descriptor),
    /// A digest that `index.json` does not list, but that an index it lists may.
    Blob(Digest),
    /// `index.json` is itself the image's index.
    Index(Vec<u8>),
}

fn read_index(store: &dyn Store, reference: &str) -> Result<ImageIndex, Error> {
    let content = |source| Error::Content { reference: reference.to_owned(), source };
    let Some((mut reader, size)) = store.open("index.json").map_err(content)? else {
        let reason = "there is no OCI layout (no index.json)".to_owned();
        return Err(Error::NoImage { reference: reference.to_owned(), reason });
    };
    if size > MAX_MANIFEST_BYTES {
        return Err(malformed("index.json", reference, "it is too large"));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(content)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
        what: "index.json",
        reference: reference.to_owned(),
        source: Box::new(error),
    })
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// Whether an entry is an artifact without a name, as those about images are.
fn is_artifact(entry: &Descriptor) -> bool {
    name_of(entry).is_none() && entry.artifact_type().is_some()
}

/// The entries that may be about others: all manifests without a name, and those that are listed aside.
fn artifacts(index: &ImageIndex) -> Vec<Descriptor> {
    let aside = index.annotations().as_ref().and_then(|annotations| annotations.get(REFERRERS));
    let aside = aside.and_then(|text| serde_json::from_str::<Vec<Descriptor>>(text).ok()).unwrap_or_default();
    let beside = index.manifests().iter().filter(|entry| name_of(entry).is_none()).cloned();
    beside.chain(aside).filter(|entry| is_image(entry.media_type().as_ref())).collect()
}

fn choose<'a>(
    index: &'a ImageIndex,
    name: Option<&str>,
    pin: Option<Digest>,
    reference: &str,
) -> Result<Chosen<'a>, Error> {
    let all = index.manifests();
    // Artifacts about images stand beside them, but it is images that are asked for.
    let mut entries: Vec<&'a Descriptor> = all.iter().filter(|entry| !is_artifact(entry)).collect();
    if entries.is_empty() {
        entries = all.iter().collect();
    }
    let missing = |reason: String| Error::NoImage { reference: reference.to_owned(), reason };
    if let Some(pin) = pin {
        let listed = all.iter().find(|entry| entry.digest().to_string() == pin.to_string());
        return Ok(listed.map_or(Chosen::Blob(pin), Chosen::Entry));
    }
    let names = || {
        let names: Vec<&str> = entries.iter().filter_map(|entry| name_of(entry)).collect();
        if names.is_empty() { "its images have no names".to_owned() } else { format!("it has {}", names.join(", ")) }
    };
    match (name, entries.as_slice()) {
        (_, []) => Err(missing("the layout is empty".to_owned())),
        (Some(name), _) => entries
            .iter()
            .find(|entry| name_of(entry) == Some(name))
            .map(|entry| Chosen::Entry(entry))
            .ok_or_else(|| missing(format!("the layout has no image of this name; {}", names()))),
        (None, [only]) => Ok(Chosen::Entry(only)),
        (None, _) if entries.iter().all(|entry| name_of(entry).is_none() && entry.platform().is_some()) => {
            let bytes = serde_json::to_vec(index).map_err(|error| Error::Malformed {
                what: "index.json",
                reference: reference.to_owned(),
                source: Box::new(error),
            })?;
            Ok(Chosen::Index(bytes))
        }
        (None, _) => Err(missing(format!("the layout holds {} images, name one; {}", entries.len(), names()))),
    }
}

fn open_blob(store: &dyn Store, digest: &Digest, size: Option<u64>, reference: &str) -> Result<BlobReader, Error> {
    let opened = store.open(&blob_path(digest)).map_err(|error| Error::from_read(error, reference))?;
    match opened {
        Some((reader, stored)) => Ok(Box::new(Verified::new(reader, *digest, size.unwrap_or(stored)))),
        None => Err(malformed("layout", reference, &format!("blob {digest} is missing"))),
    }
}

fn read_manifest(store: &dyn Store, descriptor: &Descriptor, reference: &str) -> Result<RawManifest, Error> {
    let digest = digest_of(descriptor, reference)?;
    let mut manifest = read_pinned(store, digest, reference)?;
    check_size(&manifest, descriptor, reference)?;
    descriptor.media_type().to_string().clone_into(&mut manifest.media_type);
    Ok(manifest)
}

fn read_pinned(store: &dyn Store, digest: Digest, reference: &str) -> Result<RawManifest, Error> {
    let mut bytes = Vec::new();
    let reader = open_blob(store, &digest, None, reference)?;
    let read = reader.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::from_read(error, reference))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(malformed("manifest", reference, "it is too large"));
    }
    let media_type = sniff_media_type(&bytes).to_owned();
    Ok(RawManifest { bytes, media_type })
}

#[async_trait]
impl ImageSource for LayoutSource {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    async fn top(&self) -> Result<RawManifest, Error> {
        Ok(self.top.clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        let bytes = read_small(self, descriptor, MAX_MANIFEST_BYTES, "manifest").await?;
        Ok(RawManifest { bytes, media_type: descriptor.media_type().to_string() })
    }

    async fn blob_size(&self, descriptor: &Descriptor) -> Result<Option<u64>, Error> {
        let digest = digest_of(descriptor, &self.reference)?;
        let opened = self.store.open(&blob_path(&digest));
        Ok(opened.map_err(|error| Error::from_read(error, &self.reference))?.map(|(_, size_bytes)| size_bytes))
    }

    async fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        open_blob(&*self.store, &digest_of(descriptor, &self.reference)?, Some(descriptor.size()), &self.reference)
    }

    async fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let mut found: Vec<Descriptor> = Vec::new();
        for listed in &self.artifacts {
            // What cannot be read, for example because a tool collected it as garbage, says nothing about this image.
            let Ok(artifact) = read_manifest(&*self.store, listed, &self.reference) else { continue };
            if artifact::subject(&artifact, &self.reference).ok().flatten() != Some(*subject) {
                continue;
            }
            let entry = artifact::entry(&artifact, &self.reference)?;
            let wanted = artifact_type.is_none_or(|wanted| artifact::is_of_type(&entry, wanted));
            if wanted && found.iter().all(|other| other.digest() != entry.digest()) {
                found.push(entry);
            }
        }
        Ok(found)
    }
}
