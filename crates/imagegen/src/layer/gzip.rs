//! Gzip on all cores, with one result whatever their number.
//!
//! The input is cut into blocks of a fixed size. Each is deflated on its own, with the 32 KiB before it as its dictionary
//! (so that nothing is lost in size against one thread), and ends on a byte boundary with a sync flush; the last ends the
//! stream. Joined in order under one header and one trailer they are an ordinary single-member gzip file. This is pigz's
//! method; here the header carries neither name nor time and the block size never varies, so that the output depends on
//! the input alone.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Input bytes per block. Large enough that the flush between blocks costs nothing, small enough to keep 100 MB for many cores.
const BLOCK_BYTES: usize = 256 * 1024;
/// Deflate's window: what a block can refer back to.
const WINDOW_BYTES: usize = 32 * 1024;
/// A sync flush adds at most this; deflate never grows incompressible input by more than a few bytes in 16 KiB.
const SLACK_BYTES: usize = BLOCK_BYTES / 1024 + 256;
/// Method deflate, no flags, no time, no extra flags, unknown operating system (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Threads beyond this gain nothing over the disk and would break the memory bound.
const MAX_THREADS: usize = 48;

struct Job {
    number: u64,
    dictionary: Vec<u8>,
    input: Vec<u8>,
    last: bool,
}

struct Done {
    number: u64,
    output: Vec<u8>,
    input: Vec<u8>,
    crc: Crc,
}

/// A writer that compresses what it is given into `W`.
pub(super) struct ParallelGzip<W: Write> {
    inner: W,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    done: Receiver<io::Result<Done>>,
    workers: Vec<JoinHandle<()>>,
    early: BTreeMap<u64, Done>,
    spare: Vec<Vec<u8>>,
    sent: u64,
    written: u64,
    most_in_flight: u64,
    crc: Crc,
}

impl<W: Write> ParallelGzip<W> {
    /// `threads` compress beside the caller's thread, which writes; zero counts as one.
    pub(super) fn new(mut inner: W, level: u32, threads: usize) -> io::Result<Self> {
        inner.write_all(&HEADER)?;
        let threads = threads.clamp(1, MAX_THREADS);
        let (jobs, queue) = sync_channel::<Job>(threads);
        // Never more results than blocks in flight, so a worker never waits here.
        let (finished, done) = sync_channel(2 * threads);
        let queue = Arc::new(Mutex::new(queue));
        let work = || {
            let (queue, finished) = (Arc::clone(&queue), finished.clone());
            std::thread::Builder::new().name("gzip".to_owned()).spawn(move || worker(&queue, &finished, level))
        };
        let workers = (0..threads).map(|_| work()).collect::<io::Result<_>>()?;
        Ok(Self {
            inner,
            block: Vec::with_capacity(BLOCK_BYTES),
            dictionary: Vec::new(),
            jobs: Some(jobs),
            done,
            workers,
            early: BTreeMap::new(),
            spare: Vec::new(),
            sent: 0,
            written: 0,
            most_in_flight: 2 * threads as u64,
            crc: Crc::new(),
        })
    }

    /// Compresses what is left, writes the trailer and gives the inner writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        self.jobs = None;
        while self.written < self.sent {
            self.receive()?;
        }
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| io::Error::other("a compressing thread panicked"))?;
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        while self.sent - self.written >= self.most_in_flight {
            self.receive()?;
        }
        let input = mem::replace(&mut self.block, self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES)));
        self.block.clear();
        let tail = input.len().saturating_sub(WINDOW_BYTES);
        let dictionary = mem::replace(&mut self.dictionary, input[tail..].to_vec());
        let job = Job { number: self.sent, dictionary, input, last };
        self.sent += 1;
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).map_err(|_| stopped())
    }

    /// Takes one result, and writes it and those it held up.
    fn receive(&mut self) -> io::Result<()> {
        let done = self.done.recv().map_err(|_| stopped())??;
        self.early.insert(done.number, done);
        while let Some(done) = self.early.remove(&self.written) {
            self.inner.write_all(&done.output)?;
            self.crc.combine(&done.crc);
            self.spare.push(done.input);
            self.written += 1;
        }
        Ok(())
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK_BYTES {
            self.send(false)?;
        }
        let taken = data.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    /// Does nothing: block boundaries must not depend on the caller.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the compressing threads have stopped")
}

