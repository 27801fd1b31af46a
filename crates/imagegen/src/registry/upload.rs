//! Writing blobs: present, mounted from another repository, or uploaded, in one piece or in chunks.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{Method, StatusCode};
use oci_spec::image::Descriptor;
use reqwest::{Response, Url};
use tokio::sync::mpsc;

use super::attempts::{Attempts, Failure, Outcome};
use super::auth::Access;
use super::client::{Client, Request};
use super::error::{Cause, RegistryError, message_of, status_text};
use crate::Error;
use crate::digest::Digest;
use crate::sink::{BytesSent, Content};
use crate::source::BlobReader;

/// How much is read at once of what is uploaded, in bytes.
const READ_BYTES: usize = 256 << 10;

/// The size of a chunk where the registry does not want larger ones, in bytes. Six in parallel stay under 50 MB.
const CHUNK_BYTES: u64 = 8 << 20;

/// The time that a registry may take to store what has arrived completely, in stalls.
const COMMIT_STALLS: u32 = 10;

const OCTETS: &str = "application/octet-stream";

/// What a registry made of a request to mount a blob.
#[derive(Debug)]
pub(super) enum Mount {
    Mounted,
    /// It opened an upload instead, as it may (OCI distribution spec, "Mounting a blob from another repository").
    Declined(Option<Url>),
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
}

/// How a blob goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// One PUT.
    Whole,
    /// PATCH by PATCH, for registries or proxies that refuse the other.
    Chunks,
}

