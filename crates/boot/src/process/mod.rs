//! Running programs: waiting with a limit, a stop that ends them, and output that also goes to a log.
//!
//! A child is watched by a thread that waits for its end without reaping it. The owner reaps, so a process id stays reserved for as
//! long as a signal may still be sent to it, and nobody else's wait can take the status.

mod tee;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::cancel::Cancel;
use crate::console::SharedConsole;
use crate::environment::Environment;
use crate::error::Error;
use tee::Tee;

/// What a program gets between the request to end and the end: enough for a shell's traps, little of a container stop's ten seconds.
pub const GRACE: Duration = Duration::from_secs(2);

/// The watching thread only waits; a system's default of 8 MiB would count against the container's limits.
const WATCH_STACK_BYTES: usize = 64 * 1024;

/// Where a program's output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Output {
    /// To the container's log.
    #[default]
    Console,
    /// To the container's log, and to a console that [hears](crate::console::Console::hears); a terminal stays a terminal.
    Heard,
    /// To the container's log and appended to this file.
    Log(PathBuf),
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program; one without a slash is looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub env: Environment,
    /// Its working directory.
    pub directory: PathBuf,
    /// Where its output goes.
    pub output: Output,
    /// How long it may take.
    pub limit: Option<Duration>,
}

impl Invocation {
    /// `program` with this environment, without arguments, in `/`, without a limit, writing to the container's log.
    pub fn new(program: impl Into<PathBuf>, env: Environment) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            env,
            directory: PathBuf::from("/"),
            output: Output::Console,
            limit: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets the working directory; one that is missing is replaced by `/`.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = if directory.is_dir() { directory.to_owned() } else { PathBuf::from("/") };
        self
    }
}

/// How waiting for a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It ended.
    Ended(ExitStatus),
    /// Its time was up.
    TimedOut,
    /// A stop was asked for.
    Cancelled,
}

/// What starts programs. Tests look at what is started, or start something else.
pub trait Runner {
    /// Starts a program in its own process group, without an input.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    fn start(&self, invocation: &Invocation) -> Result<Process, Error>;

    /// Runs a program to its end. One whose time is up, or that a stop finds running, is ended with its whole group.
    ///
    /// # Errors
    /// When it cannot be started.
    fn run(&self, invocation: &Invocation) -> Result<Wait, Error> {
        let mut process = self.start(invocation)?;
        let outcome = process.wait(invocation.limit);
        if !matches!(outcome, Wait::Ended(_)) {
            process.end(GRACE);
        }
        process.drain();
        Ok(outcome)
    }
}

/// Starts programs for real.
#[derive(Clone)]
pub struct SystemRunner {
    cancel: Cancel,
    console: SharedConsole,
}

impl SystemRunner {
    /// Programs end when `cancel` fires, and what goes to a log is also shown on `console`.
    #[must_use]
    pub fn new(cancel: Cancel, console: SharedConsole) -> Self {
        Self { cancel, console }
    }
}

impl Runner for SystemRunner {
    fn start(&self, invocation: &Invocation) -> Result<Process, Error> {
        let failed = |source| Error::Run { program: invocation.program.display().to_string(), source };
        let mut command = Command::new(&invocation.program);
        command
            .args(&invocation.arguments)
            .env_clear()
            .envs(invocation.env.iter())
            .current_dir(&invocation.directory)
            .stdin(Stdio::null())
            // A group of its own, so that it can be ended with everything it started, and Ctrl-C on a terminal reaches it through us.
            .process_group(0);
        let log = match &invocation.output {
            Output::Log(path) => Some(crate::files::open_log(path)?),
            Output::Console | Output::Heard => None,
        };
        let heard = || invocation.output == Output::Heard && self.console.hears() && !io::stdout().is_terminal();
        let tee = if log.is_some() || heard() {
            let (tee, writer) = Tee::start(log, self.console.clone()).map_err(failed)?;
            command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
            Some(tee)
        } else {
            None
        };
        let child = command.spawn().map_err(failed)?;
        Process::watch(child, tee, &self.cancel).map_err(failed)
    }
}

enum Event {
    Ended,
    Cancelled,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    events: Receiver<Event>,
    tee: Option<Tee>,
}

impl Process {
    fn watch(mut child: Child, tee: Option<Tee>, cancel: &Cancel) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let (sender, events) = mpsc::channel();
        let on_end = sender.clone();
        let watcher =
            std::thread::Builder::new().name("watch".to_owned()).stack_size(WATCH_STACK_BYTES).spawn(move || {
                // Without NOWAIT the status would be gone, and the id free for another process, before the owner knows.
                while matches!(
                    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT),
                    Err(rustix::io::Errno::INTR)
                ) {}
                let _ = on_end.send(Event::Ended);
            });
        if let Err(error) = watcher {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            return Err(error);
        }
        cancel.on_fire(move |_| {
            let _ = sender.send(Event::Cancelled);
        });
        Ok(Self { child, pid, events, tee })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end, at most for `limit`. After anything but [`Wait::Ended`] it still runs.
    pub fn wait(&mut self, limit: Option<Duration>) -> Wait {
        // A limit beyond what the clock can count to is none.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        match self.next(deadline) {
            Ok(Event::Ended) => Wait::Ended(self.reap()),
            Ok(Event::Cancelled) => Wait::Cancelled,
            Err(()) => Wait::TimedOut,
        }
    }

    /// Waits until `deadline` for its end alone, whatever else happens; its status if it ended.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.next(Some(deadline)) {
                Ok(Event::Ended) => return Some(self.reap()),
                Ok(Event::Cancelled) => {}
                Err(()) => return None,
            }
        }
    }

    /// Ends it and its group: TERM, `grace`, KILL.
    pub fn end(&mut self, grace: Duration) -> ExitStatus {
        let _ = kill_process_group(self.pid, Signal::TERM);
        let deadline = Instant::now() + grace;
        while let Ok(Event::Cancelled) = self.next(Some(deadline)) {}
        // Ended or not, it is not reaped: the group's id is still ours, and what ignored the TERM goes with it.
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.reap()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Waits until what it wrote is in the log. What it left running goes on writing there.
    pub fn drain(&mut self) {
        if let Some(tee) = self.tee.take() {
            tee.drain();
        }
    }

    fn next(&self, deadline: Option<Instant>) -> Result<Event, ()> {
        let Some(deadline) = deadline else { return self.events.recv().map_err(|_| ()) };
        match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(event),
            // The watcher sends before it goes, so a disconnected channel has nothing left to tell.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn reap(&mut self) -> ExitStatus {
        // Waiting for one's own unreaped child cannot fail; if it did, the child is gone and its status with it.
        self.child.wait().unwrap_or_default()
    }
}

/// How a status reads at the end of a sentence: "exited with 3", "was killed by signal 9".
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The exit code that stands for a status: a signal is 128 and its number, as in a shell.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
