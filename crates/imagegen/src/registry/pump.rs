//! From a blocking reader to the body of a request.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::attempts::Failure;
use crate::Error;
use crate::source::BlobReader;

/// How much is read at once of what is uploaded, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A blocking reader, read on a thread of its own into a short queue.
pub(super) struct Pump {
    chunks: mpsc::Receiver<Bytes>,
    failed: Failed,
}

/// Where the reading thread leaves its error.
pub(super) type Failed = Arc<Mutex<Option<Error>>>;

impl Pump {
    pub(super) fn start(mut reader: BlobReader, blamed: String) -> Self {
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
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Error::from_read(error, &blamed));
                        return;
                    }
                }
            }
        });
        Self { chunks, failed }
    }

    /// Up to `limit_bytes`, rounded up to a read; empty at the end.
    pub(super) async fn collect(&mut self, limit_bytes: u64) -> Result<Bytes, Failure> {
        let mut collected = BytesMut::new();
        while (collected.len() as u64) < limit_bytes {
            match self.chunks.recv().await {
                Some(chunk) => collected.extend_from_slice(&chunk),
                None => break,
            }
        }
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(Failure::Content(error)),
            None => Ok(collected.freeze()),
        }
    }

    pub(super) fn into_body(self) -> (reqwest::Body, mpsc::UnboundedReceiver<u64>, Failed) {
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
        (reqwest::Body::wrap_stream(stream), progress, failed)
    }
}

/// Reads until a buffer is full or the content ends, so that small reads do not become small packets.
fn read_full(reader: &mut BlobReader) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    reader.take(READ_BYTES as u64).read_to_end(&mut buffer)?;
    Ok(buffer.into())
}
