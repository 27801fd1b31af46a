//! Compiling the shipped binaries ahead of time, with what processors have to spare.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use super::{Args, compilation};
use crate::process;
use crate::tools::Tools;
use crate::workspace::Workspace;

/// The lowest priority there is. What computes at an ordinary one hardly notices.
const LOWEST: i32 = 19;

/// A compilation under way. [`dist::run`](super::run) waits for its end, by Cargo's own lock, and finds its results; what
/// failed fails there once more, and is told there. One that nobody waited for ends with this value.
#[derive(Debug)]
pub(crate) struct Ahead(Child);

impl Ahead {
    /// Begins to compile what `dist::run` with [`Args::release`] will want. Its tools have to be there.
    pub(crate) fn begin(workspace: &Workspace, tools: &Tools) -> Result<Self> {
        Self::start(&mut compilation(workspace, tools, &Args::release().profile)?)
    }

    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run `{}`", process::describe(command)))?;
        // Those that it starts inherit it.
        setpriority_process(Some(Pid::from_child(&child)), LOWEST).context("cannot lower a priority")?;
        Ok(Self(child))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // zigbuild runs Cargo. Already ended is as good as ended now.
        for cargo in children(Pid::from_child(&self.0)) {
            let _ = kill_process(cargo, Signal::TERM);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpriority_process, test_kill_process};

    use super::*;

    #[test]
    fn what_is_compiled_ahead_stands_back_and_ends_with_the_value() {
        // As zigbuild does, it has a child of its own, and waits for it.
        let ahead = Ahead::start(Command::new("sh").args(["-c", "sleep 1000; exit 1"])).unwrap();
        let parent = Pid::from_child(&ahead.0);
        let child = loop {
            if let Some(&child) = children(parent).first() {
                break child;
            }
            std::thread::yield_now();
        };
        assert_eq!(getpriority_process(Some(parent)).unwrap(), LOWEST);
        drop(ahead);
        assert!(test_kill_process(parent).is_err());
        // An orphan that has ended is there until the system has reaped it.
        let ended = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        while !fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero())).map_or(true, ended) {
            std::thread::yield_now();
        }
    }
}
