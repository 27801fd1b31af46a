//! A whole OCI registry on the loopback, with faults to order; or the same faults and the same token service in front of
//! another registry.
//!
//! It runs on threads of its own, so blocking tests and tests of binaries use it like asynchronous ones. Every registry
//! has its own port and goes away when it is dropped.

mod api;
mod auth;
mod distribution;
mod faults;
mod server;
mod store;
mod upstream;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::json;

pub use auth::Access;
pub use distribution::Distribution;
pub use faults::{Fault, Kind, schedule};
use store::Store;

use crate::image::{TestImage, digest};

/// How a registry behaves as long as no fault applies.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of real registries, independent of the others")]
pub struct Behaviour {
    /// Who may do what.
    pub access: Access,
    /// `Location` headers are whole addresses, not paths.
    pub absolute_locations: bool,
    /// Blobs are mounted across repositories. Without it such a request opens an upload (202).
    pub mounts: bool,
    /// A PUT that carries the blob is accepted. Without it, it is answered with 405.
    pub whole_uploads: bool,
    /// Ranges of blobs are served. Without it, all of a blob is.
    pub ranges: bool,
    /// Uploads go to this host (and port) instead, and blobs come from it by redirect.
    pub storage: Option<String>,
    /// Referrers are kept track of and listed, so many on a page. Without it the API is not there, as in version 1.0.
    pub referrers: Option<usize>,
    /// Requests are passed on to the registry at this host (and port), which has the content.
    pub upstream: Option<String>,
    /// A chunk of more bytes is answered with 413.
    pub chunk_limit: Option<usize>,
    /// Uploads are announced to take no chunk of fewer bytes, the last one excepted.
    pub smallest_chunk: Option<u64>,
    /// The token service says no more than the token.
    pub terse_tokens: bool,
    /// What uploads are called in their addresses.
    pub upload_folder: &'static str,
}

impl Behaviour {
    /// As Docker Hub: tokens of its own service, whole addresses, layers at another host (and port).
    #[must_use]
    pub fn docker_hub(storage: Option<String>) -> Self {
        let access = Access::token("user", "secret");
        Self { access, absolute_locations: true, storage, ..Self::default() }
    }

    /// As GHCR: opaque tokens that do not say when they end, chunks of at most 4 MiB, paths of another form, and no uploads
    /// in one piece, which its proxies cut off above some size.
    #[must_use]
    pub fn ghcr() -> Self {
        Self {
            access: Access::token("user", "secret"),
            whole_uploads: false,
            chunk_limit: Some(4 << 20),
            terse_tokens: true,
            upload_folder: "upload",
            ..Self::default()
        }
    }

    /// No registry of its own, but in front of the one at `host` (and port).
    #[must_use]
    pub fn in_front_of(host: &str) -> Self {
        Self { upstream: Some(host.to_owned()), ..Self::default() }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            access: Access::Open,
            absolute_locations: false,
            mounts: true,
            whole_uploads: true,
            ranges: true,
            storage: None,
            referrers: Some(100),
            upstream: None,
            chunk_limit: None,
            smallest_chunk: None,
            terse_tokens: false,
            upload_folder: "uploads",
        }
    }
}

/// One request that was answered, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `GET`, ….
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The status; 0 where the connection was cut instead.
    pub status: u16,
    /// Whether the request had credentials or a token.
    pub authorized: bool,
    /// What was done to it.
    pub fault: Option<Kind>,
}

/// What a registry knows and was told.
#[derive(Debug, Default)]
struct State {
    store: Store,
    auth: auth::Tokens,
    faults: Vec<Fault>,
    log: Vec<Logged>,
    running: usize,
    most_running: usize,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    address: SocketAddr,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Registry {
    /// Starts one that everybody may read and write.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Behaviour::default())
    }

