//! Writing blobs: present, mounted from another repository, or uploaded, in one piece or in chunks.

use std::fs::File;
use std::io::{self, Cursor};
use std::sync::PoisonError;

use bytes::Bytes;
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;
use reqwest::{Response, Url};

use super::attempts::{Attempts, Failure, Outcome};
use super::auth::Access;
use super::client::{Client, Request, asked};
use super::error::{Cause, RegistryError, message_of, status_text};
use super::pump::Pump;
use super::sessions::Session;
use crate::Error;
use crate::digest::Digest;
use crate::sink::{BytesSent, Content};
use crate::source::BlobReader;

/// The sizes of chunks, in bytes: the first unless the registry wants larger ones, the others where it refuses that. Six in
/// parallel stay under 50 MB. GHCR takes 4 MiB, nginx by default 1 MiB (`client_max_body_size`).
const CHUNK_BYTES: [u64; 3] = [8 << 20, 4 << 20, 1 << 20];

/// The largest chunk that is gathered because the registry takes no smaller ones, in bytes. S3 wants 5 MiB.
const MAX_CHUNK_BYTES: u64 = 64 << 20;

/// The time that a registry may take to store what has arrived completely, in stalls.
const COMMIT_STALLS: u32 = 10;

const OCTETS: &str = "application/octet-stream";

/// What a registry made of a request to mount a blob.
#[derive(Debug)]
pub(super) enum Mount {
    Mounted,
    /// It opened an upload instead, as it may (OCI distribution spec, "Mounting a blob from another repository").
    Declined(Option<Session>),
}

/// A blob on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) access: &'a Access,
    pub(super) descriptor: &'a Descriptor,
    pub(super) digest: Digest,
    /// The image, for messages.
    pub(super) reference: &'a str,
    /// Under whose name the upload is noted until it is complete.
    pub(super) owner: u64,
}

/// How a blob goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// One PUT.
    Whole,
    /// PATCH by PATCH of so many bytes, for registries or proxies that refuse the other.
    Chunks(u64),
}

/// What became of a blob that was sent in chunks.
enum Sent {
    All,
    /// A chunk was refused for its size; one of this size may not be.
    TooLarge(u64),
}

