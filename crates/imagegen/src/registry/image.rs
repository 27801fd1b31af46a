//! One image of a registry, as a source and a sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;
use reqwest::Response;
use tokio::sync::OnceCell;

use super::attempts::{Attempts, Failure, Outcome};
use super::auth::Access;
use super::client::{Client, Request};
use super::error::RegistryError;
use super::fetch::{BlockingFetch, Fetch};
use super::referrers::{Listing, SUBJECT};
use super::sessions::Session;
use super::upload::{Manner, Mount, Upload};
use crate::Error;
use crate::digest::{Digest, Verified};
use crate::manifest::{
    self, DOCKER_INDEX, DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST, digest_of, sniff_media_type,
};
use crate::reference::RegistryReference;
use crate::sink::{BytesSent, Content, ImageSink, Placed};
use crate::source::{BlobReader, ImageSource, Origin, RawManifest};

/// One image of a registry.
#[derive(Debug)]
pub struct RegistryImage {
    pub(super) client: Arc<Client>,
    pub(super) reference: RegistryReference,
    pub(super) pull: Access,
    pub(super) push: Access,
    /// Read once: a tag that moves meanwhile does not mix two images.
    top: OnceCell<RawManifest>,
    /// The registry refused uploads in one piece, and takes chunks of so many bytes; 0 where it did not.
    chunk_bytes: AtomicU64,
    /// Under what name its uploads are noted.
    owner: u64,
    pub(super) referrers: Listing,
}

impl RegistryImage {
    /// The image that `reference` names, reached through `client`.
    #[must_use]
    pub fn new(client: Arc<Client>, reference: RegistryReference) -> Self {
        let (pull, push) = (Access::pull(&reference), Access::push(&reference));
        let owner = client.sessions().owner();
        Self {
            client,
            reference,
            pull,
            push,
            top: OnceCell::new(),
            chunk_bytes: AtomicU64::new(0),
            owner,
            referrers: Listing::default(),
        }
    }

    pub(super) fn failed(&self, action: &'static str, outcome: Outcome) -> Error {
        match outcome {
            Outcome::Registry(error) => {
                Error::Registry { action, reference: self.reference.to_string(), source: Box::new(error) }
            }
            Outcome::Content(error) => error,
        }
    }

    /// Fetches the manifest under a tag or a digest. With a digest, nothing else than its content comes back.
    pub(super) async fn fetch_manifest(&self, name: &str, expected: Option<Digest>) -> Result<RawManifest, Error> {
        let _permit = self.client.to_read().await;
        let mut attempts = Attempts::new(&self.client, &self.pull);
        loop {
            let failure = match self.fetch_manifest_once(name, expected).await {
                Ok(manifest) => return Ok(manifest),
                Err(failure) => failure,
            };
            attempts.next(failure).await.map_err(|outcome| self.failed("read", outcome))?;
        }
    }

