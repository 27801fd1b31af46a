//! How many workers a walk has.
//!
//! The one place that decides it. A local filesystem answers in microseconds, so workers beyond the cores only queue for
//! the same locks. A volume on a network answers in milliseconds, most of which a worker spends waiting, so it takes
//! many to keep it busy.

use std::thread;

use crate::volume::kind::Kind;

/// Workers on a filesystem that answers over a network, whatever the number of cores.
const REMOTE_WORKERS: usize = 32;

/// The most workers on a local filesystem; more than this only contend for the filesystem's own locks.
const LOCAL_WORKERS_MOST: usize = 16;

/// The workers of one walk.
#[derive(Debug)]
pub(crate) struct Crew {
    limit: usize,
}

impl Crew {
    /// As many as suit a filesystem.
    pub(crate) fn for_kind(kind: Kind) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self { limit: if kind.is_local() { cores.clamp(2, LOCAL_WORKERS_MOST) } else { REMOTE_WORKERS } }
    }

    /// How many workers there may be at this moment.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}
