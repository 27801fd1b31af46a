//! The first process of the container: it starts the sequence as its only child, and then does what only the first process can do.
//!
//! A process that is both init and parent of the stages has a dilemma: as init it must reap whatever ends, and by reaping it takes the
//! status of a child that some stage (or a library in it) waits for. Two processes have none. The sequence waits for its own children
//! alone; whatever they abandon becomes a child of this process, which reaps without looking. It also passes signals on, and ends with
//! the sequence's code. Where something else is process 1, it makes itself the subreaper and works the same.
//!
//! | signal | |
//! |---|---|
//! | TERM, INT | the stop; Supervisor gets the same signal |
//! | QUIT | the stop, as TERM: images set it as their `STOPSIGNAL` |
//! | a further one of these | changes nothing: the stop takes its course, and its time is counted from the first |
//! | HUP, USR1, USR2 | nothing, as the kernel has it for process 1: a terminal that is closed must not end an instance |

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, set_parent_process_death_signal,
    wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::pipe;

use crate::cancel::Cancel;
use crate::resident;
use crate::supervisor::STOP_GRACE;

/// What the sequence gets on top of Supervisor's time to come to an end by itself.
const MARGIN: Duration = Duration::from_secs(1);

/// How long processes get to go after SIGKILL; one that waits for a dead network volume does not go at all.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// What asks for the stop, and the signal that stands for it from there on.
const STOPS: [(i32, Signal); 3] = [(SIGTERM, Signal::TERM), (SIGINT, Signal::INT), (SIGQUIT, Signal::TERM)];

/// Runs `sequence` to its end and gives its exit code; after a stop nothing that it started is left.
///
/// # Errors
/// When signals cannot be received or the sequence cannot be started.
pub fn supervise(sequence: &mut Command) -> io::Result<u8> {
    // Registered before the child exists: none of its signals can be missed.
    let mut ends = Receiver::new(SIGCHLD)?;
    let mut stops = Vec::new();
    for (asked, passed_on) in STOPS {
        stops.push((Receiver::new(asked)?, passed_on));
    }
    take_no_notice()?;
    if !is_first() {
        set_child_subreaper(Some(getpid()))?;
    }
    let child = Pid::from_child(&sequence.spawn()?);
    let mut stop: Option<Instant> = None;
    let mut settled = false;
    loop {
        if let Some(code) = reap(child) {
            if stop.is_some() {
                kill_everything();
            }
            return Ok(code);
        }
        let deadline = stop.map(|at| at + STOP_GRACE + MARGIN);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            kill_everything();
            return Ok(crate::sequence::KILLED);
        }
        let signals = std::iter::once(&ends).chain(stops.iter().map(|(receiver, _)| receiver));
        let quiet = if settled { None } else { Some(Instant::now() + resident::SETTLED) };
        if !wait_for(signals, deadline.or(quiet))? && deadline.is_none() {
            resident::let_go();
            settled = true;
        }
        ends.drain();
        for (receiver, signal) in &mut stops {
            if receiver.drain() {
                stop.get_or_insert_with(Instant::now);
                let _ = kill_process(child, *signal);
            }
        }
    }
}

/// In the sequence: SIGTERM, SIGINT and SIGQUIT ask for the stop, and so does the end of the process above it.
///
/// # Errors
/// When they cannot be received.
pub fn listen(cancel: Cancel) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    take_no_notice()?;
    let mut signals = Signals::new(STOPS.map(|(asked, _)| asked))?;
    let listener = move || {
        for signal in signals.forever() {
            let stop = STOPS.iter().find(|(asked, _)| *asked == signal);
            cancel.fire(stop.map_or(Signal::TERM, |(_, stop)| *stop));
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listener).map(drop)
}

/// Handles what would end the process and has no meaning for a boot. Not by ignoring: what is ignored stays ignored in the programs
/// that are started from here.
fn take_no_notice() -> io::Result<()> {
    for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// Whether this is process 1 of its namespace.
fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Reaps all that ended; the exit code of `child`, when it was among them.
fn reap(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => code = Some(exit_code(status)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return code,
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(0);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A signal as something that can be polled.
struct Receiver(UnixStream);

impl Receiver {
    fn new(signal: i32) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        pipe::register(signal, write)?;
        Ok(Self(read))
    }

    /// Whether the signal arrived since the last call.
    fn drain(&mut self) -> bool {
        let mut arrived = false;
        let mut buffer = [0; 64];
        while self.0.read(&mut buffer).is_ok_and(|count| count > 0) {
            arrived = true;
        }
        arrived
    }
}

/// Waits for a signal, at most until `deadline`; whether one came.
fn wait_for<'a>(signals: impl Iterator<Item = &'a Receiver>, deadline: Option<Instant>) -> io::Result<bool> {
    let mut ends: Vec<_> = signals.map(|signal| PollFd::new(&signal.0, PollFlags::IN)).collect();
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut ends, timeout.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Kills all that came from here. As process 1 the kernel does the rest when this process ends; as a subreaper it is for us to find.
fn kill_everything() {
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        let left = descendants(getpid());
        for &pid in &left {
            let _ = kill_process(pid, Signal::KILL);
        }
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(rustix::io::Errno::INTR)) {}
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        // A descendant of a killed process arrives here as our child, and is found in the next round.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All processes below `ancestor`, by what `/proc` says now.
fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor.as_raw_pid()];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(below.iter().copied().filter_map(Pid::from_raw));
        next.extend(below);
    }
    found
}

/// The parent in `/proc/<pid>/stat` (`1234 (a program) S 1 …`); the name may hold spaces and parentheses.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisor_gets_8_seconds_and_all_of_a_stop_fits_into_the_10_of_a_container() {
        assert_eq!(STOP_GRACE, Duration::from_secs(8));
        assert!(STOP_GRACE + MARGIN + KILL_WAIT < Duration::from_secs(10));
    }

    #[test]
    fn the_parent_is_found_behind_any_program_name() {
        for (stat, expected) in
            [("12 (sh) S 7 12", Some(7)), ("12 (a) b (c) R 1 1", Some(1)), ("12 (x", None), ("", None)]
        {
            assert_eq!(parent(stat), expected, "{stat}");
        }
    }

    #[test]
    fn a_grandchild_is_a_descendant() {
        let mut shell = Command::new("/bin/sh").args(["-c", "sleep 600 & wait"]).spawn().unwrap();
        let shell_pid = Pid::from_child(&shell);
        while descendants(shell_pid).is_empty() {
            std::thread::yield_now();
        }
        assert!(descendants(getpid()).contains(&shell_pid));
        for pid in descendants(shell_pid) {
            kill_process(pid, Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
