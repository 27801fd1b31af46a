//! Reading blobs: an asynchronous download behind a blocking reader, resumed where the connection broke.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode};
use reqwest::Response;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::attempts::{Attempts, Failure, Outcome};
use super::auth::Access;
use super::client::{Client, Request, asked};
use super::error::{Cause, RegistryError};
use crate::Error;
use crate::digest::Digest;

/// Chunks that wait for a reader which is slower than the network; one holds what a socket gave at once.
const CHUNKS_AHEAD: usize = 16;

/// A blob that is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub(super) client: Arc<Client>,
    pub(super) access: Access,
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    /// The image, for messages.
    pub(super) reference: String,
}

/// Reads a blob, from the first call of `read` on. The bytes are not verified.
#[derive(Debug)]
pub(super) struct BlockingFetch {
    waiting: Option<(Fetch, Handle)>,
    chunks: Option<mpsc::Receiver<io::Result<Bytes>>>,
    chunk: Bytes,
}

impl BlockingFetch {
    /// Needs the runtime that the caller is in.
    pub(super) fn new(fetch: Fetch) -> Self {
        Self { waiting: Some((fetch, Handle::current())), chunks: None, chunk: Bytes::new() }
    }
}

impl Read for BlockingFetch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((fetch, runtime)) = self.waiting.take() {
            let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
            runtime.spawn(async move { fetch.run(&sender).await });
            self.chunks = Some(receiver);
        }
        while self.chunk.is_empty() {
            let Some(chunks) = &mut self.chunks else { return Ok(0) };
            match chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => self.chunks = None,
            }
        }
        let read = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}

impl Fetch {
    /// Fetches all of the blob, or reports why it cannot. Ends early when nobody reads any more.
    async fn run(&self, sender: &mpsc::Sender<io::Result<Bytes>>) {
        let _permit = self.client.to_read().await;
        let mut attempts = Attempts::new(&self.client, &self.access);
        let mut passed = 0;
        loop {
            let before = passed;
            let failure = match self.attempt(sender, &mut passed).await {
                Ok(()) => return,
                Err(failure) => failure,
            };
            if passed > before {
                attempts.progress();
            }
            if let Err(outcome) = attempts.next(failure).await {
                let error = match outcome {
                    Outcome::Registry(error) => {
                        Error::Registry { action: "read", reference: self.reference.clone(), source: Box::new(error) }
                    }
                    Outcome::Content(error) => error,
                };
                // A reader that is gone needs no error.
                let _ = sender.send(Err(io::Error::other(error))).await;
                return;
            }
        }
    }

    async fn attempt(&self, sender: &mpsc::Sender<io::Result<Bytes>>, passed: &mut u64) -> Result<(), Failure> {
        let (access, host) = (&self.access, &self.access.host);
        let url = self.client.url(host, &format!("{}/blobs/{}", access.repository, self.digest))?;
        let mut request = Request::new(Method::GET, url);
        if *passed > 0 {
            request = request.header(http::header::RANGE, format!("bytes={passed}-").as_str());
        }
        let mut response = self.client.send(access, request).await?;
        // A server that ignores the range sends everything again.
        let mut skip = match response.status() {
            StatusCode::OK => *passed,
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(*passed) => 0,
            StatusCode::NOT_FOUND => {
                let what = format!("blob {} in {}", self.digest, access.repository);
                return Err(RegistryError::NotFound { host: access.registry.clone(), what }.into());
            }
            StatusCode::PARTIAL_CONTENT => {
                let what = "another part of a blob than was asked for".to_owned();
                return Err(RegistryError::Protocol { host: host.clone(), what }.into());
            }
            _ => return Err(self.client.unexpected(access, response).await),
        };
        // An answer without a length may have ended too early without anyone noticing.
        let length_known = response.content_length().is_some();
        while let Some(mut chunk) = self.client.chunk(host, &mut response).await? {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            // At most the chunk's length, which fits.
            chunk.advance(usize::try_from(skipped).unwrap_or(usize::MAX));
            if chunk.is_empty() {
                continue;
            }
            *passed += chunk.len() as u64;
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        // Where the length is known, the registry's blob is shorter than it should be: the reader finds that out.
        if *passed < self.size_bytes && !length_known {
            let cause = format!("it ended after {passed} of {} bytes", self.size_bytes);
            return Err(Failure::Cut { host: host.clone(), asked: asked(&response), cause: Cause::new(cause) });
        }
        Ok(())
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let header = response.headers().get(http::header::CONTENT_RANGE)?.to_str().ok()?;
    header.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
