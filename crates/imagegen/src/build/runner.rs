//! Running other programs: one small seam, so that a build can be tested without them.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// A program and its arguments, passed as they are: no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program, looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its working directory; `None` for this program's.
    pub directory: Option<PathBuf>,
}

impl Invocation {
    /// `program` without arguments.
    #[must_use]
    pub fn new(program: &str) -> Self {
        Self { program: program.to_owned(), arguments: Vec::new(), directory: None }
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }
}

/// Runs programs.
pub trait Runner: Send + Sync {
    /// Runs a program to its end, giving each line that it prints to `line`; whether it succeeded.
    ///
    /// # Errors
    /// A program that cannot be started, or output that cannot be read.
    fn run(&self, invocation: &Invocation, line: &mut dyn FnMut(&str)) -> io::Result<bool>;

    /// Ends the programs that still run, because nobody waits for them any more; returns when they have ended, or after a
    /// while.
    fn end_all(&self) {}
}

/// How long programs get to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// Runs programs of this machine, without input, each in a process group of its own: whoever interrupts this program
/// interrupts it alone, and it ends the others in good order.
#[derive(Debug, Default)]
pub struct System {
    running: Mutex<Vec<Arc<Mutex<Child>>>>,
    ended: Condvar,
}

impl Runner for System {
    fn run(&self, invocation: &Invocation, line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(&invocation.program);
        command.args(&invocation.arguments).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        if let Some(directory) = &invocation.directory {
            command.current_dir(directory);
        }
        command.process_group(0);
        let child = Arc::new(Mutex::new(command.spawn()?));
        lock(&self.running).push(Arc::clone(&child));
        // The command holds the pipe's writing ends; without them the output ends when the program does.
        drop(command);
        let read = lines_of(BufReader::new(reader), line);
        let status = lock(&child).wait();
        lock(&self.running).retain(|running| !Arc::ptr_eq(running, &child));
        self.ended.notify_all();
        read?;
        Ok(status?.success())
    }

    fn end_all(&self) {
        let mut running = lock(&self.running);
        for signal in [Signal::TERM, Signal::KILL] {
            for child in running.iter() {
                // Held by whoever is reaping it at this moment; then it has ended.
                let Ok(child) = child.try_lock() else { continue };
                // It was not waited for, so its group is still its own; one that is gone needs no signal.
                let _ = rustix::process::kill_process_group(Pid::from_child(&child), signal);
            }
            let some_run = |running: &mut Vec<_>| !running.is_empty();
            let waited = self.ended.wait_timeout_while(running, GRACE, some_run);
            running = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lines_of(mut reader: impl BufRead, line: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    Ok(())
}

/// A lock that a panicking thread left is as good as any: what it guards is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Another program that did not do its part of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It could not be started.
    #[error("cannot run `{program}`")]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("`{program} {verb}` failed: {}", last_line(output))]
    Failed {
        /// The program.
        program: String,
        /// What it was asked to do.
        verb: String,
        /// The last lines that it printed.
        output: Vec<String>,
    },
    /// Its result is not what was asked for.
    #[error("the image that `{program}` built cannot be used: {why}")]
    BadResult {
        /// The program.
        program: String,
        /// What is wrong.
        why: String,
    },
}

impl EngineError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotStarted { program, .. } => Some(format!("install {program}, or use another --engine")),
            Self::Failed { output, .. } => advice(output).map(str::to_owned),
            Self::BadResult { .. } => None,
        }
    }
}

/// What to do about failures of `docker buildx` that have nothing to do with the Dockerfile.
fn advice(output: &[String]) -> Option<&'static str> {
    let known: [(&[&str], &str); 4] = [
        (
            &["unknown command: docker buildx", "'buildx' is not a docker command"],
            "install docker's buildx plugin (docker-buildx or docker-buildx-plugin), or use --engine buildah",
        ),
        (
            &["OCI exporter is not supported", "exporter is not supported for the docker driver"],
            "make a builder that writes archives, `docker buildx create --name NAME --driver docker-container`, and pass --builder NAME",
        ),
        (&["no builder ", "failed to find builder"], "`docker buildx ls` lists the builders that --builder can name"),
        (
            &["Cannot connect to the Docker daemon", "failed to connect to the docker API", "error during connect"],
            "start the daemon, or name a builder that runs elsewhere with --builder",
        ),
    ];
    let said = |text: &&str| output.iter().any(|line| line.contains(text));
    known.iter().find(|(texts, _)| texts.iter().any(&said)).map(|(_, advice)| *advice)
}

/// The line that says most: the last that is neither empty nor points to a manual.
fn last_line(output: &[String]) -> String {
    let is_said =
        |line: &&String| !line.trim().is_empty() && !line.starts_with("Run 'docker ") && !line.starts_with("See '");
    let line = output.iter().rev().find(is_said);
    line.map_or_else(|| "it printed nothing".to_owned(), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_errors_come_line_by_line_and_the_outcome_at_the_end() {
        let mut lines = Vec::new();
        let invocation = Invocation::new("sh").arg("-c").arg("echo one; echo two >&2; printf 'three \\377'; exit 3");
        let system = System::default();
        let succeeded = system.run(&invocation, &mut |line| lines.push(line.to_owned())).unwrap();
        assert!(!succeeded);
        assert_eq!(lines, ["one", "two", "three \u{fffd}"]);
        assert!(system.run(&Invocation::new("true"), &mut |_| {}).unwrap());
        let missing = system.run(&Invocation::new("/no/such/program"), &mut |_| {});
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_still_runs_is_ended_with_all_that_it_started() {
        let system = Arc::new(System::default());
        let (said, heard) = std::sync::mpsc::channel();
        let runs = {
            let system = Arc::clone(&system);
            std::thread::spawn(move || {
                let invocation = Invocation::new("sh").arg("-c").arg("sleep 1000 & echo ready; wait");
                system.run(&invocation, &mut |line| said.send(line.to_owned()).unwrap())
            })
        };
        assert_eq!(heard.recv().unwrap(), "ready");
        system.end_all();
        assert!(!runs.join().unwrap().unwrap(), "the sleep that held the pipe is gone as well");
    }
}
