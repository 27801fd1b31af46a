//! The content of one file, moved the cheapest way that works between two filesystems.
//!
//! In order: share the blocks (`FICLONE`), have the kernel or the server copy (`copy_file_range`), read and write. What the
//! pair of filesystems refuses once is not tried again. Holes stay holes.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{SeekFrom, Stat, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite};

use super::facts::Facts;
use super::large::LARGE_BYTES;
use super::walk::Worker;
use crate::fault;

/// What is read and written at a time, in bytes. Bigger gains nothing on local disks, and each worker has one.
const BUFFER_BYTES: usize = 256 * 1024;

/// Up to this size reading and writing is cheaper than setting up a copy inside the kernel, in bytes.
const SMALL_BYTES: u64 = 64 * 1024;

/// What one call copies inside the kernel at most, in bytes: often enough for progress to move.
const RANGE_BYTES: u64 = 16 * 1024 * 1024;

/// Which file the failed operation was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Read(Errno),
    Write(Errno),
    /// The source has less than its size said.
    Shrunk,
}

/// How far a copy came that was begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Done,
    /// It is large, and its content is left to be copied.
    Large,
}

/// What works between the two filesystems of a copy.
#[derive(Debug)]
pub(crate) struct Channel {
    clones: AtomicBool,
    ranges: AtomicBool,
}

impl Channel {
    pub(crate) fn new() -> Self {
        Self { clones: AtomicBool::new(true), ranges: AtomicBool::new(true) }
    }

    /// Begins a copy of the content of `from`, whose facts are `stat`, to the empty file `to`: what is quickly done is
    /// done. What is not has the size that it will have, and its [ranges](Self::fill_range) are left.
    pub(crate) fn begin(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
        worker: &mut Worker<'_>,
        advance: &dyn Fn(u64),
    ) -> Result<Begun, Failure> {
        let size = stat.bytes();
        if size == 0 {
            return Ok(Begun::Done);
        }
        if self.clone_whole(from, to)? {
            advance(size);
            return Ok(Begun::Done);
        }
        if size >= LARGE_BYTES {
            ftruncate(to, size).map_err(Failure::Write)?;
            return Ok(Begun::Large);
        }
        let end = self.fill_range(from, stat, to, 0..size, worker, advance)?;
        if end < size {
            ftruncate(to, size).map_err(Failure::Write)?;
        }
        Ok(Begun::Done)
    }

    /// Copies a range of the content, but for its holes. Stops where it is when the walk has failed elsewhere. Returns
    /// where the last data of the range ended.
    pub(crate) fn fill_range(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
        range: Range<u64>,
        worker: &mut Worker<'_>,
        advance: &dyn Fn(u64),
    ) -> Result<u64, Failure> {
        let Range { start: mut position, end: last } = range;
        if stat.allocated_bytes() >= stat.bytes() {
            return self.copy(from, to, position, last, worker, advance).map(|()| last);
        }
        while let Some((start, end)) = data_after(from, position, last)? {
            advance(start - position);
            self.copy(from, to, start, end, worker, advance)?;
            position = end;
        }
        advance(last - position);
        Ok(position)
    }

