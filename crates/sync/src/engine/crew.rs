//! How many workers a walk has: as many as make it faster.
//!
//! A local filesystem answers in microseconds, and workers beyond the cores only queue for its locks. A volume on a network
//! answers in milliseconds, most of which a worker spends waiting, and dozens are needed to keep it busy. Nothing that can
//! be asked beforehand tells one from the other: a user-space filesystem may be either. So it is tried. A walk begins
//! with a worker for each core. Whenever small files take long, and mostly of waiting, there are four times as many workers;
//! if each small file then takes so much longer that nothing was won, they wait for each other or for the same disk,
//! and the new ones go again. Small files alone are the measure: how many bytes a second are copied depends on
//! which files happen to be next.
//!
//! The share of waiting alone would not do. On a machine that is busy with other things workers wait for a processor, and
//! more of them get more of it, at the cost of everyone else and of fighting over locks. Such waits are short.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::walk::Worker;

/// The most workers. Each has a buffer, of [256 KiB](super::content), and a few open files.
const MOST: usize = 64;

/// How many open files a worker is reckoned with: its own, those of the directories it is in, and its share of the waiting
/// jobs'.
const FILES_EACH: u64 = 12;

/// How long is measured before anything is concluded, at least.
const WINDOW: Duration = Duration::from_millis(30);

/// … and how many visits for each worker.
const VISITS_EACH: u64 = 8;

/// One of so many visits is measured.
const MEASURED_OF: u64 = 4;

/// More content than this and a visit is no measure of how fast the volume answers, in bytes.
const SMALL_BYTES: u64 = 64 * 1024;

/// Above this share of their time waiting, workers may be too few …
const WAITING: f64 = 0.5;

/// … if each small entry has them wait longer than this. A local filesystem has an answer in a tenth of it even when its
/// locks are fought over; a network needs as much for one of the several operations of an entry.
const WAITING_EACH: Duration = Duration::from_micros(500);

/// By how much the number of workers is raised at a time. In steps of two it would take a second to get from two workers to
/// sixty-four on a volume with a millisecond for each operation.
const RAISE: usize = 4;

/// By how much raising the number of workers has to speed up the walk.
const WORTH: f64 = 1.3;

/// How many windows pass between two trials when one has failed: the volume may be busy with someone else's work.
const WINDOWS_BETWEEN_TRIALS: u32 = 30;

/// The workers of one walk.
#[derive(Debug)]
pub(crate) struct Crew {
    began: Instant,
    limit: AtomicUsize,
    /// Since the window began.
    visits: AtomicU64,
    /// Of the visits that were measured.
    measured: AtomicU64,
    busy_ns: AtomicU64,
    computing_ns: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Duration,
    foreman: Foreman,
}

impl Crew {
    /// A worker for each core, to begin with.
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        // No limit reads as none.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(files / FILES_EACH).unwrap_or(MOST).clamp(1, MOST);
        let limit = cores.min(most);
        let zero = || AtomicU64::new(0);
        Self {
            began: Instant::now(),
            limit: AtomicUsize::new(limit),
            visits: zero(),
            measured: zero(),
            busy_ns: zero(),
            computing_ns: zero(),
            window: Mutex::new(Window { began: Duration::ZERO, foreman: Foreman::new(limit, most) }),
        }
    }

    /// How many workers there may be at this moment.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Exactly that many, whatever comes.
    #[cfg(test)]
    pub(crate) fn of(workers: usize) -> Self {
        let crew = Self { limit: AtomicUsize::new(workers), ..Self::new() };
        *crew.window.try_lock().unwrap() = Window { began: Duration::MAX, foreman: Foreman::new(workers, workers) };
        crew
    }

    /// Another number than the one that was measured.
    #[cfg(test)]
    pub(crate) fn set_limit(&self, workers: usize) {
        self.limit.store(workers, Ordering::Relaxed);
    }

    /// Has a worker visit one entry, and draws conclusions from how long that took.
    pub(crate) fn visit<'a, T>(&self, worker: &mut Worker<'a>, visit: impl FnOnce(&mut Worker<'a>) -> T) -> T {
        // Asking for the processor time is a system call of its own, so only some visits are measured.
        if !self.visits.fetch_add(1, Ordering::Relaxed).is_multiple_of(MEASURED_OF) {
            return visit(worker);
        }
        let (began, began_computing) = (self.began.elapsed(), computing());
        worker.moved_bytes = 0;
        let result = visit(worker);
        if worker.moved_bytes <= SMALL_BYTES {
            let now = self.began.elapsed();
            self.note(now, now.saturating_sub(began), computing().saturating_sub(began_computing));
        }
        result
    }

    fn note(&self, now: Duration, busy: Duration, computing: Duration) {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.measured.fetch_add(1, Ordering::Relaxed);
        self.busy_ns.fetch_add(ns(busy), Ordering::Relaxed);
        self.computing_ns.fetch_add(ns(computing), Ordering::Relaxed);
        if self.visits.load(Ordering::Relaxed) >= VISITS_EACH * self.limit() as u64 {
            self.conclude(now);
        }
    }

    fn conclude(&self, now: Duration) {
        // One of them does it; the others go on.
        let Ok(mut window) = self.window.try_lock() else { return };
        let elapsed = now.saturating_sub(window.began);
        if elapsed < WINDOW {
            return;
        }
        window.began = now;
        self.visits.store(0, Ordering::Relaxed);
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let (measured, busy_ns, computing_ns) = (take(&self.measured), take(&self.busy_ns), take(&self.computing_ns));
        if measured == 0 || busy_ns == 0 {
            return;
        }
        let waiting_ns = busy_ns.saturating_sub(computing_ns);
        let waits =
            waiting_ns as f64 > WAITING * busy_ns as f64 && Duration::from_nanos(waiting_ns / measured) > WAITING_EACH;
        // Small files in a nanosecond.
        let rate = self.limit() as f64 * measured as f64 / busy_ns as f64;
        self.limit.store(window.foreman.decide(rate, waits), Ordering::Relaxed);
    }
}