fn worker(queue: &Mutex<Receiver<Job>>, finished: &SyncSender<io::Result<Done>>, level: u32) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if finished.send(compress(level, job)).is_err() {
            return;
        }
    }
}

fn compress(level: u32, job: Job) -> io::Result<Done> {
    // A new one for each block: after `reset`, zlib-rs 0.6 still remembers a match of the block before, and
    // which block came before on this thread is chance. Its setup is a hundredth of the work.
    let mut deflate = Compress::new(Compression::new(level), false);
    if !job.dictionary.is_empty() {
        deflate.set_dictionary(&job.dictionary).map_err(io::Error::other)?;
    }
    let mut crc = Crc::new();
    crc.update(&job.input);
    // One call with room for everything: the output cannot depend on how buffers were cut.
    let mut output = Vec::with_capacity(job.input.len() + SLACK_BYTES);
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    deflate.compress_vec(&job.input, &mut output, flush).map_err(io::Error::other)?;
    if deflate.total_in() != job.input.len() as u64 || output.len() == output.capacity() {
        return Err(io::Error::other("a block did not fit its buffer"));
    }
    Ok(Done { number: job.number, output, input: job.input, crc })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gzip(data: &[u8], threads: usize, chunk: usize) -> Vec<u8> {
        gzip_at(6, data, threads, chunk)
    }

    fn gzip_at(level: u32, data: &[u8], threads: usize, chunk: usize) -> Vec<u8> {
        let mut writer = ParallelGzip::new(Vec::new(), level, threads).unwrap();
        for chunk in data.chunks(chunk.max(1)) {
            writer.write_all(chunk).unwrap();
        }
        writer.finish().unwrap()
    }

    /// Compressible and incompressible stretches, without a source of randomness.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        (0..bytes).map(|at| if (at / 70_000) % 3 == 0 { next() } else { b"layer entry "[at % 12] }).collect()
    }

    #[test]
    fn what_is_written_is_read_back_at_every_block_boundary() {
        for bytes in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 2_000_000] {
            let data = sample(bytes);
            let packed = gzip(&data, 2, 100_000);
            // A decoder of one member reads all of it: there is only one.
            let mut decoder = flate2::read::GzDecoder::new(&packed[..]);
            let mut back = Vec::new();
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == data, "{bytes} bytes");
            assert!(decoder.into_inner().is_empty(), "{bytes} bytes: nothing follows the member");
        }
    }

    #[test]
    fn incompressible_blocks_fit() {
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        })
        .take(BLOCK_BYTES * 2 + 17)
        .collect();
        assert!(gzip(&noise, 2, 64 * 1024).len() < noise.len() + 4096);
    }

    #[test]
    fn threads_and_chunks_do_not_change_the_bytes() {
        let data = sample(1_500_000);
        let one = gzip(&data, 1, data.len());
        for (threads, chunk) in [(1, 1000), (2, 7), (3, 512), (8, 1 << 20), (100, 4096)] {
            assert!(gzip(&data, threads, chunk) == one, "{threads} threads, chunks of {chunk}");
        }
    }

    #[test]
    fn the_size_is_that_of_one_thread() {
        let data = sample(3_000_000);
        let mut plain = flate2::write::GzEncoder::new(Vec::new(), Compression::new(6));
        plain.write_all(&data).unwrap();
        let (ours, plain) = (gzip(&data, 2, 65536).len(), plain.finish().unwrap().len());
        assert!(ours < plain + plain / 50, "{ours} against {plain}");
    }

    #[test]
    fn a_failing_sink_is_reported_and_nothing_hangs() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(data.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(data.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = ParallelGzip::new(Full(100_000), 6, 2).unwrap();
        let data = sample(4_000_000);
        let failed = writer.write_all(&data).and_then(|()| writer.finish().map(drop));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn no_block_depends_on_what_its_thread_compressed_before() {
        // Machine code: only with far from regular data does it show when a compressor keeps something from its last block.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let data = &program[..program.len().min(12 * 1024 * 1024)];
        for level in [6, 7, 8, 9] {
            let one = gzip_at(level, data, 1, 1 << 20);
            for threads in [2, 7] {
                assert!(gzip_at(level, data, threads, 1 << 20) == one, "level {level}, {threads} threads");
            }
        }
    }
}