impl Upload<'_> {
    /// Asks the registry to take the blob over from its repository `from`.
    pub(super) async fn mount(&self, from: &str) -> Result<Mount, Failure> {
        let mut url = self.uploads_url()?;
        url.query_pairs_mut().append_pair("mount", &self.digest.to_string()).append_pair("from", from);
        let request = Request::new(Method::POST, url).header(http::header::CONTENT_LENGTH, 0);
        let _asking = self.client.sessions().asking().await;
        let response = self.client.send(self.access, request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            // Without an address it is no upload either; one that is asked for may get one.
            StatusCode::ACCEPTED => Ok(Mount::Declined(self.begin(&response).ok())),
            // Registries that know no mounts answer as they please; an upload will show what is wrong.
            _ => Ok(Mount::Declined(None)),
        }
    }

    /// Uploads the blob until it is there: interrupted uploads are started again.
    pub(super) async fn run(
        &self,
        content: Content<'_>,
        session: Option<Session>,
        manner: &mut Manner,
        sent: BytesSent<'_>,
    ) -> Result<(), Outcome> {
        let mut attempts = Attempts::new(self.client, self.access);
        let mut session = session;
        loop {
            let failure = match self.attempt(content, &mut session, manner, &mut attempts, sent).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // The registry may have stored the blob, and only its answer was lost.
            let unheard = matches!(failure, Failure::Cut { .. } | Failure::Overloaded { .. });
            attempts.next(failure).await?;
            if unheard && self.is_there().await {
                return Ok(());
            }
        }
    }

    async fn is_there(&self) -> bool {
        let path = format!("{}/blobs/{}", self.access.repository, self.digest);
        let Ok(url) = self.client.url(&self.access.host, &path) else { return false };
        let answer = self.client.send(self.access, Request::new(Method::HEAD, url)).await;
        answer.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Leaves a session behind that is still good.
    async fn attempt(
        &self,
        content: Content<'_>,
        session: &mut Option<Session>,
        manner: &mut Manner,
        attempts: &mut Attempts<'_>,
        sent: BytesSent<'_>,
    ) -> Result<(), Failure> {
        let mut current = if let Some(session) = session.take() {
            session
        } else {
            let session = self.start().await?;
            attempts.accepted();
            session
        };
        if *manner == Manner::Whole {
            let response = match self.put_whole(&current, content, sent).await {
                Ok(response) => response,
                Err(failure) => {
                    // A token that ended says nothing about the upload.
                    *session = matches!(failure, Failure::Challenged(_)).then_some(current);
                    return Err(failure);
                }
            };
            attempts.accepted();
            let (status, asked) = (response.status(), asked(&response));
            if status.is_success() {
                self.client.sessions().completed(&current);
                return Ok(());
            }
            let body = self.client.read_body(&self.access.host, response, 64 << 10).await.unwrap_or_default();
            if !wants_chunks(status, &body) {
                return Err(self.refused(status, asked, &body));
            }
            tracing::debug!(%status, host = self.access.host, "uploads in one piece are refused, sending chunks");
            *manner = Manner::Chunks(CHUNK_BYTES[0]);
            current = self.start().await?;
        }
        while let Manner::Chunks(chunk_bytes) = *manner {
            match self.put_chunks(&mut current, chunk_bytes, content, attempts, sent).await? {
                Sent::All => break,
                Sent::TooLarge(smaller) => {
                    tracing::debug!(host = self.access.host, smaller, "chunks are refused for their size");
                    *manner = Manner::Chunks(smaller);
                    current = self.start().await?;
                }
            }
        }
        self.client.sessions().completed(&current);
        Ok(())
    }

    fn uploads_url(&self) -> Result<Url, RegistryError> {
        self.client.url(&self.access.host, &format!("{}/blobs/uploads/", self.access.repository))
    }

    async fn start(&self) -> Result<Session, Failure> {
        let request = Request::new(Method::POST, self.uploads_url()?).header(http::header::CONTENT_LENGTH, 0);
        let _asking = self.client.sessions().asking().await;
        let response = self.client.send(self.access, request).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.client.unexpected(self.access, response).await);
        }
        self.begin(&response)
    }

    fn begin(&self, response: &Response) -> Result<Session, Failure> {
        let smallest = response.headers().get("oci-chunk-min-length");
        let smallest = smallest.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        let url = Client::location(response, self.access)?;
        Ok(self.client.sessions().begin(self.owner, self.access, url, smallest))
    }

    async fn put_whole(
        &self,
        session: &Session,
        content: Content<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Response, Failure> {
        let pump = Pump::start(self.open(content).await?, content.blame(self.reference));
        let request = Request::new(Method::PUT, self.commit_url(session))
            .header(http::header::CONTENT_TYPE, OCTETS)
            .header(http::header::CONTENT_LENGTH, self.descriptor.size());
        self.stream(request, pump, sent).await
    }

    async fn put_chunks(
        &self,
        session: &mut Session,
        chunk_bytes: u64,
        content: Content<'_>,
        attempts: &mut Attempts<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Sent, Failure> {
        let smallest = session.smallest_chunk;
        // The last chunk may be smaller, and so may the only one.
        if smallest.min(self.descriptor.size()) > MAX_CHUNK_BYTES {
            let what =
                format!("a smallest chunk of {smallest} bytes, and more than {MAX_CHUNK_BYTES} are not gathered");
            return Err(RegistryError::Protocol { host: self.access.host.clone(), what }.into());
        }
        let mut pump = Pump::start(self.open(content).await?, content.blame(self.reference));
        let chunk_bytes = smallest.max(chunk_bytes);
        let mut from = 0;
        loop {
            let chunk = pump.collect(chunk_bytes).await?;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len() as u64;
            let request = || {
                Request::new(Method::PATCH, session.url.clone())
                    .header(http::header::CONTENT_TYPE, OCTETS)
                    .header(http::header::CONTENT_RANGE, format!("{from}-{}", from + length - 1).as_str())
                    .header(http::header::CONTENT_LENGTH, length)
                    .body(chunk.clone())
            };
            let response = self.send_renewing(request, attempts).await?;
            let sizes = CHUNK_BYTES.map(|size| size.max(smallest));
            let smaller = sizes.into_iter().find(|&smaller| smaller < chunk_bytes && smaller < length);
            match (response.status(), smaller) {
                (status, _) if status.is_success() => {}
                (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE, Some(smaller)) => {
                    return Ok(Sent::TooLarge(smaller));
                }
                _ => return Err(self.client.unexpected(self.access, response).await),
            }
            // Where no new address is told, the old one goes on: the digest will show whether that was right.
            if response.headers().contains_key(http::header::LOCATION) {
                self.client.sessions().moved(session, Client::location(&response, self.access)?);
            }
            from += length;
            sent(from);
        }
        let request = || Request::new(Method::PUT, self.commit_url(session)).header(http::header::CONTENT_LENGTH, 0);
        let response = self.send_renewing(request, attempts).await?;
        let (status, asked) = (response.status(), asked(&response));
        if status.is_success() {
            return Ok(Sent::All);
        }
        let body = self.client.read_body(&self.access.host, response, 64 << 10).await.unwrap_or_default();
        Err(self.refused(status, asked, &body))
    }

    /// Sends a request with new tokens until one is accepted: a long upload outlives many.
    async fn send_renewing(
        &self,
        request: impl Fn() -> Request,
        attempts: &mut Attempts<'_>,
    ) -> Result<Response, Failure> {
        loop {
            match self.client.send(self.access, request()).await {
                Err(failure @ Failure::Challenged(_)) => attempts.next(failure).await?,
                Ok(response) => {
                    attempts.accepted_for_long();
                    return Ok(response);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sends a streamed request, reports its progress, and gives up on it when there is none for too long.
    async fn stream(&self, request: Request, pump: Pump, sent: BytesSent<'_>) -> Result<Response, Failure> {
        let (body, mut progress, failed) = pump.into_body();
        let stall = self.client.settings().stall;
        let asked = request.asked();
        let response = self.client.send(self.access, request.streamed(body));
        tokio::pin!(response);
        let mut total = 0;
        let result = loop {
            let patience = if total >= self.descriptor.size() { stall * COMMIT_STALLS } else { stall };
            tokio::select! {
                result = &mut response => break result,
                Some(bytes) = progress.recv() => {
                    total += bytes;
                    sent(total);
                }
                () = tokio::time::sleep(patience) => {
                    break Err(Failure::Cut { host: self.access.host.clone(), asked, cause: self.client.stalled() });
                }
            }
        };
        // A connection that broke because there was nothing more to send did not fail by itself.
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            Some(error) => Err(Failure::Content(error)),
            None => result,
        }
    }

    fn commit_url(&self, session: &Session) -> Url {
        // The session's own parameters (a state, a signature) stay.
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        url
    }

    /// Opens the content from its start.
    async fn open(&self, content: Content<'_>) -> Result<BlobReader, Failure> {
        match content {
            Content::Bytes(bytes) => Ok(Box::new(Cursor::new(Bytes::copy_from_slice(bytes)))),
            Content::Source(source) => source.open_blob(self.descriptor).await.map_err(Failure::Content),
            Content::File(path) => {
                let failed = |source| Failure::Content(Error::File { action: "read", path: path.to_owned(), source });
                let file = File::open(path).map_err(failed)?;
                let length = file.metadata().map_err(failed)?.len();
                if length != self.descriptor.size() {
                    let why = format!("it has {length} bytes where {} are to be sent", self.descriptor.size());
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Ok(Box::new(file))
            }
        }
    }

    fn refused(&self, status: StatusCode, asked: String, body: &[u8]) -> Failure {
        let host = self.access.host.clone();
        let message = message_of(body);
        if status == StatusCode::NOT_FOUND {
            // The registry lost the upload, for example in a restart.
            let cause =
                Cause::new(format!("the upload is gone{}{message}", if message.is_empty() { "" } else { ": " }));
            return Failure::Cut { host, asked, cause };
        }
        Failure::from(RegistryError::Answer { host, asked, status: status_text(status), message })
    }
}

/// Whether the refusal of an upload in one piece is one of the manner, not of the content.
fn wants_chunks(status: StatusCode, body: &[u8]) -> bool {
    match status {
        StatusCode::BAD_REQUEST => {
            let body = String::from_utf8_lossy(body);
            !body.contains("DIGEST_INVALID") && !body.contains("SIZE_INVALID")
        }
        StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::LENGTH_REQUIRED
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::RANGE_NOT_SATISFIABLE
        | StatusCode::NOT_IMPLEMENTED => true,
        _ => false,
    }
}
