//! An unpacked image booted as a container engine does it: overlay root, fresh PID, mount, UTS and IPC namespaces.
//!
//! A test's container has a network namespace of its own, in which loopback is up: the fixed ports of the image
//! family do not collide. The demo's container uses the machine's network, so that its pages can be opened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use crate::images::Unpacked;
use crate::program;

/// Prepares the namespaces and becomes the container's first process. Its arguments: lower, upper, work, merged, volumes,
/// what to prepare, then the entrypoint and its arguments; its environment is the container's.
const SET_UP: &str = include_str!("set-up-container.sh");

/// How a container is booted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Variables beside the image's own; the same name replaces the image's value.
    pub environment: BTreeMap<String, String>,
    /// Arguments for the entrypoint.
    pub arguments: Vec<String>,
    /// Use the machine's network instead of a namespace with loopback alone.
    pub host_network: bool,
    /// Folders bound into the container: (outside, inside).
    pub volumes: Vec<(PathBuf, String)>,
    /// Shell commands that run in the container's root, as working directory, before anything of the container does: files
    /// that the platform puts there, mounts.
    pub prepare: String,
}

/// A running container; whatever is left of it ends when this value is dropped.
#[derive(Debug)]
pub struct Container {
    unshare: Child,
    init: Pid,
    /// Its root, seen from outside, is only visible in its mount namespace; the writable layer is here.
    pub upper: PathBuf,
    log: PathBuf,
}

impl Container {
    /// Boots `image` on a writable layer below `folder`. A folder used before is a reboot: what was written is there.
    ///
    /// # Errors
    /// When the namespaces cannot be made.
    pub fn boot(image: &Unpacked, folder: &Path, options: &Options) -> Result<Self> {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| folder.join(name));
        for path in [&upper, &work, &merged] {
            fs::create_dir_all(path)?;
        }
        // A pipe, as an engine gives: whoever opens `/dev/stdout` anew must not write over what others wrote.
        let log = folder.join("console.log");
        let mut file = File::options().create(true).append(true).open(&log)?;
        let (mut printed, console) = std::io::pipe()?;
        std::thread::spawn(move || std::io::copy(&mut printed, &mut file));
        let mut command = Command::new("setpriv");
        // The container ends with the process that booted it, and a Ctrl-C at a terminal reaches that process alone.
        command.args(["--pdeathsig", "KILL", "unshare"]).process_group(0);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]);
        if !options.host_network {
            command.arg("--net");
        }
        let volumes: Vec<String> =
            options.volumes.iter().map(|(outside, inside)| format!("{}\t{inside}", outside.display())).collect();
        command
            .args(["bash", "-c", SET_UP, "set-up-container"])
            .args([&image.rootfs, &upper, &work, &merged])
            .arg(volumes.join("\n"))
            .arg(&options.prepare)
            .args(&image.arguments)
            .args(&options.arguments)
            .env_clear()
            .envs(image.environment.iter().filter_map(|entry| entry.split_once('=')))
            .envs(&options.environment)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        let unshare = command.spawn().context("cannot start `unshare`")?;
        let init = wait_for_child(&unshare)?;
        Ok(Self { unshare, init, upper, log })
    }

    /// The first process, as seen from outside.
    #[must_use]
    pub fn init(&self) -> Pid {
        self.init
    }

    /// What the container's console printed so far.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A file of the container, as its processes see it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.init.as_raw_nonzero().to_string())
            .join("root")
            .join(inside.trim_start_matches('/'))
    }

    /// A command that will run inside all of the container's namespaces, with its root.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.enter(&["--mount", "--pid", "--uts", "--ipc", "--net", "--root", "--wd"]);
        command.arg(program);
        command
    }

    /// A command of this machine that will run in the container's network alone: a visitor of its ports.
    #[must_use]
    pub fn visitor(&self, program: &str) -> Command {
        let mut command = self.enter(&["--net"]);
        command.arg(program);
        command
    }

    fn enter(&self, namespaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.as_raw_nonzero().to_string()]).args(namespaces).arg("--");
        command
    }

    /// Sends a signal to the first process, as a container engine's stop does.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.init, signal).context("cannot signal the container")
    }

    /// Waits for the end of the container, and returns the status of its first process.
    ///
    /// # Errors
    /// When it has not ended within `limit`; the error shows the console.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.unshare.try_wait()? {
                return Ok(status);
            }
            self.pause(deadline, "the container has not ended")?;
        }
    }

    /// Polls until `probe` gives a value. A container that ended meanwhile is an error, as is the end of `limit`.
    ///
    /// # Errors
    /// With the end of the console, so that a failed test shows why.
    pub fn until<T>(&mut self, what: &str, limit: Duration, mut probe: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = probe(self) {
                return Ok(value);
            }
            if let Some(status) = self.unshare.try_wait()? {
                bail!("waiting until {what}: the container ended with {status}\n{}", program::end_of(&self.console()));
            }
            self.pause(deadline, &format!("not within {limit:?}: {what}"))?;
        }
    }

    fn pause(&self, deadline: Instant, overdue: &str) -> Result<()> {
        if Instant::now() > deadline {
            bail!("{overdue}\n{}", program::end_of(&self.console()));
        }
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // `--kill-child` ends the first process, and with it everything in its PID namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The one child of `unshare`, which is the first process of the container.
fn wait_for_child(unshare: &Child) -> Result<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(&children).context("`unshare` ended at once")?;
        let child = text.split_whitespace().next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = child {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            bail!("`unshare` has started no process");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
