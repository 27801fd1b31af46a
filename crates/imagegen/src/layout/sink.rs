//! Writing a layout: everything waits in a staging folder until it gets its name.
//!
//! Then the blobs are renamed into place and `index.json` is replaced, under a lock, keeping the names of other images. A
//! writer that fails or is killed before leaves the layout as it was.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use oci_spec::image::Descriptor;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};

use super::transfer::{link_blob, write_blob};
use super::{LAYOUT_VERSION, REF_NAME, REFERRERS, Staging, blob_path, parent_of};
use crate::Error;
use crate::artifact;
use crate::digest::Digest;
use crate::manifest::{OCI_INDEX, blocking, check_pin, digest_of, malformed};
use crate::reference::{FileReference, Reference};
use crate::sink::{BytesSent, Content, ImageSink, Placed};
use crate::source::RawManifest;

/// Writes one image into an OCI layout folder, which is made if it is not there.
#[derive(Debug)]
pub struct LayoutSink {
    dir: PathBuf,
    name: Option<String>,
    pin: Option<Digest>,
    reference: String,
    staging: Staging,
    /// The entries of what was attached, for `index.json`.
    attached: Mutex<Vec<Descriptor>>,
}

impl LayoutSink {
    /// A sink for the image that `file` names.
    pub fn new(file: &FileReference) -> Result<Self, Error> {
        Self::with_reference(file, Reference::OciLayout(file.clone()).to_string())
    }

    pub(crate) fn with_reference(file: &FileReference, reference: String) -> Result<Self, Error> {
        let dir = file.path.clone();
        // Within the layout where there is one, so that renames stay on its file system whatever is mounted where.
        let staging = match fs::metadata(&dir) {
            Ok(metadata) if metadata.is_dir() => {
                refuse_other_folders(&dir, &reference)?;
                Staging::new(&dir, "layout")?
            }
            Ok(_) => {
                let source = std::io::Error::from(ErrorKind::NotADirectory);
                return Err(Error::File { action: "write into", path: dir, source });
            }
            Err(_) => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Staging::new(&parent_of(&dir), &name)?
            }
        };
        Ok(Self { dir, name: file.name.clone(), pin: file.digest, reference, staging, attached: Mutex::default() })
    }

    fn staged(&self, digest: &Digest) -> PathBuf {
        self.staging.path().join(digest.hex())
    }

    fn holds(&self, digest: &Digest, size_bytes: u64) -> bool {
        [self.dir.join(blob_path(digest)), self.staged(digest)]
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == size_bytes))
    }
}

/// A folder that holds other things is not turned into a layout: it was hardly meant.
fn refuse_other_folders(dir: &Path, reference: &str) -> Result<(), Error> {
    let entries = fs::read_dir(dir).map_err(|source| Error::File { action: "read", path: dir.to_owned(), source })?;
    let foreign = entries.filter_map(Result::ok).any(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    if foreign && !dir.join("oci-layout").exists() && !dir.join("index.json").exists() {
        return Err(malformed("layout", reference, "the folder holds other things than an OCI layout"));
    }
    Ok(())
}

/// Moves what is staged into place and gives it its name.
fn commit(staging: &Path, dir: &Path, entry: &Value, attached: &[Descriptor], reference: &str) -> Result<(), Error> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|source| Error::File { action: "create", path: blobs.clone(), source })?;
    // The folder itself is the lock: two writers of different names do not lose each other's.
    let lock = File::open(dir).map_err(|source| Error::File { action: "open", path: dir.to_owned(), source })?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| Error::File {
        action: "lock",
        path: dir.to_owned(),
        source: error.into(),
    })?;
    let staged =
        fs::read_dir(staging).map_err(|source| Error::File { action: "read", path: staging.to_owned(), source })?;
    for file in staged.filter_map(Result::ok).filter(|file| file.file_type().is_ok_and(|kind| kind.is_file())) {
        let target = blobs.join(file.file_name());
        fs::rename(file.path(), &target).map_err(|source| Error::File { action: "write", path: target, source })?;
    }
    sync_dir(&blobs)?;
    if !dir.join("oci-layout").exists() {
        replace(dir, "oci-layout", LAYOUT_VERSION.as_bytes())?;
    }
    let index = with_entry(read_index(dir, reference)?, entry, attached);
    replace(dir, "index.json", &serde_json::to_vec(&index).unwrap_or_default())?;
    sync_dir(dir)
}

fn read_index(dir: &Path, reference: &str) -> Result<Map<String, Value>, Error> {
    let path = dir.join("index.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(Error::File { action: "read", path, source }),
    };
    serde_json::from_slice(&text).map_err(|error| Error::Malformed {
        what: "index.json",
        reference: reference.to_owned(),
        source: Box::new(error),
    })
}

/// The index with `entry` in place of the one of its name (or of the nameless one), and with what is `attached` to it. All
/// else stays, known or not.
fn with_entry(mut index: Map<String, Value>, entry: &Value, attached: &[Descriptor]) -> Map<String, Value> {
    let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
    // Of a nameless image, whatever else has no name and is no artifact is an older version.
    let replaced = |other: &Value| match name(entry) {
        None => name(other).is_none() && other["artifactType"].is_null(),
        some => name(other) == some,
    };
    index.entry("schemaVersion").or_insert(json!(2));
    index.entry("mediaType").or_insert(json!(OCI_INDEX));
    let manifests = index.entry("manifests").or_insert_with(|| json!([]));
    if !manifests.is_array() {
        *manifests = json!([]);
    }
    if let Some(manifests) = manifests.as_array_mut() {
        manifests.retain(|other| !replaced(other));
        manifests.push(entry.clone());
    }
    if name(entry).is_none() {
        // To other tools a nameless image is the only entry: its artifacts are listed aside.
        let annotations = index.entry("annotations").or_insert_with(|| json!({}));
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[REFERRERS] = json!(json!(attached).to_string());
    } else if let Some(manifests) = index["manifests"].as_array_mut() {
        let listed = |entry: &Descriptor, manifests: &[Value]| {
            manifests.iter().any(|other| other["digest"] == entry.digest().to_string().as_str())
        };
        for entry in attached {
            if !listed(entry, manifests) {
                manifests.push(json!(entry));
            }
        }
    }
    index
}

fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = dir.join(name);
    let failed = |source| Error::File { action: "write", path: path.clone(), source };
    let mut file = tempfile::Builder::new()
        .prefix(".imagegen-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(failed)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&path).map(drop).map_err(|error| failed(error.error))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| Error::File { action: "write", path: dir.to_owned(), source })
}

#[async_trait]
impl ImageSink for LayoutSink {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        Ok(self.holds(&digest_of(descriptor, &self.reference)?, descriptor.size()))
    }

    async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: Content<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Placed, Error> {
        let digest = digest_of(descriptor, &self.reference)?;
        if self.holds(&digest, descriptor.size()) {
            return Ok(Placed::Present);
        }
        let part = tempfile::Builder::new().prefix("part-").tempdir_in(self.staging.path());
        let part =
            part.map_err(|source| Error::File { action: "write into", path: self.staging.path().to_owned(), source })?;
        let file = part.path().join(digest.hex());
        let linked = match content {
            Content::File(built) => link_blob(built, file.clone(), descriptor.size()).await?,
            _ => false,
        };
        if linked {
            sent(descriptor.size());
        } else {
            write_blob(descriptor, digest, content, file.clone(), &self.reference, sent).await?;
        }
        let target = self.staged(&digest);
        fs::rename(file, &target).map_err(|source| Error::File { action: "write", path: target, source })?;
        Ok(Placed::Written)
    }

    async fn put_manifest(&self, manifest: &RawManifest) -> Result<(), Error> {
        let descriptor = crate::manifest::describe(&manifest.media_type, &manifest.bytes);
        self.put_blob(&descriptor, Content::Bytes(&manifest.bytes), &|_| ()).await.map(drop)
    }

    async fn attach(&self, _: &Digest, referrers: &[RawManifest]) -> Result<(), Error> {
        for referrer in referrers {
            self.put_manifest(referrer).await?;
            let entry = artifact::entry(referrer, &self.reference)?;
            self.attached.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
        Ok(())
    }

    async fn name(&self, manifest: &RawManifest) -> Result<(), Error> {
        check_pin(self.pin, manifest, &self.reference)?;
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest(),
            "size": manifest.bytes.len(),
        });
        if let Some(name) = &self.name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        let (staging, dir, reference) = (self.staging.path().to_owned(), self.dir.clone(), self.reference.clone());
        let attached = std::mem::take(&mut *self.attached.lock().unwrap_or_else(PoisonError::into_inner));
        blocking(move || commit(&staging, &dir, &entry, &attached, &reference)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_replaces_the_one_of_its_name_and_keeps_everything_else() {
        let entry = |digest: &str, name: Option<&str>| match name {
            Some(name) => json!({"digest": digest, "annotations": {REF_NAME: name}}),
            None => json!({"digest": digest}),
        };
        let index = json!({"schemaVersion": 2, "x": 1, "manifests": [entry("1", Some("a")), entry("2", Some("b")), entry("3", None)]});
        let index = index.as_object().unwrap().clone();
        let named = with_entry(index.clone(), &entry("9", Some("a")), &[]);
        assert_eq!(named["manifests"], json!([entry("2", Some("b")), entry("3", None), entry("9", Some("a"))]));
        assert_eq!(named["x"], 1);
        let nameless = with_entry(index, &entry("9", None), &[]);
        assert_eq!(nameless["manifests"], json!([entry("1", Some("a")), entry("2", Some("b")), entry("9", None)]));
        assert_eq!(with_entry(Map::new(), &entry("9", None), &[])["schemaVersion"], 2);
        let damaged = json!({"manifests": "text", "annotations": ["no object"]}).as_object().unwrap().clone();
        let mended = with_entry(damaged, &entry("9", None), &[]);
        assert_eq!(
            (&mended["manifests"], &mended["annotations"][REFERRERS]),
            (&json!([entry("9", None)]), &json!("[]"))
        );
    }

    #[test]
    fn artifacts_of_a_named_image_are_entries_and_those_of_a_nameless_one_are_listed_aside() {
        let mut artifact = crate::manifest::describe("application/vnd.oci.image.manifest.v1+json", b"artifact");
        artifact.set_artifact_type(Some("application/vnd.example".into()));
        let attached = [artifact.clone()];
        let named = json!({"digest": "1", "annotations": {REF_NAME: "a"}});
        let index = with_entry(Map::new(), &named, &attached);
        assert_eq!(index["manifests"], json!([named, artifact]));
        assert_eq!(with_entry(index.clone(), &named, &attached)["manifests"].as_array().unwrap().len(), 2);
        let nameless = json!({"digest": "2"});
        let index = with_entry(index, &nameless, &attached);
        assert_eq!(index["manifests"], json!([named, artifact, nameless]));
        assert!(index["annotations"][REFERRERS].as_str().unwrap().contains("vnd.example"));
    }
}
