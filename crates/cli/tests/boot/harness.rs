//! Fake roots and the processes that boot them.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const VAST_BOOT: &str = env!("CARGO_BIN_EXE_vast-boot");

/// Only for a test that hangs: far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a container runtime grants before it kills.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A Supervisor that says when it is ready, and ends well on SIGTERM.
pub(crate) const SUPERVISOR: &str = "#!/bin/sh\ntrap 'echo stopped >\"$OUT/stopped\"; exit 0' TERM INT\ntouch \"$OUT/ready\"\nwhile :; do sleep 0.02; done\n";

/// Makes this machine's `/`, without what `$HIDE` names, an overlay whose writes go to a tmpfs, and the working directory. Nothing of it
/// is left when the last process of its namespaces ends.
pub(crate) const OVERLAID_ROOT: &str = r#"
set -e
mount --make-rprivate /
mkdir -p "$OUT/over"
mount -t tmpfs none "$OUT/over"
mkdir "$OUT/over/upper" "$OUT/over/work" "$OUT/over/root"
for hidden in $HIDE; do mkdir -p "$(dirname "$OUT/over/upper/$hidden")"; mknod "$OUT/over/upper/$hidden" c 0 0; done
mount -t overlay none -o "lowerdir=/,upperdir=$OUT/over/upper,workdir=$OUT/over/work" "$OUT/over/root"
cd "$OUT/over/root"
mount -t proc none proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs none run
mkdir -p etc/vast_boot.d
"#;

/// A directory that is booted, with a place (`$OUT`) for what its stages tell.
pub(crate) struct Fake {
    directory: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let fake = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["root/etc/vast_boot.d", "root/var/log", "root/root", "root/usr/bin", "out"] {
            fs::create_dir_all(fake.directory.path().join(directory)).unwrap();
        }
        fake
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.directory.path().join("out").join(name)
    }

    pub(crate) fn read_out(&self, name: &str) -> String {
        fs::read_to_string(self.out(name)).unwrap_or_default()
    }

    /// Writes a file of the root, executable.
    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn stage(&self, name: &str, text: &str) {
        self.write(&format!("/etc/vast_boot.d/{name}"), text);
    }

    pub(crate) fn supervisor(&self, text: &str) {
        self.write("/usr/bin/supervisord", text);
    }

    /// `vast-boot` with these arguments, on this root, in a container's environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", "/root").env("OUT", self.directory.path().join("out")).stdin(Stdio::null());
        command
    }

    /// Runs `vast-boot` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let root = self.root();
        let arguments = arguments.iter().map(OsStr::new).chain([OsStr::new("--root"), root.as_os_str()]);
        self.command(VAST_BOOT, arguments).output().unwrap()
    }

    /// Runs `vast-boot` to its end with these variables too.
    pub(crate) fn run_with(&self, env: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = self.command(VAST_BOOT, arguments);
        command.arg("--root").arg(self.root()).envs(env.iter().copied()).output().unwrap()
    }

    /// Starts `vast-boot` as an ordinary process.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        let mut command = self.command(VAST_BOOT, arguments);
        command.arg("--root").arg(self.root());
        Started::new(&mut command)
    }

    /// Starts `vast-boot` as process 1 of a PID and a mount namespace.
    pub(crate) fn start_first(&self, arguments: &[&str]) -> Started {
        let mut command =
            self.command("unshare", ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", VAST_BOOT]);
        command.args(arguments).arg("--root").arg(self.root());
        Started::new(&mut command)
    }

    /// The records of all boots.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("/var/log/vast_boot.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Outcome and message of a stage in the last boot that ran it.
    pub(crate) fn recorded(&self, stage: &str) -> (String, String) {
        let log = self.log();
        let record = log.iter().rev().find(|record| record["stage"] == stage);
        let record = record.unwrap_or_else(|| panic!("{stage} is not recorded in {log:?}"));
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        (text("outcome"), text("message"))
    }
}

/// A running boot. It does not outlive the test.
pub(crate) struct Started {
    child: Child,
    output: Told,
    errors: Told,
}

impl Started {
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Told::by(child.stdout.take().unwrap());
        let errors = Told::by(child.stderr.take().unwrap());
        Self { child, output, errors }
    }

    /// What it said so far: standard output, then standard error.
    pub(crate) fn said(&self) -> String {
        self.output.text() + &self.errors.text()
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The only child of the process that was started: process 1 of the namespace.
    pub(crate) fn first_process(&self) -> Pid {
        let pid = self.pid();
        let mut found = None;
        wait_until("the namespace has a process", || {
            found = children(pid).first().copied();
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for the end; exit code and output.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the boot did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().unwrap();
        self.output.end();
        (status.code().or(status.signal().map(|signal| -signal)), self.output.text())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A stop, as a container runtime asks for it, so that what runs below goes too.
        for pid in children(self.pid()).into_iter().chain([self.pid()]) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a process writes, read all the time: a boot must not wait for its reader.
struct Told {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Told {
    fn by(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let told = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                told.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    /// Waits until every writer is gone.
    fn end(&mut self) {
        self.reader.take().unwrap().join().unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// The children of a process.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_pid();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Waits until `condition` holds, as long as that is conceivable.
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_or_say(what, String::new, condition);
}

/// As [`wait_until`], with more to say when it was in vain.
pub(crate) fn wait_until_or_say(what: &str, say: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}\n{}", say());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a file is there and not empty, and reads it.
pub(crate) fn wait_for_file(path: &Path) -> String {
    let mut text = String::new();
    wait_until(&format!("{} is written", path.display()), || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text
}

/// Whether a process runs (a zombie does not).
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