    /// Starts one.
    #[must_use]
    pub fn start_with(behaviour: Behaviour) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { behaviour, address, state: Mutex::default() });
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            server::serve(&listener, &serving).await;
        });
        Self { shared, runtime: Some(runtime) }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// `127.0.0.1:PORT/rest`.
    #[must_use]
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Makes requests fail from now on.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// Whether every fault that was to happen so many times has happened.
    #[must_use]
    pub fn faults_are_used_up(&self) -> bool {
        self.shared.state().faults.iter().all(|fault| fault.times == 0)
    }

    /// Puts an image there, as if it had been pushed.
    pub fn push(&self, repository: &str, tag: &str, image: &TestImage) {
        for blob in image.blobs() {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, Some(tag), &image.media_type, &image.manifest);
    }

    /// Puts a multi-platform image there, and gives the digest of its index.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[TestImage]) -> String {
        for image in images {
            image.blobs().for_each(|blob| self.push_blob(repository, blob));
            self.push_manifest(repository, None, &image.media_type, &image.manifest);
        }
        let index = crate::image::index(images);
        self.push_manifest(repository, Some(tag), "application/vnd.oci.image.index.v1+json", &index);
        digest(&index)
    }

    /// Puts a blob there.
    pub fn push_blob(&self, repository: &str, content: &[u8]) {
        self.shared.state().store.put_blob(repository, Bytes::copy_from_slice(content));
    }

    /// Puts a manifest there, whatever it names.
    pub fn push_manifest(&self, repository: &str, tag: Option<&str>, media_type: &str, content: &[u8]) {
        self.shared.state().store.put_manifest(repository, tag, media_type, Bytes::copy_from_slice(content));
    }

    /// Attaches an artifact without content to what is there, and gives its digest.
    ///
    /// # Panics
    /// When the subject is not there.
    #[must_use]
    pub fn push_artifact(&self, repository: &str, artifact_type: &str, subject: &str, subject_type: &str) -> String {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        self.push_blob(repository, b"{}");
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2});
        let size = self.manifest(repository, subject).unwrap().len();
        let artifact = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": empty,
            "layers": [empty],
            "subject": {"mediaType": subject_type, "digest": subject, "size": size},
        });
        let content = artifact.to_string();
        self.push_manifest(repository, None, MANIFEST, content.as_bytes());
        digest(content.as_bytes())
    }

    /// Replaces the content under a digest, as a broken disk would.
    pub fn corrupt_blob(&self, digest: &str, content: &[u8]) {
        self.shared.state().store.corrupt(digest, Bytes::copy_from_slice(content));
    }

    /// Deletes a manifest, as a clean-up would.
    pub fn delete_manifest(&self, repository: &str, digest: &str) {
        self.shared.state().store.delete_manifest(repository, digest);
    }

    /// The digest under a tag.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.shared.state().store.tag(repository, tag)
    }

    /// All tags of a repository, sorted.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.shared.state().store.tags(repository)
    }

    /// A manifest by tag or digest.
    #[must_use]
    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        self.shared.state().store.manifest(repository, name).map(|(_, content)| content.to_vec())
    }

    /// A blob of a repository.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.shared.state().store.blob(repository, digest).map(|content| content.to_vec())
    }

    /// Uploads that were opened and neither completed nor cancelled.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.shared.state().store.uploads.len()
    }

    /// Uploads that are open and whose address whoever asked for it could learn. Each one could have been cancelled.
    #[must_use]
    pub fn forgotten_uploads(&self) -> usize {
        let hidden = self
            .log()
            .into_iter()
            .filter(|entry| entry.method == "POST" && entry.fault.as_ref().is_some_and(Kind::hides_location));
        self.open_uploads().saturating_sub(hidden.count())
    }

    /// What tags lead to and the registry does not have, or has with another content: nothing, if all is well.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        self.shared.state().store.incomplete()
    }

    /// All requests so far, in the order of their arrival.
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        self.shared.state().log.clone()
    }

    /// How many requests had this method and this text in their path or query.
    #[must_use]
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|entry| entry.method == method && entry.target.contains(part)).count()
    }

    /// The most requests that ran at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_running
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // A test may drop it from within its own runtime, which must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
