//! A large file, copied by several workers at once: each takes a range of it, until none is left.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::Stat;

use super::facts::Facts;

/// What one worker takes at a time, in bytes: long stretches for the disks, short enough that all end together.
const RANGE_BYTES: u64 = 16 * 1024 * 1024;

/// From this size on a file is large, in bytes.
pub(crate) const LARGE_BYTES: u64 = 2 * RANGE_BYTES;

/// A file whose content is on its way.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) from: OwnedFd,
    pub(crate) to: OwnedFd,
    /// What the source is like.
    pub(crate) stat: Stat,
    /// Its path from the root of the tree.
    pub(crate) path: PathBuf,
    /// Where the next range begins.
    next: AtomicU64,
    /// How much is not copied yet, in bytes.
    left: AtomicU64,
}

impl Large {
    pub(crate) fn new(from: OwnedFd, to: OwnedFd, stat: Stat, path: PathBuf) -> Self {
        Self { from, to, stat, path, next: AtomicU64::new(0), left: AtomicU64::new(stat.bytes()) }
    }

    /// Whether a range is left to be taken.
    pub(crate) fn has_more(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.stat.bytes()
    }

    /// A range that nobody else has.
    pub(crate) fn take(&self) -> Option<Range<u64>> {
        let size = self.stat.bytes();
        let start = self.next.fetch_add(RANGE_BYTES, Ordering::Relaxed);
        (start < size).then(|| start..size.min(start + RANGE_BYTES))
    }

    /// Gives a copied range back. Whether it was the last: then the content is complete, and known to be to the caller.
    pub(crate) fn give(&self, range: &Range<u64>) -> bool {
        let bytes = range.end - range.start;
        self.left.fetch_sub(bytes, Ordering::AcqRel) == bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::thread;

    fn large(bytes: u64) -> Large {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let other: File = file.try_clone().unwrap();
        Large::new(file.into(), other.into(), stat, PathBuf::new())
    }

    #[test]
    fn every_byte_is_taken_once_and_one_worker_is_the_last() {
        for bytes in [1, RANGE_BYTES, RANGE_BYTES + 1, 10 * RANGE_BYTES - 1] {
            let large = large(bytes);
            let work = || {
                let (mut taken, mut lasts) = (Vec::new(), 0);
                while let Some(range) = large.take() {
                    lasts += u32::from(large.give(&range));
                    taken.push(range);
                }
                (taken, lasts)
            };
            let done = thread::scope(|scope| {
                let others: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
                others.into_iter().map(|other| other.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(done.iter().map(|(_, lasts)| lasts).sum::<u32>(), 1);
            let mut taken: Vec<_> = done.into_iter().flat_map(|(taken, _)| taken).collect();
            taken.sort_unstable_by_key(|range| range.start);
            let ends = taken.iter().map(|range| range.end);
            assert!(taken.iter().map(|range| range.start).eq(std::iter::once(0).chain(ends).take(taken.len())));
            assert_eq!(taken.last().unwrap().end, bytes);
            assert!(!large.has_more());
        }
    }
}
