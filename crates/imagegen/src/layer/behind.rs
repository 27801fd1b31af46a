//! What goes into a compressor and what comes out of it: hashed, and written, behind its back. Whoever reads and compresses
//! a layer does not wait for that as well.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use tempfile::NamedTempFile;

use super::flusher::Flusher;
use super::write::Output;
use crate::digest::{Digest, HashingPair};

/// Of the blob, handed over at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// On their way at once: more would be memory, not speed.
const CHUNKS: usize = 12;

/// Of the archive, kept until there is something of the blob to be hashed with it: a compressor gives out megabytes at once
/// and then nothing for as long.
const MOST_KEPT_BYTES: usize = 6 * 1024 * 1024;

/// The lanes of the [`HashingPair`].
const ARCHIVE: usize = 0;
const BLOB: usize = 1;

/// A new file, and what it holds.
pub(super) struct Written {
    pub(super) file: NamedTempFile,
    /// The digest of the file.
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    /// The digest of the archive that was compressed.
    pub(super) diff_id: Digest,
}

/// Writes what a compressor gives out into a temporary file, by another thread. The file goes if this value goes unfinished.
pub(super) struct Behind {
    blob: Vec<u8>,
    chunks: Chunks,
    thread: Option<JoinHandle<io::Result<Written>>>,
}

/// Passes an archive on to its compressor, and then to the thread behind.
pub(super) struct Archive<W> {
    compressor: W,
    chunks: Chunks,
}

enum Part {
    Archive(Chunk),
    Blob(Chunk),
    /// That was all.
    End,
    /// Nobody wants it any more.
    Abandon,
}

/// What is handed over at once. Its memory goes back where it came from: new memory costs as much as filling it.
struct Chunk {
    bytes: Vec<u8>,
    back: Sender<Vec<u8>>,
}

/// Hands chunks over, and gets their memory back.
struct Chunks {
    part: fn(Chunk) -> Part,
    thread: SyncSender<Part>,
    back: Sender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

/// The thread behind has ended, which only a failure makes it do before it is told to.
struct Ended;

impl Behind {
    /// Begins a file in `directory`, which is written to the disk meanwhile if it is to stay there (`local`).
    pub(super) fn create(directory: &Path, local: bool) -> io::Result<Self> {
        let file = NamedTempFile::new_in(directory)?;
        let flusher = local.then(|| Flusher::of(file.as_file())).transpose()?;
        let (parts, to_write) = sync_channel(CHUNKS);
        let thread = thread::Builder::new().name("layer".to_owned());
        let thread = thread.spawn(move || write(file, &to_write, flusher))?;
        let blob = Vec::with_capacity(CHUNK_BYTES);
        Ok(Self { blob, chunks: Chunks::new(Part::Blob, parts), thread: Some(thread) })
    }

    /// Makes the writer that an archive is to be written into, with the compressor that `compressor` makes of this value.
    pub(super) fn archive<W>(self, compressor: impl FnOnce(Self) -> io::Result<W>) -> io::Result<Archive<W>> {
        let chunks = Chunks::new(Part::Archive, self.chunks.thread.clone());
        Ok(Archive { compressor: compressor(self)?, chunks })
    }

    /// Waits until all of it is written.
    ///
    /// # Errors
    /// What any write met.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        let _ = self.chunks.hand_over(&mut self.blob);
        self.end()
    }

