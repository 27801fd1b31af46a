//! How the container's log hears of a copy that takes long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vast_sync::Progress;

use crate::console::SharedConsole;

/// How often it does.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Says how far a copy is, now and then.
pub(super) struct Told {
    stage: &'static str,
    console: SharedConsole,
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    clock: Mutex<Clock>,
}

struct Clock {
    started: Instant,
    said: Instant,
}

impl Told {
    /// For one stage.
    pub(super) fn new(stage: &'static str, console: SharedConsole) -> Self {
        let now = Instant::now();
        let clock = Mutex::new(Clock { started: now, said: now });
        Self { stage, console, total_bytes: AtomicU64::new(0), done_bytes: AtomicU64::new(0), clock }
    }
}

impl Progress for Told {
    fn start(&self, total_bytes: u64, _total_files: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.done_bytes.store(0, Ordering::Relaxed);
        let now = Instant::now();
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Clock { started: now, said: now };
    }

    fn advance(&self, bytes: u64, _files: u64) {
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Whoever does not get the lock at once has a copy to go on with.
        let Ok(mut clock) = self.clock.try_lock() else { return };
        if clock.said.elapsed() >= TELL_EVERY {
            clock.said = Instant::now();
            let line = progress(done, self.total_bytes.load(Ordering::Relaxed), clock.started.elapsed());
            self.console.line(&format!("{}: {line}", self.stage));
        }
    }

    fn message(&self, text: &str) {
        self.console.line(&format!("{}: {text}", self.stage));
    }
}

/// "1.2 of 5.6 GB, 37 s left".
fn progress(done_bytes: u64, total_bytes: u64, elapsed: Duration) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let rate = done_bytes as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let left = total_bytes.saturating_sub(done_bytes) as f64 / rate.max(1.0);
    format!("{:.1} of {:.1} GB, {left:.0} s left", gigabytes(done_bytes), gigabytes(total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_bytes_and_time_left() {
        assert_eq!(progress(1_000_000_000, 3_000_000_000, Duration::from_secs(10)), "1.0 of 3.0 GB, 20 s left");
        assert_eq!(progress(0, 0, Duration::ZERO), "0.0 of 0.0 GB, 0 s left");
    }
}
