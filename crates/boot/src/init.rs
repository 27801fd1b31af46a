//! The first process of the container: it starts the sequence as its only child, and then does what only the first process can do.
//!
//! A process that is both init and parent of the stages has a dilemma: as init it must reap whatever ends, and by reaping it takes the
//! status of a child that some stage (or a library in it) waits for. Two processes have none. The sequence waits for its own children
//! alone; whatever they abandon becomes a child of this process, which reaps without looking. It also passes signals on, and ends with
//! the sequence's code. Where something else is process 1, it makes itself the subreaper and works the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, set_parent_process_death_signal,
    wait,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::pipe;

use crate::cancel::Cancel;
use crate::resident;
use crate::supervisor::STOP_GRACE;

/// What the sequence gets on top of Supervisor's time to come to an end by itself.
const MARGIN: Duration = Duration::from_secs(1);

/// How long processes get to go after SIGKILL; one that waits for a dead network volume does not go at all.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// Runs `sequence` to its end and gives its exit code; after a stop nothing that it started is left.
///
/// # Errors
/// When signals cannot be received or the sequence cannot be started.
pub fn supervise(sequence: &mut Command) -> io::Result<u8> {
    // Registered before the child exists: none of its signals can be missed.
    let mut ends = Receiver::new(signal_hook::consts::SIGCHLD)?;
    let mut term = Receiver::new(signal_hook::consts::SIGTERM)?;
    let mut int = Receiver::new(signal_hook::consts::SIGINT)?;
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
        let quiet = if settled { None } else { Some(Instant::now() + resident::SETTLED) };
        if !wait_for([&ends.0, &term.0, &int.0], deadline.or(quiet))? && deadline.is_none() {
            resident::let_go();
            settled = true;
        }
        ends.drain();
        for (receiver, signal) in [(&mut term, Signal::TERM), (&mut int, Signal::INT)] {
            if receiver.drain() {
                stop.get_or_insert_with(Instant::now);
                let _ = kill_process(child, signal);
            }
        }
    }
}

/// In the sequence: SIGTERM and SIGINT ask for the stop, and so does the end of the process above it.
///
/// # Errors
/// When they cannot be received.
pub fn listen(cancel: Cancel) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let mut signals = Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    let listener = move || {
        for signal in signals.forever() {
            cancel.fire(if signal == signal_hook::consts::SIGINT { Signal::INT } else { Signal::TERM });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listener).map(drop)
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
fn wait_for(signals: [&UnixStream; 3], deadline: Option<Instant>) -> io::Result<bool> {
    let mut ends = signals.map(|signal| PollFd::new(signal, PollFlags::IN));
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
