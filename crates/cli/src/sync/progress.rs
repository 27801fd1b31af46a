//! Showing how a copy goes on: a bar for a person, a line now and then for a log, events for a program.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;
use vast_sync::Progress;

use super::{PROGRAM, output};

/// What suits whoever reads: events if asked for, a bar on a terminal, lines elsewhere.
pub(super) fn choose(json: bool) -> Box<dyn Progress> {
    if json {
        Box::new(Events(Meter::new(Duration::from_secs(1))))
    } else if std::io::stderr().is_terminal() {
        Box::new(Bar::new())
    } else {
        Box::new(Lines(Meter::new(Duration::from_secs(10))))
    }
}

/// A bar on standard error, which is gone in the end.
struct Bar {
    drawn: ProgressBar,
    files: Arc<Files>,
}

#[derive(Default)]
struct Files {
    done: AtomicU64,
    total: AtomicU64,
}

const TEMPLATE: &str = "{bar:30.cyan} {binary_bytes}/{binary_total_bytes} {files} {binary_bytes_per_sec} {eta} left";

impl Bar {
    fn new() -> Self {
        let (bar, files) = (ProgressBar::hidden(), Arc::new(Files::default()));
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Put into words when it is drawn, not for each of a hundred thousand small files.
        let shown = Arc::clone(&files);
        bar.set_style(style.with_key("files", move |_: &ProgressState, text: &mut dyn fmt::Write| {
            let (done, total) = (shown.done.load(Ordering::Relaxed), shown.total.load(Ordering::Relaxed));
            let _ = write!(text, "{}/{} files", HumanCount(done), HumanCount(total));
        }));
        Self { drawn: bar, files }
    }
}

impl Progress for Bar {
    fn start(&self, total_bytes: u64, total_files: u64) {
        self.files.done.store(0, Ordering::Relaxed);
        self.files.total.store(total_files, Ordering::Relaxed);
        self.drawn.set_length(total_bytes);
        self.drawn.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    }

    fn advance(&self, bytes: u64, files: u64) {
        self.files.done.fetch_add(files, Ordering::Relaxed);
        self.drawn.inc(bytes);
    }

    fn message(&self, text: &str) {
        if self.drawn.is_hidden() {
            eprintln!("{PROGRAM}: {text}");
        } else {
            self.drawn.println(text);
        }
    }

    fn warning(&self, text: &str) {
        self.message(&format!("warning: {text}"));
    }

    fn finish(&self) {
        self.drawn.finish_and_clear();
        self.drawn.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
}

/// A line on standard error every ten seconds.
struct Lines(Meter);

impl Progress for Lines {
    fn start(&self, total_bytes: u64, total_files: u64) {
        self.0.start(total_bytes, total_files);
    }

    fn advance(&self, bytes: u64, files: u64) {
        if let Some(reading) = self.0.advance(bytes, files) {
            eprintln!("{PROGRAM}: {}", reading.sentence());
        }
    }

    fn message(&self, text: &str) {
        eprintln!("{PROGRAM}: {text}");
    }

    fn warning(&self, text: &str) {
        eprintln!("{PROGRAM}: warning: {text}");
    }
}

/// JSON objects on standard output, one a line, each with its `event`.
struct Events(Meter);

impl Progress for Events {
    fn start(&self, total_bytes: u64, total_files: u64) {
        self.0.start(total_bytes, total_files);
        output::json(&json!({ "event": "start", "bytes": total_bytes, "entries": total_files }));
    }

    fn advance(&self, bytes: u64, files: u64) {
        if let Some(reading) = self.0.advance(bytes, files) {
            output::json(&json!({ "event": "progress", "bytes": reading.bytes, "entries": reading.entries }));
        }
    }

    fn message(&self, text: &str) {
        output::json(&json!({ "event": "message", "text": text }));
    }

    fn warning(&self, text: &str) {
        output::json(&json!({ "event": "warning", "text": text }));
    }
}

/// Counts, and says now and then what it has counted.
struct Meter {
    began: Instant,
    every: Duration,
    /// When it said so last, in milliseconds since it began.
    said_ms: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
    total_bytes: AtomicU64,
    total_entries: AtomicU64,
}

#[derive(Debug, PartialEq)]
struct Reading {
    elapsed: Duration,
    bytes: u64,
    entries: u64,
    total_bytes: u64,
    total_entries: u64,
}

impl Meter {
    fn new(every: Duration) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            began: Instant::now(),
            every,
            said_ms: zero(),
            bytes: zero(),
            entries: zero(),
            total_bytes: zero(),
            total_entries: zero(),
        }
    }

    fn start(&self, bytes: u64, entries: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
        self.total_entries.store(entries, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64, entries: u64) -> Option<Reading> {
        self.advance_at(self.began.elapsed(), bytes, entries)
    }

    fn advance_at(&self, elapsed: Duration, bytes: u64, entries: u64) -> Option<Reading> {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let entries = self.entries.fetch_add(entries, Ordering::Relaxed) + entries;
        let (now, said) = (millis(elapsed), self.said_ms.load(Ordering::Relaxed));
        if now < said + millis(self.every) {
            return None;
        }
        // Of several threads that see the time come, one speaks.
        self.said_ms.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(Reading {
            elapsed,
            bytes,
            entries,
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            total_entries: self.total_entries.load(Ordering::Relaxed),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Reading {
    /// `1.00 GiB of 4.00 GiB, 500 of 2,000 files, 102.40 MiB/s, 30 seconds left`.
    fn sentence(&self) -> String {
        let rate = self.bytes.checked_div(self.elapsed.as_secs()).unwrap_or(0);
        let left = match self.total_bytes.saturating_sub(self.bytes).checked_div(rate) {
            Some(seconds) => format!("{} left", HumanDuration(Duration::from_secs(seconds))),
            None => "stalled".to_owned(),
        };
        format!(
            "{} of {}, {} of {} files, {}/s, {left}",
            BinaryBytes(self.bytes),
            BinaryBytes(self.total_bytes),
            HumanCount(self.entries),
            HumanCount(self.total_entries),
            BinaryBytes(rate),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_speaks_when_its_time_has_come() {
        let meter = Meter::new(Duration::from_secs(10));
        meter.start(4 << 30, 2000);
        assert_eq!(meter.advance_at(Duration::from_secs(9), 1 << 29, 250), None);
        let reading = meter.advance_at(Duration::from_secs(10), 1 << 29, 250).unwrap();
        assert_eq!(reading.sentence(), "1.00 GiB of 4.00 GiB, 500 of 2,000 files, 102.40 MiB/s, 30 seconds left");
        assert_eq!(meter.advance_at(Duration::from_secs(19), 0, 0), None);
        assert!(meter.advance_at(Duration::from_secs(20), 0, 0).is_some());
    }

    #[test]
    fn a_copy_that_does_not_move_is_called_stalled() {
        let meter = Meter::new(Duration::from_secs(10));
        meter.start(100, 1);
        let reading = meter.advance_at(Duration::from_secs(10), 0, 0).unwrap();
        assert_eq!(reading.sentence(), "0 B of 100 B, 0 of 1 files, 0 B/s, stalled");
    }

    #[test]
    fn the_template_of_the_bar_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
