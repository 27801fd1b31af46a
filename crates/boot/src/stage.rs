//! What a stage is, and what it works with.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use vast_gpu::cuda;

use crate::cancel::Cancel;
use crate::console::SharedConsole;
use crate::environment::Environment;
use crate::error::Error;
use crate::fetch::Retry;
use crate::flags::Flags;
use crate::process::Runner;
use crate::redact::Redactor;
use crate::root::Root;
use crate::status_page::StatusPage;
use crate::supervisor::Supervisor;

/// A stage that this program carries out.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// The name under which the directory can replace or mask it.
    pub name: &'static str,
    /// Does the work.
    pub run: fn(&mut Boot<'_>) -> Result<Verdict, Error>,
}

/// How a built-in stage ended when nothing failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did its work; perhaps there is something to say about it.
    Done(Option<String>),
    /// There was nothing to do, and why.
    Skipped(String),
    /// It chose not to do its work, and why: one line of the failures file.
    GaveUp(String),
}

impl Verdict {
    /// Done, and nothing to say.
    #[must_use]
    pub fn done() -> Self {
        Self::Done(None)
    }

    /// Done, with something to say.
    pub fn said(message: impl Into<String>) -> Self {
        Self::Done(Some(message.into()))
    }

    /// Nothing to do.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

/// A boot under way: what the stages read and change.
pub struct Boot<'a> {
    /// The tree that is booted.
    pub root: Root,
    /// The environment of the stages that come.
    pub env: Environment,
    /// The flags of the entrypoint, as the stages so far left them.
    pub flags: Flags,
    /// The working directory of the stages that come, as a path on this machine.
    pub directory: PathBuf,
    /// What runs programs.
    pub runner: &'a dyn Runner,
    /// The stop.
    pub cancel: Cancel,
    /// Where messages go.
    pub console: SharedConsole,
    /// How scripts are fetched.
    pub retry: Retry,
    /// Supervisor.
    pub supervisor: Supervisor,
    /// The page that shows how the boot stands.
    pub page: StatusPage,
    /// How CUDA was set up, once it was.
    pub cuda: Option<cuda::Plan>,
}

impl<'a> Boot<'a> {
    /// A boot of `root` with this environment, before its first stage.
    #[must_use]
    pub fn new(root: Root, env: Environment, runner: &'a dyn Runner, cancel: Cancel, console: SharedConsole) -> Self {
        let mut boot = Self {
            directory: root.path().to_owned(),
            root,
            env,
            flags: Flags::default(),
            runner,
            cancel,
            console,
            retry: Retry::default(),
            supervisor: Supervisor::default(),
            page: StatusPage::default(),
            cuda: None,
        };
        boot.env.complete();
        boot
    }

    /// Says one thing in the container's log, without secrets.
    pub fn say(&self, text: &str) {
        self.console.line(&Redactor::new(&self.env).redact(text));
    }

    /// `$WORKSPACE` on this machine.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.root.join(self.env.workspace())
    }

    /// What people call this instance: `C.1234`; empty when the platform named none.
    #[must_use]
    pub fn instance_name(&self) -> String {
        let number = self.env.instance();
        if number.is_empty() { String::new() } else { format!("C.{number}") }
    }

    /// Where what lives as long as a stage can be put.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join("/run/vast")
    }

    /// Does work that cannot be interrupted, and lets go of it when a stop comes: the process that ends then takes its locks
    /// with it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the stop came first; [`Error::Run`] when there is no thread to be had.
    pub fn interruptible<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (sender, receiver) = mpsc::channel();
        let stopped = sender.clone();
        self.cancel.on_fire(move |_| {
            let _ = stopped.send(None);
        });
        let thread = std::thread::Builder::new().name("stage".to_owned()).spawn(move || {
            let _ = sender.send(Some(catch_unwind(AssertUnwindSafe(work))));
        });
        thread.map_err(|source| Error::Run { program: "a thread".to_owned(), source })?;
        match receiver.recv() {
            Ok(Some(Ok(value))) => Ok(value),
            // The panic goes on here, where the sequence catches and records it.
            Ok(Some(Err(panic))) => resume_unwind(panic),
            Ok(None) | Err(_) => Err(Error::Cancelled),
        }
    }

    /// The limit of a shell stage, when the user set one.
    ///
    /// # Errors
    /// When the variable does not hold a number of seconds above 0.
    pub fn stage_limit(&self) -> Result<Option<Duration>, Error> {
        self.seconds(crate::env_vars::VAST_BOOT_STAGE_TIMEOUT)
    }

    /// The time that a variable holds, when it is set.
    ///
    /// # Errors
    /// When it does not hold a number of seconds above 0.
    pub fn seconds(&self, name: &'static str) -> Result<Option<Duration>, Error> {
        let Some(text) = self.env.non_empty(name) else { return Ok(None) };
        let limit = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match limit.filter(|limit| !limit.is_zero()) {
            Some(limit) => Ok(Some(limit)),
            None => Err(Error::Variable { name, expected: "a number of seconds above 0" }),
        }
    }
}
