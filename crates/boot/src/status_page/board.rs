//! What a boot under way tells of itself, where the status page reads it.
//!
//! Until the page opens and after it has closed, nothing is kept: telling then costs one look at a flag.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::output::Output;
use crate::console::{Console, SharedConsole};
use crate::environment::Environment;
use crate::journal::BootRecord;
use crate::redact::Redactor;

/// The rate of a copy is that of so long.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How often a copy's progress is noted for its rate.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// A handle on what a boot tells; clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    told: Mutex<Told>,
}

/// Everything that was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) record: Option<BootRecord>,
    /// The names of all stages, those to come too.
    pub(super) plan: Vec<String>,
    pub(super) copying: Option<(&'static str, Arc<Copying>)>,
    pub(super) output: Output,
    pub(super) redactor: Redactor,
    pub(super) supervisor_failed: bool,
}

impl Board {
    /// From now on, what is told is kept.
    pub(super) fn open(&self, plan: Vec<String>) {
        self.told().plan = plan;
        self.0.open.store(true, Ordering::Release);
    }

    /// From now on, nothing is kept.
    pub(super) fn close(&self) {
        self.0.open.store(false, Ordering::Release);
        *self.told() = Told::default();
    }

    /// Whether anybody reads it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// The boot's record has changed.
    pub fn record(&self, record: &BootRecord) {
        self.tell(|told| told.record = Some(record.clone()));
    }

    /// There are secrets in this environment, which must not be shown.
    pub(super) fn hide(&self, env: &Environment) {
        self.tell(|told| told.redactor.extend(env));
    }

    /// Supervisor does not run, so nobody will take the page's place.
    pub(super) fn supervisor_failed(&self) {
        self.tell(|told| told.supervisor_failed = true);
    }

    /// A stage begins to copy.
    pub fn copying(&self, stage: &'static str, copying: &Arc<Copying>) {
        self.tell(|told| told.copying = Some((stage, copying.clone())));
    }

    /// The copy is over.
    pub fn copied(&self) {
        self.tell(|told| told.copying = None);
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        if self.is_open() {
            change(&mut self.told());
        }
    }

    /// Every change is whole by itself, so what a panic left can be read.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Board").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// A console whose output the status page also shows.
pub struct Heard {
    console: SharedConsole,
    board: Board,
}

impl Heard {
    /// Passes everything on to `console`.
    #[must_use]
    pub fn new(console: SharedConsole, board: Board) -> Self {
        Self { console, board }
    }
}

impl Console for Heard {
    fn line(&self, text: &str) {
        self.console.line(text);
        self.board.tell(|told| told.output.line(text));
    }

    fn raw(&self, bytes: &[u8]) {
        self.console.raw(bytes);
        self.board.tell(|told| told.output.raw(bytes));
    }

    fn hears(&self) -> bool {
        self.board.is_open()
    }
}

/// How far a copy is. Its workers write, the page reads, and neither waits for the other.
#[derive(Debug)]
pub struct Copying {
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    done_bytes: AtomicU64,
    done_files: AtomicU64,
    samples: Mutex<Samples>,
}

/// Moments of the last seconds and the bytes that were done then; the first is never older than the window by more than one step.
#[derive(Debug)]
struct Samples {
    started: Instant,
    recent: VecDeque<(Instant, u64)>,
}

impl Samples {
    fn new(now: Instant) -> Self {
        Self { started: now, recent: VecDeque::from([(now, 0)]) }
    }

    fn note(&mut self, now: Instant, done_bytes: u64) {
        let last = self.recent.back().map_or(self.started, |(at, _)| *at);
        if now.duration_since(last) < SAMPLE_EVERY {
            return;
        }
        self.recent.push_back((now, done_bytes));
        while self.recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW) {
            self.recent.pop_front();
        }
    }
}

/// A copy at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copied {
    /// Content copied so far, in bytes.
    pub bytes: u64,
    /// All content, in bytes.
    pub total_bytes: u64,
    /// Entries of any kind copied so far.
    pub files: u64,
    /// All entries.
    pub total_files: u64,
    /// How fast it is now: over the last ten seconds, in bytes a second.
    pub bytes_per_second: f64,
    /// How long it will take at that rate; nothing while there is no rate.
    pub left: Option<Duration>,
}

impl Default for Copying {
    fn default() -> Self {
        Self {
            total_bytes: AtomicU64::new(0),
            total_files: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            done_files: AtomicU64::new(0),
            samples: Mutex::new(Samples::new(Instant::now())),
        }
    }
}

impl Copying {
    /// A copy of so much begins.
    pub fn start(&self, total_bytes: u64, total_files: u64, now: Instant) {
        for (counter, value) in [
            (&self.total_bytes, total_bytes),
            (&self.total_files, total_files),
            (&self.done_bytes, 0),
            (&self.done_files, 0),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
        *self.samples.lock().unwrap_or_else(PoisonError::into_inner) = Samples::new(now);
    }

    /// So much more is done.
    pub fn advance(&self, bytes: u64, files: u64, now: Instant) {
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.done_files.fetch_add(files, Ordering::Relaxed);
        // Whoever does not get the lock at once has a copy to go on with.
        if let Ok(mut samples) = self.samples.try_lock() {
            samples.note(now, done);
        }
    }

    /// How far it is.
    #[must_use]
    pub fn at(&self, now: Instant) -> Copied {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes, total_bytes) = (read(&self.done_bytes), read(&self.total_bytes));
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = samples.recent.front().copied().unwrap_or((samples.started, 0));
        drop(samples);
        let seconds = now.duration_since(since).as_secs_f64();
        let bytes_per_second = if seconds > 0.0 { bytes.saturating_sub(before) as f64 / seconds } else { 0.0 };
        let left = (bytes_per_second >= 1.0).then(|| total_bytes.saturating_sub(bytes) as f64 / bytes_per_second);
        Copied {
            bytes,
            total_bytes,
            files: read(&self.done_files),
            total_files: read(&self.total_files),
            bytes_per_second,
            left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Silent;

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_gives_the_time_left() {
        let copying = Copying::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        copying.start(1000, 10, start);
        assert_eq!(copying.at(start).left, None);
        for second in 1..=20 {
            copying.advance(10, 1, at(second));
        }
        // It becomes twice as fast.
        for second in 21..=40 {
            copying.advance(20, 0, at(second));
        }
        let copied = copying.at(at(40));
        assert_eq!((copied.bytes, copied.total_bytes, copied.files, copied.total_files), (600, 1000, 20, 10));
        assert!((copied.bytes_per_second - 20.0).abs() < 1.0, "{copied:?}");
        assert_eq!(copied.left, Some(Duration::from_secs(20)));
        // A copy that stands still says so.
        let stuck = copying.at(at(400));
        assert!(stuck.bytes_per_second < 1.0 && stuck.left.is_none(), "{stuck:?}");
        copying.start(5, 1, at(401));
        assert_eq!(copying.at(at(401)).bytes, 0);
    }

    #[test]
    fn only_an_open_board_keeps_what_is_told() {
        let board = Board::default();
        let console = Heard::new(Arc::new(Silent), board.clone());
        console.line("before");
        assert!(!console.hears());
        board.open(vec!["10-a.sh".to_owned()]);
        console.line("while");
        board.copying("36-sync-workspace.sh", &Arc::default());
        assert_eq!(board.told().output.text(), "while\n");
        assert!(board.told().copying.is_some() && console.hears());
        board.close();
        console.line("after");
        let told = board.told();
        assert!(told.output.text().is_empty() && told.copying.is_none() && told.plan.is_empty());
    }
}
