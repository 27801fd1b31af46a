//! Running the binary.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::Value;

/// The binary, with an environment of its own.
pub(crate) fn vast_sync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vast-sync"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
    command
}

/// `vast-sync workspace` from `<root>/internal` to `<root>/workspace`.
pub(crate) fn workspace(root: &Path) -> Command {
    let mut command = vast_sync();
    command.arg("workspace").arg("--source").arg(root.join("internal"));
    command.arg("--workspace").arg(root.join("workspace"));
    command
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) killed: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            killed: output.status.signal() == Some(9),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Run {
    command.output().unwrap().into()
}

/// Runs to the end, which must be a good one.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> Run {
    let run = run(command);
    assert_eq!(run.code, Some(0), "{run:#?}");
    run
}

impl Run {
    /// The JSON object of that event, of which there must be one.
    #[track_caller]
    pub(crate) fn event(&self, wanted: &str) -> Value {
        let mut found = self.events(wanted);
        assert_eq!(found.len(), 1, "{wanted}: {self:#?}");
        found.remove(0)
    }

    /// The JSON objects of that event.
    pub(crate) fn events(&self, wanted: &str) -> Vec<Value> {
        let events = self.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == wanted).collect()
    }

    /// What became of an item, from the report.
    #[track_caller]
    pub(crate) fn outcome(&self, item: &str) -> String {
        let done = self.event("done");
        let items = done["items"].as_array().unwrap();
        let item = items.iter().find(|entry| entry["name"] == item).unwrap_or_else(|| panic!("{item}: {self:#?}"));
        item["outcome"].as_str().unwrap().to_owned()
    }
}

/// Runs another program, which must succeed, and returns what it printed.
#[track_caller]
pub(crate) fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program}: {output:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a process has stopped itself.
#[track_caller]
pub(crate) fn wait_until_stopped(child: &Child) -> Pid {
    let pid = Pid::from_child(child);
    let status = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap().1;
    assert!(status.stopped(), "{status:?}");
    pid
}
