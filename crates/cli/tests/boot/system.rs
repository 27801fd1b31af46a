//! A boot of a real `/`: this machine's files below an overlay, in namespaces of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Fake, OVERLAID_ROOT, Started, VAST_BOOT, wait_until_or_say};

/// Prepares the overlaid root and boots it.
const ENTER: &str = r#"
ip link set lo up
mkdir -p etc/supervisor/conf.d opt/workspace-internal/app
mkdir -p root; rm -rf workspace root/.bashrc .provisioning* .first_boot_complete etc/instance.*
printf '[unix_http_server]\nfile=/var/run/supervisor.sock\n[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=/run/supervisord.pid\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n[supervisorctl]\nserverurl=unix:///var/run/supervisor.sock\n[program:app]\nstartsecs=0\ncommand=/bin/sh -c "touch /app-ran; exec sleep 1000"\n' >etc/supervisor/supervisord.conf
echo 'export PORTAL_CONFIG="localhost:1111:11111:/:Instance Portal"' >etc/vast_boot.d/05-app-env.sh
echo 'touch /first-boot-ran' >opt/workspace-internal/app/file
mkdir -p etc/vast_boot.d/first_boot
echo 'touch /first-boot-ran' >etc/vast_boot.d/first_boot/10-x.sh
eval "$PREPARE"
exec chroot . "$BOOT" run $FLAGS
"#;

/// What a system is booted with.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Directories of this machine that it does not have.
    pub(crate) hide: &'a str,
    /// Shell code that runs in the new root before the boot.
    pub(crate) prepare: &'a str,
    /// Flags of the entrypoint.
    pub(crate) flags: &'a str,
    /// The container's variables.
    pub(crate) env: &'a [(&'a str, &'a str)],
}

/// A booted system with a network of its own.
pub(crate) struct System {
    started: Started,
    first: Pid,
}

impl System {
    /// Starts a boot.
    pub(crate) fn start(fake: &Fake, setup: &Setup<'_>) -> Self {
        let namespaces = ["--mount", "--pid", "--uts", "--net", "--fork", "--mount-proc", "--kill-child", "sh", "-c"];
        let mut command = fake.command("unshare", namespaces);
        command.arg(format!("{OVERLAID_ROOT}{ENTER}"));
        command.env("BOOT", VAST_BOOT).env("VAST_CONTAINERLABEL", "C.42").env("VAST_SIGN_URL", "http://127.0.0.1:1/");
        command.env("HIDE", setup.hide).env("PREPARE", setup.prepare).env("FLAGS", setup.flags);
        let started = Started::new(command.envs(setup.env.iter().copied()));
        let first = started.first_process();
        Self { started, first }
    }

    /// Boots, and waits until that is done.
    pub(crate) fn boot(fake: &Fake, setup: &Setup<'_>) -> Self {
        let system = Self::start(fake, setup);
        system.until("the boot is up", || system.record().contains("\"phase\":\"up\""));
        system
    }

    /// Waits; shows what was said when that is in vain.
    pub(crate) fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until_or_say(what, || self.said(), condition);
    }

    /// What the console shows.
    pub(crate) fn said(&self) -> String {
        self.started.said()
    }

    /// A program inside, with the system's root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.enter(&["--mount", "--pid", "--net", "--root", "--wd"]);
        command.arg(program);
        command
    }

    /// A program of this machine in these namespaces of the system.
    pub(crate) fn enter(&self, namespaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.as_raw_pid().to_string()]).args(namespaces).arg("--");
        command
    }

    /// Where a path of the system is here. Absolute links on the way lead astray.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first.as_raw_pid()))
    }

    /// The record of this boot.
    pub(crate) fn record(&self) -> String {
        fs::read_to_string(self.inside("/run/vast/boot.json")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_failed(&self) {
        let failed: Vec<String> = serde_json::from_str::<serde_json::Value>(&self.record()).unwrap()["stages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|stage| ["failed", "panicked", "gave-up"].contains(&stage["outcome"].as_str().unwrap()))
            .map(ToString::to_string)
            .collect();
        assert_eq!(failed, Vec::<String>::new());
    }

    /// Stops it once its one program runs.
    #[track_caller]
    pub(crate) fn stop(self) {
        // Supervisor's programs start when it can be stopped; its socket is there before that.
        self.until("Supervisor starts programs", || {
            self.inside("/app-ran").exists() && self.inside("/run/supervisor.sock").exists()
        });
        self.end();
    }

    /// Stops it, and gives all that it said.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        kill_process(self.first, Signal::TERM).unwrap();
        let (code, said) = self.started.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}