    async fn fetch_manifest_once(&self, name: &str, expected: Option<Digest>) -> Result<RawManifest, Failure> {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let host = &self.pull.host;
        let url = self.client.url(host, &format!("{repository}/manifests/{name}"))?;
        let response = self.client.send(&self.pull, accepting_manifests(Request::new(Method::GET, url))).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let kind = if expected.is_some() { "manifest" } else { "tag" };
                let what = format!("{kind} {name} in {repository}");
                return Err(RegistryError::NotFound { host: registry.to_owned(), what }.into());
            }
            _ => return Err(self.client.unexpected(&self.pull, response).await),
        }
        let media_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // Parameters such as a character set say nothing about JSON.
        let media_type = media_type.and_then(|value| value.split(';').next()).map(|value| value.trim().to_owned());
        let stated = stated_digest(&response);
        let bytes = self.client.read_body(host, response, MAX_MANIFEST_BYTES).await?;
        let actual = Digest::of(&bytes);
        for expected in [expected, stated].into_iter().flatten() {
            if expected != actual {
                let host = registry.to_owned();
                return Err(RegistryError::Digest { host, what: "a manifest", expected, actual }.into());
            }
        }
        let media_type = match media_type {
            Some(stated) if manifest::is_index(&stated) || manifest::is_image(&stated) => stated,
            _ => sniff_media_type(&bytes).to_owned(),
        };
        Ok(RawManifest { bytes, media_type })
    }

    /// The size in bytes that the registry has stored for the blob; `None` where it lacks it.
    async fn head_blob(
        &self,
        access: &Access,
        descriptor: &Descriptor,
        action: &'static str,
    ) -> Result<Option<u64>, Error> {
        let digest = digest_of(descriptor, &self.reference.to_string())?;
        let mut attempts = Attempts::new(&self.client, access);
        loop {
            let failure = match self.head_blob_once(access, digest, descriptor.size()).await {
                Ok(size_bytes) => return Ok(size_bytes),
                Err(failure) => failure,
            };
            attempts.next(failure).await.map_err(|outcome| self.failed(action, outcome))?;
        }
    }

    async fn head_blob_once(&self, access: &Access, digest: Digest, size: u64) -> Result<Option<u64>, Failure> {
        let url = self.client.url(&access.host, &format!("{}/blobs/{digest}", access.repository))?;
        let response = self.client.send(access, Request::new(Method::HEAD, url)).await?;
        match response.status() {
            StatusCode::OK => {
                let length = response.headers().get(http::header::CONTENT_LENGTH);
                let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
                // Where the registry does not say, it has what its digest says.
                Ok(Some(length.unwrap_or(size)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.client.unexpected(access, response).await),
        }
    }

    async fn upload(
        &self,
        upload: &Upload<'_>,
        content: Content<'_>,
        session: Option<Session>,
        sent: BytesSent<'_>,
    ) -> Result<Placed, Error> {
        let mut manner = match self.chunk_bytes.load(Ordering::Relaxed) {
            0 => Manner::Whole,
            chunk_bytes => Manner::Chunks(chunk_bytes),
        };
        let result = upload.run(content, session, &mut manner, sent).await;
        if let Manner::Chunks(chunk_bytes) = manner {
            self.chunk_bytes.store(chunk_bytes, Ordering::Relaxed);
        }
        result.map(|()| Placed::Written).map_err(|outcome| self.failed("write to", outcome))
    }

    /// The repository to mount blobs from: that of the content, when it is another one of the same registry.
    fn mountable(&self, content: Content<'_>) -> Option<String> {
        let Content::Source(source) = content else { return None };
        let origin = source.origin()?;
        let same = origin.api_host == self.reference.api_host();
        (same && origin.repository != self.reference.repository()).then_some(origin.repository)
    }

    /// Writes a manifest under a tag or its digest. Whether the registry keeps track of the subject that it names.
    pub(super) async fn put_manifest_as(&self, manifest: &RawManifest, name: &str) -> Result<bool, Error> {
        let _permit = self.client.to_write().await;
        let mut attempts = Attempts::new(&self.client, &self.push);
        loop {
            let failure = match self.put_manifest_once(manifest, name).await {
                Ok(tracked) => return Ok(tracked),
                Err(failure) => failure,
            };
            attempts.next(failure).await.map_err(|outcome| self.failed("write to", outcome))?;
        }
    }

    async fn put_manifest_once(&self, manifest: &RawManifest, name: &str) -> Result<bool, Failure> {
        let url = self.client.url(&self.push.host, &format!("{}/manifests/{name}", self.push.repository))?;
        let request = Request::new(Method::PUT, url)
            .header(http::header::CONTENT_TYPE, manifest.media_type.as_str())
            .body(manifest.bytes.clone());
        let response = self.client.send(&self.push, request).await?;
        if !response.status().is_success() {
            return Err(self.client.unexpected(&self.push, response).await);
        }
        let expected = manifest.digest();
        match stated_digest(&response) {
            // Under a tag the registry cannot know that, and the tag names it now: it must not stay.
            Some(actual) if actual != expected => {
                Err(Failure::Altered { host: self.reference.registry().to_owned(), expected, actual })
            }
            _ => Ok(response.headers().contains_key(SUBJECT)),
        }
    }
}

/// Asks for manifests of every kind that can be read.
pub(super) fn accepting_manifests(request: Request) -> Request {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST]
        .into_iter()
        .fold(request, |request, accepted| request.header(http::header::ACCEPT, accepted))
}

/// The digest that the registry says it stored or sent, where it says one of a kind that can be checked.
pub(super) fn stated_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

