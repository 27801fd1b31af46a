//! The three ways of an application's output.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clean::Cleaner;
use super::log::Log;

/// How much is read at once. A pipe holds 64 KiB unless it is made larger, which is tried.
const READ_BYTES: usize = 256 << 10;
const PIPE_BYTES: usize = 1 << 20;

/// After this long without output, a line that has not ended is shown: a prompt, a "Loading…".
const IDLE: Duration = Duration::from_millis(200);
/// How often a line that is redrawn again and again (a progress bar) shows in the clean text.
const REDRAW: Duration = Duration::from_secs(10);

/// What a start that skips itself may say before the logs are rotated all the same.
const HELD_LIMIT: usize = 64 << 10;

/// Where an application's output goes, besides standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    /// The log that keeps every byte.
    pub raw: Option<PathBuf>,
    /// The log of clean text.
    pub clean: Option<PathBuf>,
    /// The application's name, for the message of a start that skips itself: `Skipping NAME startup`.
    pub name: Option<String>,
}

/// Copies `input` to the logs and, as clean text, to `output`, until its end.
///
/// Failures to write are told to `warn` once each and never end the copying; so does a closed `output`.
///
/// # Errors
/// Only where `input` cannot be read.
pub fn tee(
    input: &mut (impl Read + AsFd),
    output: &mut dyn Write,
    to: &Destinations,
    warn: &mut dyn FnMut(String),
) -> io::Result<()> {
    // Fewer, larger reads where the system allows it; anything but a pipe refuses.
    let _ = rustix::pipe::fcntl_setpipe_size(input.as_fd(), PIPE_BYTES);
    let mut tee = Tee { sinks: Sinks::new(to), output: Some(output), warn, cleaner: Cleaner::default() };
    let mut buffer = vec![0; READ_BYTES];
    let mut text = Vec::new();
    let mut shown = Instant::now();
    loop {
        if tee.cleaner.has_text() && !is_readable(input, tee.patience(shown))? {
            text.clear();
            tee.cleaner.flush(&mut text);
            tee.pass(&[], &text);
            shown = Instant::now();
            continue;
        }
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The other end of a pseudo-terminal is gone.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
            Err(error) => return Err(error),
        };
        text.clear();
        tee.cleaner.feed(&buffer[..count], &mut text);
        if tee.cleaner.is_redrawn() && shown.elapsed() >= REDRAW {
            tee.cleaner.flush(&mut text);
        }
        if !text.is_empty() {
            shown = Instant::now();
        }
        tee.pass(&buffer[..count], &text);
    }
    text.clear();
    tee.cleaner.finish(&mut text);
    tee.pass(&[], &text);
    tee.finish();
    Ok(())
}

struct Tee<'a> {
    sinks: Sinks,
    /// `None` once nobody reads it.
    output: Option<&'a mut dyn Write>,
    warn: &'a mut dyn FnMut(String),
    cleaner: Cleaner,
}

impl Tee<'_> {
    /// How long a part of a line waits for more before it is shown.
    fn patience(&self, shown: Instant) -> Duration {
        if self.cleaner.is_redrawn() { REDRAW.saturating_sub(shown.elapsed()) } else { IDLE }
    }

    fn pass(&mut self, raw: &[u8], text: &[u8]) {
        // The logs first: whoever reads standard output may be slow.
        self.sinks.take(raw, text, self.cleaner.pending(), self.warn);
        if !text.is_empty() {
            let written = self.output.as_mut().map(|output| output.write_all(text).and_then(|()| output.flush()));
            if let Some(Err(_)) = written {
                // Nobody reads it any more; the logs go on.
                self.output = None;
            }
        }
    }

    fn finish(&mut self) {
        self.sinks.finish(self.warn);
    }
}

/// The log files, before and after it is known that this start is a real one.
enum Sinks {
    /// So far the output may be that of a start that skips itself.
    Held {
        to: Destinations,
        skips: Vec<u8>,
        raw: Vec<u8>,
        text: Vec<u8>,
    },
    Open {
        raw: Option<Log>,
        clean: Option<Log>,
    },
}

