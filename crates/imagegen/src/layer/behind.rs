//! What comes out of a compressor, hashed and written behind its back: whoever reads, hashes and compresses a layer does
//! not wait for that as well.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tempfile::NamedTempFile;

use crate::digest::{Digest, Hashing};

/// Handed over at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// On their way at once: more would be memory, not speed.
const CHUNKS: usize = 8;

/// A new file, its digest and its size.
type Written = (NamedTempFile, Digest, u64);

/// Writes into a temporary file, by another thread. The file goes if this value goes unfinished.
pub(super) struct Behind {
    chunk: Vec<u8>,
    chunks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<io::Result<Written>>>,
}

impl Behind {
    /// Begins a file in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let mut file = Hashing::new(BufWriter::new(NamedTempFile::new_in(directory)?));
        let (chunks, to_write) = sync_channel::<Vec<u8>>(CHUNKS);
        let thread = thread::Builder::new().name("layer".to_owned()).spawn(move || {
            to_write.into_iter().try_for_each(|chunk| file.write_all(&chunk))?;
            let (mut buffered, digest, size_bytes) = file.finish();
            buffered.flush()?;
            Ok((buffered.into_inner().map_err(io::IntoInnerError::into_error)?, digest, size_bytes))
        })?;
        Ok(Self { chunk: Vec::with_capacity(CHUNK_BYTES), chunks: Some(chunks), thread: Some(thread) })
    }

    /// Waits until all of it is written.
    ///
    /// # Errors
    /// What any write met.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        self.hand_over()?;
        self.end()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        if self.chunks.as_ref().is_some_and(|chunks| chunks.send(chunk).is_ok()) {
            return Ok(());
        }
        // The thread has ended, which only a failure makes it do before it is told to.
        self.end().and(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn end(&mut self) -> io::Result<Written> {
        drop(self.chunks.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Behind {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&data[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    /// Does nothing: [`finish`](Self::finish) writes the rest.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        drop(self.chunks.take());
        // Its file is gone when this returns.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_written_arrives_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3_000_017_u32).map(|number| (number % 251) as u8).collect();
        let mut behind = Behind::create(directory.path()).unwrap();
        for piece in content.chunks(70_001) {
            behind.write_all(piece).unwrap();
        }
        let (file, digest, size_bytes) = behind.finish().unwrap();
        assert_eq!((digest, size_bytes), (Digest::of(&content), content.len() as u64));
        assert!(std::fs::read(file.path()).unwrap() == content);
        drop(file);
        drop(Behind::create(directory.path()).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_is_the_writers_failure() {
        let failing = thread::spawn(|| -> io::Result<Written> { Err(io::Error::other("the disk is full")) });
        while !failing.is_finished() {
            thread::yield_now();
        }
        let (chunks, nobody) = sync_channel(1);
        drop(nobody);
        let mut behind = Behind { chunk: Vec::new(), chunks: Some(chunks), thread: Some(failing) };
        let error = behind.write_all(&vec![0; CHUNK_BYTES]).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
    }
}
