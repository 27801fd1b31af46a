//! Supervisor: started by a stage, told of a stop, waited for.

mod programs;
mod rpc;
pub mod states;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::cancel::{Cancel, Stop};
use crate::process::{Process, Wait};
use crate::resident;

/// What Supervisor gets to stop its programs, inside the ten seconds that a container stop grants.
pub const STOP_GRACE: Duration = Duration::from_secs(8);

/// Where the configuration of the image family has it listen.
pub const SOCKET: &str = "/var/run/supervisor.sock";

/// Its configuration.
pub const CONFIG: &str = "/etc/supervisor/supervisord.conf";

/// How often a Supervisor that is not our child is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Supervisor as the sequence knows it.
#[derive(Debug, Default)]
pub enum Supervisor {
    /// No stage started it.
    #[default]
    NotStarted,
    /// The stage that should have started it could not.
    Failed,
    /// Our child.
    Child(Box<Process>, Arc<AtomicBool>),
    /// Started by a shell stage (`supervisord_pid`): nobody's child by now, so its status is not ours to know.
    Foreign(Pid),
    /// It ended.
    Ended(Option<ExitStatus>),
}

/// How waiting for Supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It ended; its status, where that can be known.
    Itself(Option<ExitStatus>),
    /// It did not end in time after a stop.
    Overdue,
    /// There was none, and the stop came.
    Stopped,
}

impl Supervisor {
    /// Takes charge of a Supervisor that was just started: a stop is passed on to it at once, whatever stage runs then.
    ///
    /// Its programs are stopped through `socket` first, all at the same time.
    #[must_use]
    pub fn child(process: Process, socket: PathBuf, cancel: &Cancel) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let (pid, still) = (process.pid(), running.clone());
        cancel.on_fire(move |stop| {
            if still.load(Ordering::Acquire) {
                // Without an answer, it stops them one by one when the signal arrives.
                let _ = programs::stop_all(&socket);
                let _ = kill_process(pid, stop.signal);
            }
        });
        Self::Child(Box::new(process), running)
    }

    /// Takes note of a Supervisor that a shell stage started.
    #[must_use]
    pub fn foreign(pid: Pid, cancel: &Cancel) -> Self {
        cancel.on_fire(move |stop| {
            let _ = kill_process(pid, stop.signal);
        });
        Self::Foreign(pid)
    }

    /// Its process id, while it is known to run.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match self {
            Self::Child(process, _) => Some(process.pid()),
            Self::Foreign(pid) => Some(*pid),
            _ => None,
        }
    }

    /// Waits for its end. After a stop, for [`STOP_GRACE`] from the moment the stop was asked for.
    pub fn wait(&mut self, cancel: &Cancel) -> End {
        let end = match self {
            Self::Child(process, running) => {
                let waited = match process.wait(Some(resident::SETTLED)) {
                    Wait::TimedOut => {
                        resident::let_go();
                        process.wait(None)
                    }
                    waited => waited,
                };
                let status = match waited {
                    Wait::Ended(status) => Some(status),
                    Wait::Cancelled | Wait::TimedOut => process.wait_until(deadline(cancel.stop())),
                };
                running.store(false, Ordering::Release);
                if status.is_none() {
                    process.signal(Signal::KILL);
                }
                status.map_or(End::Overdue, |status| End::Itself(Some(status)))
            }
            Self::Foreign(pid) => {
                let (pid, begun) = (*pid, Instant::now());
                let mut settled = false;
                loop {
                    if !settled && begun.elapsed() >= resident::SETTLED {
                        settled = true;
                        resident::let_go();
                    }
                    if test_kill_process(pid).is_err() {
                        break End::Itself(None);
                    }
                    if cancel.sleep(LOOK_AGAIN) {
                        let deadline = deadline(cancel.stop());
                        while test_kill_process(pid).is_ok() && Instant::now() < deadline {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        if test_kill_process(pid).is_ok() {
                            let _ = kill_process(pid, Signal::KILL);
                            break End::Overdue;
                        }
                    }
                }
            }
            Self::Failed => {
                if !cancel.sleep(resident::SETTLED) {
                    resident::let_go();
                }
                while !cancel.sleep(Duration::from_hours(24)) {}
                End::Stopped
            }
            Self::NotStarted => End::Stopped,
            Self::Ended(status) => End::Itself(*status),
        };
        if let End::Itself(status) = end {
            *self = Self::Ended(status);
        }
        end
    }
}

fn deadline(stop: Option<Stop>) -> Instant {
    stop.map_or_else(Instant::now, |stop| stop.at) + STOP_GRACE
}
