//! How the container's log and the status page hear of a copy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vast_sync::Progress;

use crate::console::SharedConsole;
use crate::stage::Boot;
use crate::status_page::{Board, Copied, Copying};

/// How often the log does.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Says how far a copy is, now and then.
pub(super) struct Told {
    stage: &'static str,
    console: SharedConsole,
    board: Board,
    copying: Arc<Copying>,
    said: Mutex<Instant>,
}

impl Told {
    /// For one stage.
    pub(super) fn new(stage: &'static str, boot: &Boot<'_>) -> Self {
        Self {
            stage,
            console: boot.console.clone(),
            board: boot.page.board().clone(),
            copying: Arc::default(),
            said: Mutex::new(Instant::now()),
        }
    }
}

impl Progress for Told {
    fn start(&self, total_bytes: u64, total_files: u64) {
        let now = Instant::now();
        self.copying.start(total_bytes, total_files, now);
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.board.copying(self.stage, &self.copying);
    }

    fn advance(&self, bytes: u64, files: u64) {
        let now = Instant::now();
        self.copying.advance(bytes, files, now);
        // Whoever does not get the lock at once has a copy to go on with.
        let Ok(mut said) = self.said.try_lock() else { return };
        if now.duration_since(*said) >= TELL_EVERY {
            *said = now;
            self.console.line(&format!("{}: {}", self.stage, progress(&self.copying.at(now))));
        }
    }

    fn finish(&self) {
        self.board.copied();
    }

    fn message(&self, text: &str) {
        self.console.line(&format!("{}: {text}", self.stage));
    }
}

impl Drop for Told {
    /// A copy that failed is over too.
    fn drop(&mut self) {
        self.board.copied();
    }
}

/// "1.2 of 5.6 GB, 37 s left".
fn progress(copied: &Copied) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let left = copied.left.map_or_else(|| "waiting".to_owned(), |left| format!("{:.0} s left", left.as_secs_f64()));
    format!("{:.1} of {:.1} GB, {left}", gigabytes(copied.bytes), gigabytes(copied.total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_bytes_and_time_left() {
        let start = Instant::now();
        let copying = Copying::default();
        copying.start(3_000_000_000, 1, start);
        assert_eq!(progress(&copying.at(start)), "0.0 of 3.0 GB, waiting");
        let later = start + Duration::from_secs(10);
        copying.advance(1_000_000_000, 0, later);
        assert_eq!(progress(&copying.at(later)), "1.0 of 3.0 GB, 20 s left");
    }
}