/// The processor time of this thread.
fn computing() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Decides how many workers there are, from what the last window was like.
#[derive(Debug)]
struct Foreman {
    limit: usize,
    most: usize,
    reached: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Content with the number, for so many windows more at least.
    Settled { windows: u32 },
    /// The number was just raised: the new ones are only beginning.
    Raised { from: usize, before: f64 },
    /// The number was raised: was it worth it, compared with the rate before?
    Judging { from: usize, before: f64 },
}

impl Foreman {
    fn new(limit: usize, most: usize) -> Self {
        Self { limit, most, reached: limit, state: State::Settled { windows: 0 } }
    }

    fn decide(&mut self, rate: f64, waits: bool) -> usize {
        self.state = match self.state {
            State::Raised { from, before } => State::Judging { from, before },
            State::Judging { from, before } if rate < before * WORTH => {
                self.limit = from;
                State::Settled { windows: WINDOWS_BETWEEN_TRIALS }
            }
            State::Settled { windows: windows @ 1.. } => State::Settled { windows: windows - 1 },
            State::Judging { .. } | State::Settled { windows: 0 } => {
                if waits && self.limit < self.most {
                    let from = self.limit;
                    self.limit = (self.limit * RAISE).min(self.most);
                    self.reached = self.reached.max(self.limit);
                    State::Raised { from, before: rate }
                } else {
                    State::Settled { windows: 0 }
                }
            }
        };
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a foreman work on a volume whose rate depends on the number of workers, for a while.
    fn work_on(cores: usize, volume: impl Fn(usize) -> (f64, bool)) -> Foreman {
        let mut foreman = Foreman::new(cores, MOST);
        for _ in 0..1000 {
            let (rate, waits) = volume(foreman.limit);
            foreman.decide(rate, waits);
        }
        foreman
    }

    #[test]
    fn a_volume_that_keeps_its_workers_waiting_gets_as_many_as_help() {
        // Each worker adds as much as the first.
        let foreman = work_on(2, |workers| (workers as f64, true));
        assert_eq!(foreman.limit, 64);
        // A server that serves sixteen at a time.
        let foreman = work_on(2, |workers| (workers.min(16) as f64, true));
        assert_eq!(foreman.limit, 32, "{foreman:?}");
        assert_eq!(foreman.reached, 64, "it was tried");
    }

    #[test]
    fn workers_who_compute_get_no_company() {
        let foreman = work_on(4, |workers| (workers.min(4) as f64, false));
        assert_eq!((foreman.limit, foreman.reached), (4, 4));
    }

    #[test]
    fn workers_who_wait_for_each_other_are_sent_away_again() {
        let mut foreman = Foreman::new(8, MOST);
        let mut above = 0;
        for _ in 0..1000 {
            let rate = 8.0 / foreman.limit as f64;
            above += u32::from(foreman.decide(rate, true) > 8);
        }
        assert!(foreman.limit == 8 || foreman.reached == 32, "{foreman:?}");
        assert!(above < 100, "trials are rare: {above} of 1000");
    }

    #[test]
    fn a_number_that_does_not_divide_the_most_ends_at_the_most() {
        let foreman = work_on(6, |workers| (workers as f64, true));
        assert_eq!(foreman.limit, 64);
    }

    #[test]
    fn a_crew_grows_while_its_visits_wait_and_not_while_they_compute() {
        // A network; a busy disk; a local filesystem on a machine with other things to do.
        for (busy_us, computing_us, grows) in [(1000, 20, true), (1000, 950, false), (150, 20, false)] {
            let crew = Crew::new();
            let first = crew.limit();
            for visit in 1..=2000_u32 {
                let now = Duration::from_millis(1) * visit;
                crew.visits.fetch_add(1, Ordering::Relaxed);
                crew.note(now, Duration::from_micros(busy_us), Duration::from_micros(computing_us));
            }
            let foreman = crew.window.into_inner().unwrap().foreman;
            assert_eq!(foreman.reached > first, grows, "{foreman:?}");
        }
    }

    #[test]
    fn a_visit_is_measured() {
        let crew = Crew::new();
        assert_eq!(crew.visit(&mut Worker::alone(), |_| 7), 7);
        assert_eq!(crew.measured.load(Ordering::Relaxed), 1);
        for _ in 1..2 * MEASURED_OF {
            crew.visit(&mut Worker::alone(), |worker| worker.moved_bytes += SMALL_BYTES + 1);
        }
        assert_eq!(crew.measured.into_inner(), 1, "large files are no measure");
    }
}