#[async_trait]
impl ImageSource for RegistryImage {
    fn reference(&self) -> String {
        self.reference.to_string()
    }

    async fn top(&self) -> Result<RawManifest, Error> {
        let fetch = || async {
            match self.reference.digest() {
                Some(digest) => self.fetch_manifest(&digest.to_string(), Some(digest)).await,
                None => self.fetch_manifest(self.reference.tag().unwrap_or("latest"), None).await,
            }
        };
        self.top.get_or_try_init(fetch).await.cloned()
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        let digest = digest_of(descriptor, &self.reference.to_string())?;
        let manifest = self.fetch_manifest(&digest.to_string(), Some(digest)).await?;
        manifest::check_size(&manifest, descriptor, &self.reference.to_string())?;
        Ok(manifest)
    }

    async fn blob_size(&self, descriptor: &Descriptor) -> Result<Option<u64>, Error> {
        let _permit = self.client.to_read().await;
        self.head_blob(&self.pull, descriptor, "read").await
    }

    async fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        let reference = self.reference.to_string();
        let digest = digest_of(descriptor, &reference)?;
        let fetch = Fetch {
            client: Arc::clone(&self.client),
            access: self.pull.clone(),
            digest,
            size_bytes: descriptor.size(),
            reference,
        };
        Ok(Box::new(Verified::new(BlockingFetch::new(fetch), digest, descriptor.size())))
    }

    async fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        self.list_referrers(subject, artifact_type).await
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin {
            api_host: self.reference.api_host().to_owned(),
            repository: self.reference.repository().to_owned(),
        })
    }
}

#[async_trait]
impl ImageSink for RegistryImage {
    fn reference(&self) -> String {
        self.reference.to_string()
    }

    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let _permit = self.client.to_write().await;
        Ok(self.head_blob(&self.push, descriptor, "write to").await?.is_some())
    }

    async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: Content<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Placed, Error> {
        let reference = self.reference.to_string();
        let digest = digest_of(descriptor, &reference)?;
        let _permit = self.client.to_write().await;
        if self.head_blob(&self.push, descriptor, "write to").await?.is_some() {
            return Ok(Placed::Present);
        }
        let upload = |access| Upload {
            client: &self.client,
            access,
            descriptor,
            digest,
            reference: &reference,
            owner: self.owner,
        };
        let Some(from) = self.mountable(content) else {
            return self.upload(&upload(&self.push), content, None, sent).await;
        };
        // Later requests of this upload keep the access of its start: registries may tie a session to it.
        let access = Access::mount(&self.reference, &from);
        let (upload, plain_upload) = (upload(&access), upload(&self.push));
        let mut attempts = Attempts::new(&self.client, &access);
        loop {
            match upload.mount(&from).await {
                Ok(Mount::Mounted) => return Ok(Placed::Mounted),
                Ok(Mount::Declined(session)) => return self.upload(&upload, content, session, sent).await,
                Err(failure) => match attempts.next(failure).await {
                    Ok(()) => {}
                    // Not being allowed to mount says nothing about being allowed to upload.
                    Err(Outcome::Registry(RegistryError::Refused { .. })) => {
                        return self.upload(&plain_upload, content, None, sent).await;
                    }
                    Err(outcome) => return Err(self.failed("write to", outcome)),
                },
            }
        }
    }

    async fn put_manifest(&self, manifest: &RawManifest) -> Result<(), Error> {
        self.put_manifest_as(manifest, &manifest.digest().to_string()).await.map(drop)
    }

    async fn name(&self, manifest: &RawManifest) -> Result<(), Error> {
        manifest::check_pin(self.reference.digest(), manifest, &self.reference.to_string())?;
        match self.reference.tag() {
            Some(tag) => self.put_manifest_as(manifest, tag).await.map(drop),
            None => Ok(()),
        }
    }

    async fn attach(&self, subject: &Digest, referrers: &[RawManifest]) -> Result<(), Error> {
        self.attach_referrers(subject, referrers).await
    }

    fn registry(&self) -> Option<&RegistryImage> {
        Some(self)
    }

    async fn settle(&self) {
        self.confirm_referrers().await;
        self.client.sessions().cancel(&self.client, self.owner).await;
    }
}