    fn end(&mut self) -> io::Result<Written> {
        let _ = self.chunks.thread.send(Part::End);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Behind {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK_BYTES - self.blob.len());
        self.blob.extend_from_slice(&data[..taken]);
        if self.blob.len() == CHUNK_BYTES {
            if self.chunks.hand_over(&mut self.blob).is_err() {
                return self.end().and(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.blob.clear();
            self.blob.reserve_exact(CHUNK_BYTES);
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
        let _ = self.chunks.thread.send(Part::Abandon);
        // Its file is gone when this returns.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl<W> Archive<W> {
    /// The compressor, when the archive has ended.
    pub(super) fn finish(self) -> W {
        self.compressor
    }
}

impl<W: Write> Output for Archive<W> {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.compressor.write_all(buffer)?;
        // That the thread has ended is told, with the reason, to whoever writes the blob.
        let _ = self.chunks.hand_over(buffer);
        Ok(())
    }
}

impl Chunks {
    fn new(part: fn(Chunk) -> Part, thread: SyncSender<Part>) -> Self {
        let (back, spare) = channel();
        Self { part, thread, back, spare }
    }

    /// Leaves memory that can be filled next, with anything in it.
    fn hand_over(&mut self, bytes: &mut Vec<u8>) -> Result<(), Ended> {
        let next = self.spare.try_recv().unwrap_or_default();
        let chunk = Chunk { bytes: std::mem::replace(bytes, next), back: self.back.clone() };
        self.thread.send((self.part)(chunk)).map_err(|_| Ended)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Whoever has ended needs none.
        let _ = self.back.send(std::mem::take(&mut self.bytes));
    }
}

/// What the thread does.
fn write(mut file: NamedTempFile, parts: &Receiver<Part>, mut flusher: Option<Flusher>) -> io::Result<Written> {
    let mut hashing = Hashing::new();
    for part in parts {
        match part {
            Part::Archive(chunk) => hashing.archive(chunk),
            Part::Blob(chunk) => {
                let bytes = &chunk.bytes;
                file.write_all(bytes)?;
                if let Some(flusher) = &mut flusher {
                    flusher.written(bytes.len());
                }
                hashing.blob(bytes);
            }
            Part::End => break,
            Part::Abandon => return Err(io::ErrorKind::Interrupted.into()),
        }
    }
    let [(diff_id, _), (digest, size_bytes)] = hashing.finish();
    if let Some(flusher) = flusher {
        flusher.finish()?;
    }
    Ok(Written { file, digest, size_bytes, diff_id })
}

/// Hashes as much as it can of both together.
struct Hashing {
    pair: HashingPair,
    /// Of the archive, what is not hashed yet, but for the first `begun` bytes of the first.
    kept: VecDeque<Chunk>,
    begun: usize,
    kept_bytes: usize,
}

impl Hashing {
    fn new() -> Self {
        Self { pair: HashingPair::new(), kept: VecDeque::new(), begun: 0, kept_bytes: 0 }
    }

    fn archive(&mut self, chunk: Chunk) {
        self.kept_bytes += chunk.bytes.len();
        self.kept.push_back(chunk);
        self.keep(MOST_KEPT_BYTES);
    }

    fn blob(&mut self, mut chunk: &[u8]) {
        while let Some(oldest) = self.kept.front()
            && !chunk.is_empty()
        {
            let archive = &oldest.bytes[self.begun..];
            let both = archive.len().min(chunk.len());
            let (now, later) = chunk.split_at(both);
            self.pair.update([&archive[..both], now]);
            chunk = later;
            self.kept_bytes -= both;
            self.begun += both;
            if self.begun == oldest.bytes.len() {
                self.kept.pop_front();
                self.begun = 0;
            }
        }
        self.pair.update_one(BLOB, chunk);
    }

    /// Hashes all but so much of the archive alone.
    fn keep(&mut self, most_bytes: usize) {
        while self.kept_bytes > most_bytes
            && let Some(oldest) = self.kept.pop_front()
        {
            let archive = &oldest.bytes[std::mem::take(&mut self.begun)..];
            self.pair.update_one(ARCHIVE, archive);
            self.kept_bytes -= archive.len();
        }
    }

    fn finish(mut self) -> [(Digest, u64); 2] {
        self.keep(0);
        self.pair.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: u32) -> Vec<u8> {
        (0..bytes).map(|number| (number % 251) as u8).collect()
    }

    /// A compressor that gives out every `n`th byte, all at the end of what it is given at once.
    struct EveryNth<W>(W, usize);

    impl<W: Write> Write for EveryNth<W> {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.write_all(&data.iter().copied().step_by(self.1).collect::<Vec<u8>>())?;
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn both_digests_are_right_and_the_file_holds_the_blob() {
        let directory = tempfile::tempdir().unwrap();
        // The archive is hashed alone when the blob is small, together with it when it is as large, and is less than it.
        for (bytes, piece, nth) in [(9_000_017, 70_001, 1), (9_000_017, 70_001, 97), (17, 17, 1), (0, 1, 1)] {
            let content = content(bytes);
            let blob: Vec<u8> = content.chunks(piece).flat_map(|piece| piece.iter().copied().step_by(nth)).collect();
            let behind = Behind::create(directory.path(), false).unwrap();
            let mut archive = behind.archive(|behind| Ok(EveryNth(behind, nth))).unwrap();
            for piece in content.chunks(piece) {
                archive.take(&mut piece.to_vec()).unwrap();
            }
            let mut behind = archive.finish().0;
            behind.write_all(b"the end").unwrap();
            let written = behind.finish().unwrap();
            let blob = [&blob[..], b"the end"].concat();
            assert_eq!((written.diff_id, written.digest), (Digest::of(&content), Digest::of(&blob)));
            assert_eq!(written.size_bytes, blob.len() as u64);
            assert!(std::fs::read(written.file.path()).unwrap() == blob);
        }
    }

    #[test]
    fn what_is_kept_of_the_archive_is_bounded() {
        let mut hashing = Hashing::new();
        let (back, spare) = channel();
        for _ in 0..100 {
            let bytes = spare.try_recv().unwrap_or_else(|_| vec![7; CHUNK_BYTES]);
            hashing.archive(Chunk { bytes, back: back.clone() });
            assert!(hashing.kept_bytes <= MOST_KEPT_BYTES);
        }
        assert_eq!(hashing.kept.len() * CHUNK_BYTES, MOST_KEPT_BYTES);
        let [(archive, bytes), _] = hashing.finish();
        assert_eq!((archive, bytes), (Digest::of(&vec![7; 100 * CHUNK_BYTES]), 100 * CHUNK_BYTES as u64));
    }

    #[test]
    fn an_abandoned_file_goes() {
        let directory = tempfile::tempdir().unwrap();
        let behind = Behind::create(directory.path(), false).unwrap();
        let mut archive = behind.archive(Ok).unwrap();
        archive.take(&mut content(3_000_000)).unwrap();
        drop(archive);
        drop(Behind::create(directory.path(), false).unwrap());
        assert!(
            Behind::create(directory.path(), false).unwrap().archive(|_| Err::<(), _>(io::Error::other("no"))).is_err()
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_is_the_writers_failure() {
        let failing = || {
            let thread = thread::spawn(|| -> io::Result<Written> { Err(io::Error::other("the disk is full")) });
            while !thread.is_finished() {
                thread::yield_now();
            }
            let (parts, nobody) = sync_channel(1);
            drop(nobody);
            Behind { blob: Vec::new(), chunks: Chunks::new(Part::Blob, parts), thread: Some(thread) }
        };
        let mut archive = failing().archive(Ok).unwrap();
        let told = archive.take(&mut vec![0; CHUNK_BYTES]).unwrap_err();
        assert_eq!(told.to_string(), "the disk is full");
        assert!(failing().finish().is_err_and(|told| told.to_string() == "the disk is full"));
    }
}