impl Upload<'_> {
    /// Asks the registry to take the blob over from its repository `from`.
    pub(super) async fn mount(&self, from: &str) -> Result<Mount, Failure> {
        let mut url = self.client.url(&self.access.host, &format!("{}/blobs/uploads/", self.access.repository))?;
        url.query_pairs_mut().append_pair("mount", &self.digest.to_string()).append_pair("from", from);
        let request = Request::new(Method::POST, url).header(http::header::CONTENT_LENGTH, 0);
        let response = self.client.send(self.access, request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => Ok(Mount::Declined(Client::location(&response, self.access).ok())),
            // Registries that know no mounts answer as they please; an upload will show what is wrong.
            _ => Ok(Mount::Declined(None)),
        }
    }

    /// Uploads the blob until it is there: interrupted uploads are started again.
    pub(super) async fn run(
        &self,
        content: Content<'_>,
        session: Option<Url>,
        manner: &mut Manner,
        sent: BytesSent<'_>,
    ) -> Result<(), Outcome> {
        let mut attempts = Attempts::new(self.client, self.access);
        let mut session = session;
        loop {
            let failure = match self.attempt(content, session.take(), manner, &mut attempts, sent).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            attempts.next(failure).await?;
        }
    }

    async fn attempt(
        &self,
        content: Content<'_>,
        session: Option<Url>,
        manner: &mut Manner,
        attempts: &mut Attempts<'_>,
        sent: BytesSent<'_>,
    ) -> Result<(), Failure> {
        let (mut session, mut smallest_chunk) = match session {
            Some(session) => (session, 0),
            None => self.start().await?,
        };
        attempts.accepted();
        if *manner == Manner::Whole {
            let response = match self.put_whole(&session, content, sent).await {
                Ok(response) => response,
                Err(failure) => return Err(self.abandon(session, failure).await),
            };
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let body = self.client.read_body(&self.access.host, response, 64 << 10).await.unwrap_or_default();
            if !wants_chunks(status, &body) {
                let failure = self.refused(status, &body);
                return Err(self.abandon(session, failure).await);
            }
            tracing::debug!(%status, host = self.access.host, "uploads in one piece are refused, sending chunks");
            *manner = Manner::Chunks;
            (session, smallest_chunk) = self.start().await?;
        }
        match self.put_chunks(session.clone(), content, smallest_chunk.max(CHUNK_BYTES), sent).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.abandon(session, failure).await),
        }
    }

    /// Opens an upload: its address, and the smallest chunk in bytes that the registry takes.
    async fn start(&self) -> Result<(Url, u64), Failure> {
        let url = self.client.url(&self.access.host, &format!("{}/blobs/uploads/", self.access.repository))?;
        let request = Request::new(Method::POST, url).header(http::header::CONTENT_LENGTH, 0);
        let response = self.client.send(self.access, request).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.client.unexpected(self.access, response).await);
        }
        let smallest = response.headers().get("oci-chunk-min-length");
        let smallest = smallest.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
        Ok((Client::location(&response, self.access)?, smallest))
    }

    /// Tells the registry to forget an upload that cannot go on, so that nothing of it stays. It may not listen.
    async fn abandon(&self, session: Url, failure: Failure) -> Failure {
        if matches!(failure, Failure::Final(_) | Failure::Content(_)) {
            let _ = self.client.send(self.access, Request::new(Method::DELETE, session)).await;
        }
        failure
    }

    async fn put_whole(&self, session: &Url, content: Content<'_>, sent: BytesSent<'_>) -> Result<Response, Failure> {
        let pump = Pump::start(self.open(content).await?);
        let request = Request::new(Method::PUT, self.commit_url(session))
            .header(http::header::CONTENT_TYPE, OCTETS)
            .header(http::header::CONTENT_LENGTH, self.descriptor.size());
        self.stream(request, pump, 0, sent).await
    }

    async fn put_chunks(
        &self,
        session: Url,
        content: Content<'_>,
        chunk_bytes: u64,
        sent: BytesSent<'_>,
    ) -> Result<(), Failure> {
        let mut session = session;
        let mut pump = Pump::start(self.open(content).await?);
        let mut from = 0;
        loop {
            let chunk = pump.collect(chunk_bytes).await?;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len() as u64;
            let request = Request::new(Method::PATCH, session.clone())
                .header(http::header::CONTENT_TYPE, OCTETS)
                .header(http::header::CONTENT_RANGE, format!("{from}-{}", from + length - 1).as_str())
                .header(http::header::CONTENT_LENGTH, length)
                .body(chunk);
            let response = self.client.send(self.access, request).await?;
            if !response.status().is_success() {
                return Err(self.client.unexpected(self.access, response).await);
            }
            session = Client::location(&response, self.access)?;
            from += length;
            sent(from);
        }
        let request = Request::new(Method::PUT, self.commit_url(&session)).header(http::header::CONTENT_LENGTH, 0);
        let response = self.client.send(self.access, request).await?;
        if response.status().is_success() {
            return Ok(());
        }
        let status = response.status();
        let body = self.client.read_body(&self.access.host, response, 64 << 10).await.unwrap_or_default();
        Err(self.refused(status, &body))
    }

    /// Sends a streamed request, reports its progress, and gives up on it when there is none for too long.
    async fn stream(&self, request: Request, pump: Pump, from: u64, sent: BytesSent<'_>) -> Result<Response, Failure> {
        let (body, mut progress, failed) = pump.into_body();
        let stall = self.client.settings().stall;
        let response = self.client.send(self.access, request.streamed(body));
        tokio::pin!(response);
        let mut total = from;
        let end = from + self.descriptor.size();
        let result = loop {
            let patience = if total >= end { stall * COMMIT_STALLS } else { stall };
            tokio::select! {
                result = &mut response => break result,
                Some(bytes) = progress.recv() => {
                    total += bytes;
                    sent(total);
                }
                () = tokio::time::sleep(patience) => {
                    break Err(Failure::Cut { host: self.access.host.clone(), cause: self.client.stalled() });
                }
            }
        };
        // A connection that broke because there was nothing more to send did not fail by itself.
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            Some(error) => Err(Failure::Content(Error::from_read(error, self.reference))),
            None => result,
        }
    }

    fn commit_url(&self, session: &Url) -> Url {
        // The session's own parameters (a state, a signature) stay.
        let mut url = session.clone();
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

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let message = message_of(body);
        if status == StatusCode::NOT_FOUND {
            // The registry lost the upload, for example in a restart.
            let cause =
                Cause::new(format!("the upload is gone{}{message}", if message.is_empty() { "" } else { ": " }));
            return Failure::Cut { host: self.access.host.clone(), cause };
        }
        Failure::Final(RegistryError::Answer { host: self.access.host.clone(), status: status_text(status), message })
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

/// A blocking reader, read on a thread of its own into a short queue.
struct Pump {
    chunks: mpsc::Receiver<Bytes>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Pump {
    fn start(mut reader: BlobReader) -> Self {
        let (sender, chunks) = mpsc::channel(4);
        let failed = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&failed);
        tokio::task::spawn_blocking(move || {
            loop {
                match read_full(&mut reader) {
                    // The end, or the upload ended before its content and nobody needs the rest.
                    Ok(chunk) => {
                        if chunk.is_empty() || sender.blocking_send(chunk).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            }
        });
        Self { chunks, failed }
    }

    /// Up to `limit_bytes`, rounded up to a read; empty at the end.
    async fn collect(&mut self, limit_bytes: u64) -> Result<Bytes, Failure> {
        let mut collected = BytesMut::new();
        while (collected.len() as u64) < limit_bytes {
            match self.chunks.recv().await {
                Some(chunk) => collected.extend_from_slice(&chunk),
                None => break,
            }
        }
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(Failure::Content(Error::from_read(error, "the content"))),
            None => Ok(collected.freeze()),
        }
    }

    fn into_body(self) -> (reqwest::Body, mpsc::UnboundedReceiver<u64>, Arc<Mutex<Option<io::Error>>>) {
        let (counter, progress) = mpsc::unbounded_channel();
        let Self { mut chunks, failed } = self;
        let slot = Arc::clone(&failed);
        let stream = futures_util::stream::poll_fn(move |context| {
            chunks.poll_recv(context).map(|chunk| match chunk {
                Some(chunk) => {
                    // Nobody may be counting any more.
                    let _ = counter.send(chunk.len() as u64);
                    Some(Ok(chunk))
                }
                // An error ends the request; the end of the stream would complete it.
                None if slot.lock().unwrap_or_else(PoisonError::into_inner).is_some() => {
                    Some(Err(io::Error::other("the content cannot be read")))
                }
                None => None,
            })
        });
        (body_of(stream), progress, failed)
    }
}

fn body_of(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> reqwest::Body {
    reqwest::Body::wrap_stream(stream)
}

/// Reads until a buffer is full or the content ends, so that small reads do not become small packets.
fn read_full(reader: &mut BlobReader) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(READ_BYTES);
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.freeze())
}
