//! Having a file written to the disk while it grows.
//!
//! Who makes a file durable when it is complete waits for all of it at once, with idle processors. Begun early, most of it is
//! on the disk by then.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// At least so much there is to write each time.
const STEP_BYTES: usize = 16 * 1024 * 1024;

/// Flushes a file again and again, by a thread of its own.
pub(super) struct Flusher {
    unflushed_bytes: usize,
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Flusher {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        Self::start(move || file.sync_data())
    }

    fn start(mut flush: impl FnMut() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new().name("flush".to_owned());
        let thread = thread.spawn(move || woken.into_iter().try_for_each(|()| flush()))?;
        Ok(Self { unflushed_bytes: 0, wake, thread })
    }

    /// Notes that so much more was written. Does not wait.
    pub(super) fn written(&mut self, bytes: usize) {
        self.unflushed_bytes += bytes;
        if self.unflushed_bytes >= STEP_BYTES {
            match self.wake.try_send(()) {
                Ok(()) => self.unflushed_bytes = 0,
                // It has enough to do, or has failed and tells at the end.
                Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Waits for what was begun. The end of the file may not be on the disk yet.
    ///
    /// # Errors
    /// What flushing met: the system tells it once, so that no later flush of the file would.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{TryRecvError, channel};
    use std::time::Duration;

    /// Only a flush that never comes takes so long.
    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_file_is_flushed_each_time_enough_was_written() {
        let (told, seen) = channel();
        let mut flusher = Flusher::start(move || told.send(()).map_err(io::Error::other)).unwrap();
        flusher.written(STEP_BYTES - 1);
        for _ in 0..3 {
            assert_eq!(seen.try_recv(), Err(TryRecvError::Empty));
            flusher.written(STEP_BYTES);
            seen.recv_timeout(LONG).unwrap();
        }
        flusher.finish().unwrap();
        assert_eq!(seen.try_recv(), Err(TryRecvError::Disconnected), "three times");
    }

    #[test]
    fn a_disk_that_fails_meanwhile_is_told_at_the_end() {
        let (told, seen) = channel();
        let mut flusher = Flusher::start(move || {
            let _ = told.send(());
            Err(io::Error::other("the disk failed"))
        })
        .unwrap();
        flusher.written(STEP_BYTES);
        seen.recv_timeout(LONG).unwrap();
        // The thread has ended, or is about to.
        flusher.written(STEP_BYTES);
        assert_eq!(flusher.finish().unwrap_err().to_string(), "the disk failed");
    }

    #[test]
    fn a_real_file_is_flushed() {
        let file = tempfile::tempfile().unwrap();
        let mut flusher = Flusher::of(&file).unwrap();
        flusher.written(STEP_BYTES);
        flusher.finish().unwrap();
    }
}