impl Sinks {
    fn new(to: &Destinations) -> Self {
        let skips = to.name.as_ref().map_or_else(Vec::new, |name| format!("Skipping {name} startup").into_bytes());
        Self::Held { to: to.clone(), skips, raw: Vec::new(), text: Vec::new() }
    }

    fn take(&mut self, new_raw: &[u8], new_text: &[u8], pending: &[u8], warn: &mut dyn FnMut(String)) {
        if let Self::Held { to, skips, raw, text } = self {
            raw.extend_from_slice(new_raw);
            text.extend_from_slice(new_text);
            if raw.len() <= HELD_LIMIT && says_only(skips, text, pending) {
                return;
            }
            let (held_raw, held_text) = (std::mem::take(raw), std::mem::take(text));
            let mut open = |path: &Option<PathBuf>| path.as_ref().map(|path| told(Log::rotate(path), warn));
            *self = Self::Open { raw: open(&to.raw), clean: open(&to.clean) };
            self.write(&held_raw, &held_text, warn);
            return;
        }
        self.write(new_raw, new_text, warn);
    }

    fn write(&mut self, new_raw: &[u8], new_text: &[u8], warn: &mut dyn FnMut(String)) {
        let Self::Open { raw, clean } = self else { return };
        for (log, bytes) in [(raw, new_raw), (clean, new_text)] {
            let Some(log) = log.as_mut().filter(|_| !bytes.is_empty()) else { continue };
            if let Err(error) = log.write(bytes) {
                warn(format!("cannot write `{}`, going on without: {error}", log.path().display()));
            }
        }
    }

    fn finish(&mut self, warn: &mut dyn FnMut(String)) {
        let Self::Held { to, raw, text, .. } = self else { return };
        for (path, message) in [(&to.raw, &*raw), (&to.clean, &*text)] {
            let Some(path) = path.as_ref().filter(|_| !message.is_empty()) else { continue };
            let mut log = told(Log::open(path), warn);
            if let Err(error) = log.append_once(message) {
                warn(format!("cannot write `{}`: {error}", path.display()));
            }
        }
    }
}

fn told((log, opened): (Log, io::Result<()>), warn: &mut dyn FnMut(String)) -> Log {
    if let Err(error) = opened {
        warn(format!("cannot open `{}`: {error}", log.path().display()));
    }
    log
}

/// Whether every line begins with `start`, as far as it is known. (Empty lines are no news either.)
fn says_only(start: &[u8], text: &[u8], pending: &[u8]) -> bool {
    let is_start = |line: &[u8]| line.is_empty() || (!start.is_empty() && line.starts_with(start));
    let mut lines = text.split(|byte| *byte == b'\n');
    let last = lines.next_back().unwrap_or_default();
    let last = [last, pending].concat();
    lines.all(is_start) && (is_start(&last) || start.starts_with(&last))
}

fn is_readable(input: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: i64::from(patience.subsec_nanos()) };
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_of_a_skipped_start_is_held_back() {
        let start = b"Skipping app startup";
        let table: [(&[u8], &[u8], bool); 9] = [
            (b"", b"", true),
            (b"", b"Skip", true),
            (b"", b"Skipping app startup (not in", true),
            (b"Skipping app startup (not listed)\n", b"", true),
            (b"\nSkipping app startup (not listed)\n", b"", true),
            (b"Skipping app startup\nStarting\n", b"", false),
            (b"", b"Starting", false),
            (b"Skip", b"ping app", true),
            (b"Skipping other startup\n", b"", false),
        ];
        for (text, pending, expected) in table {
            let shown = text.escape_ascii();
            assert_eq!(says_only(start, text, pending), expected, "{shown} {}", pending.escape_ascii());
        }
        assert!(!says_only(b"", b"", b"anything"), "without a name nothing is a skipped start");
    }
}
