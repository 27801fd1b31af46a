//! What a registry holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;

use crate::image::digest;

#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    blobs: BTreeMap<String, Bytes>,
    repositories: BTreeMap<String, Repository>,
    /// By number: what arrived so far.
    pub(super) uploads: BTreeMap<usize, Vec<u8>>,
    next_upload: usize,
}

#[derive(Debug, Clone, Default)]
struct Repository {
    blobs: BTreeSet<String>,
    /// By digest: media type and content.
    manifests: BTreeMap<String, (String, Bytes)>,
    tags: BTreeMap<String, String>,
}

impl Store {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn put_blob(&mut self, repository: &str, content: Bytes) -> String {
        let digest = digest(&content);
        self.blobs.insert(digest.clone(), content);
        self.repository(repository).blobs.insert(digest.clone());
        digest
    }

    pub(super) fn corrupt(&mut self, digest: &str, content: Bytes) {
        self.blobs.insert(digest.to_owned(), content);
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let held = self.repositories.get(repository)?.blobs.contains(digest);
        held.then(|| self.blobs.get(digest).cloned())?
    }

    /// Whether `from` has the blob, and `repository` now has it too.
    pub(super) fn mount(&mut self, repository: &str, from: &str, digest: &str) -> bool {
        let found = self.blob(from, digest).is_some();
        if found {
            self.repository(repository).blobs.insert(digest.to_owned());
        }
        found
    }

    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        content: Bytes,
    ) -> String {
        let digest = digest(&content);
        let repository = self.repository(repository);
        repository.manifests.insert(digest.clone(), (media_type.to_owned(), content));
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    pub(super) fn delete_manifest(&mut self, repository: &str, digest: &str) {
        self.repository(repository).manifests.remove(digest);
    }

    pub(super) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Bytes)> {
        let repository = self.repositories.get(repository)?;
        let digest = repository.tags.get(name).map_or(name, String::as_str);
        repository.manifests.get(digest).cloned()
    }

    pub(super) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.repositories.get(repository)?.tags.get(tag).cloned()
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let tags = self.repositories.get(repository).map(|repository| repository.tags.keys().cloned().collect());
        tags.unwrap_or_default()
    }

    /// What a manifest names that the repository does not have; `None` if the manifest is not one.
    pub(super) fn missing(&self, repository: &str, content: &[u8]) -> Option<Vec<String>> {
        let manifest: Value = serde_json::from_slice(content).ok()?;
        let held = self.repositories.get(repository);
        let digest_of = |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
        let list = |field: &str| manifest[field].as_array().cloned().unwrap_or_default();
        let blobs = list("layers").into_iter().chain(manifest.get("config").cloned()).map(|blob| digest_of(&blob));
        let manifests = list("manifests");
        let manifests = manifests.iter().map(digest_of);
        let missing_blobs = blobs.filter(|digest| !held.is_some_and(|held| held.blobs.contains(digest)));
        let missing_manifests =
            manifests.filter(|digest| !held.is_some_and(|held| held.manifests.contains_key(digest)));
        Some(missing_blobs.chain(missing_manifests).collect())
    }

    /// The descriptors of manifests whose subject is `digest`.
    pub(super) fn referrers(&self, repository: &str, subject: &str) -> Vec<Value> {
        let Some(repository) = self.repositories.get(repository) else { return Vec::new() };
        let mut found = Vec::new();
        for (digest, (media_type, content)) in &repository.manifests {
            let Ok(manifest) = serde_json::from_slice::<Value>(content) else { continue };
            if manifest["subject"]["digest"] == subject {
                let artifact = manifest.get("artifactType").unwrap_or(&manifest["config"]["mediaType"]);
                found.push(serde_json::json!({
                    "mediaType": media_type,
                    "digest": digest,
                    "size": content.len(),
                    "artifactType": artifact,
                    "annotations": manifest["annotations"],
                }));
            }
        }
        found
    }

    /// What tags lead to and is not there, or is not what its digest says.
    pub(super) fn incomplete(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, repository) in &self.repositories {
            for (tag, digest) in &repository.tags {
                self.check_manifest(name, &format!("{name}:{tag}"), digest, &mut found);
            }
        }
        found
    }

    fn check_manifest(&self, repository: &str, from: &str, wanted: &str, found: &mut Vec<String>) {
        let Some((_, content)) = self.manifest(repository, wanted) else {
            found.push(format!("{from} -> manifest {wanted} is missing"));
            return;
        };
        if digest(&content) != wanted {
            found.push(format!("{from} -> manifest {wanted} is another one"));
        }
        let Ok(manifest) = serde_json::from_slice::<Value>(&content) else {
            found.push(format!("{from} -> manifest {wanted} is none"));
            return;
        };
        let list = |field: &str| manifest[field].as_array().cloned().unwrap_or_default();
        for blob in list("layers").into_iter().chain(manifest.get("config").cloned()) {
            let wanted = blob["digest"].as_str().unwrap_or_default();
            match self.blob(repository, wanted) {
                None => found.push(format!("{from} -> blob {wanted} is missing")),
                Some(content) if digest(&content) != wanted || blob["size"] != content.len() => {
                    found.push(format!("{from} -> blob {wanted} is another one"));
                }
                Some(_) => {}
            }
        }
        for child in list("manifests") {
            self.check_manifest(repository, from, child["digest"].as_str().unwrap_or_default(), found);
        }
    }

    pub(super) fn open_upload(&mut self) -> usize {
        self.next_upload += 1;
        self.uploads.insert(self.next_upload, Vec::new());
        self.next_upload
    }
}