    fn clone_whole(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Failure> {
        if !self.clones.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match fault::call("content.clone", || ioctl_ficlone(to, from)) {
            Ok(()) => Ok(true),
            Err(full @ (Errno::NOSPC | Errno::DQUOT)) => Err(Failure::Write(full)),
            Err(_) => {
                self.clones.store(false, Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    /// Copies the bytes from `start` to `end`, to the same place.
    fn copy(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        start: u64,
        end: u64,
        worker: &mut Worker<'_>,
        advance: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let mut position = start;
        while position < end && end - start > SMALL_BYTES && self.ranges.load(Ordering::Relaxed) {
            if worker.is_stopped() {
                return Ok(());
            }
            let (mut read_at, mut write_at) = (position, position);
            let length = usize::try_from((end - position).min(RANGE_BYTES)).unwrap_or(usize::MAX);
            let copied = fault::call("content.range", || {
                copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)
            });
            match copied {
                // Some filesystems say so instead of refusing; reading tells whether the file really ends here.
                Ok(0) => break,
                Ok(copied) => {
                    position += copied as u64;
                    worker.moved_bytes += copied as u64;
                    advance(copied as u64);
                }
                Err(Errno::INTR) => {}
                Err(full @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(Failure::Write(full)),
                Err(_) => self.ranges.store(false, Ordering::Relaxed),
            }
        }
        // The system has zeros at hand: to write them one by one, as `resize` does unoptimised, takes longer than most files.
        if worker.buffer.len() != BUFFER_BYTES {
            worker.buffer = vec![0; BUFFER_BYTES];
        }
        while position < end && !worker.is_stopped() {
            let buffer = &mut worker.buffer;
            let length = usize::try_from(end - position).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            let read = match pread(from, &mut buffer[..length], position) {
                Ok(0) => return Err(Failure::Shrunk),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::Read(errno)),
            };
            write_all(to, &buffer[..read], position)?;
            position += read as u64;
            worker.moved_bytes += read as u64;
            advance(read as u64);
        }
        Ok(())
    }
}

fn write_all(to: BorrowedFd<'_>, mut data: &[u8], mut position: u64) -> Result<(), Failure> {
    while !data.is_empty() {
        match fault::call("content.write", || pwrite(to, data, position)) {
            Ok(0) => return Err(Failure::Write(Errno::IO)),
            Ok(written) => {
                data = &data[written..];
                position += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::Write(errno)),
        }
    }
    Ok(())
}

/// The next stretch of data at or after a position; `None` when only a hole is left.
fn data_after(file: BorrowedFd<'_>, position: u64, size: u64) -> Result<Option<(u64, u64)>, Failure> {
    if position >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A filesystem that does not know its holes: all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some((position, size))),
        Err(errno) => return Err(Failure::Read(errno)),
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
    Ok(Some((start, end.max(start + 1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::sync::atomic::AtomicU64;

    fn fill(channel: &Channel, from: &File, to: &File) -> u64 {
        let advanced = AtomicU64::new(0);
        let stat = rustix::fs::fstat(from).unwrap();
        let advance = |bytes| {
            advanced.fetch_add(bytes, Ordering::Relaxed);
        };
        let mut worker = Worker::alone();
        if channel.begin(from.as_fd(), &stat, to.as_fd(), &mut worker, &advance).unwrap() == Begun::Large {
            // In no particular order, as it may happen.
            let middle = stat.bytes() / 3;
            for range in [middle..stat.bytes(), 0..middle] {
                channel.fill_range(from.as_fd(), &stat, to.as_fd(), range, &mut worker, &advance).unwrap();
            }
        }
        advanced.into_inner()
    }

    fn channels() -> [Channel; 2] {
        [Channel::new(), Channel { clones: AtomicBool::new(false), ranges: AtomicBool::new(false) }]
    }

    #[test]
    fn content_of_any_size_arrives() {
        for channel in channels() {
            for size in [0, 1, 4096, 65_537, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES, 40_000_001] {
                let content: Vec<u8> = (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect();
                let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
                from.write_all_at(&content, 0).unwrap();
                assert_eq!(fill(&channel, &from, &to), size as u64);
                let mut arrived = vec![0; size + 1];
                assert_eq!(to.read_at(&mut arrived, 0).unwrap(), size);
                assert_eq!(arrived[..size], content);
            }
        }
    }

    #[test]
    fn holes_stay_holes() {
        for channel in channels() {
            let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            from.write_all_at(b"in the middle", 40 << 20).unwrap();
            from.set_len(100 << 20).unwrap();
            assert_eq!(fill(&channel, &from, &to), 100 << 20);
            let facts = to.metadata().unwrap();
            assert_eq!(facts.len(), 100 << 20);
            assert!(facts.blocks() * 512 < 1 << 20, "{} blocks", facts.blocks());
            let mut arrived = [0; 13];
            to.read_exact_at(&mut arrived, 40 << 20).unwrap();
            assert_eq!(&arrived, b"in the middle");
        }
    }

    #[test]
    fn a_source_that_shrinks_is_noticed() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(b"four", 0).unwrap();
        let stat = rustix::fs::fstat(&from).unwrap();
        from.set_len(2).unwrap();
        let channel = Channel { clones: AtomicBool::new(false), ranges: AtomicBool::new(false) };
        let result = channel.begin(from.as_fd(), &stat, to.as_fd(), &mut Worker::alone(), &|_| {});
        assert_eq!(result, Err(Failure::Shrunk));
    }
}
