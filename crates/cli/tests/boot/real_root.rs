//! A boot of a real `/`: this machine's files below an overlay, in namespaces of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Fake, OVERLAID_ROOT, Started, VAST_BOOT, wait_until};

/// Prepares the overlaid root and boots it.
const ENTER: &str = r#"
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

/// A booted system, up.
struct System {
    started: Started,
    first: Pid,
}

impl System {
    /// Boots without those directories of this machine, after that shell command in the new root, with those flags.
    fn boot(fake: &Fake, hide: &str, prepare: &str, flags: &str) -> Self {
        let namespaces = ["--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "sh", "-c"];
        let mut command = fake.command("unshare", namespaces);
        command.arg(format!("{OVERLAID_ROOT}{ENTER}"));
        command.env("BOOT", VAST_BOOT).env("VAST_CONTAINERLABEL", "C.42").env("VAST_SIGN_URL", "http://127.0.0.1:1/");
        command.env("HIDE", hide).env("PREPARE", prepare).env("FLAGS", flags);
        let started = Started::new(&mut command);
        let first = started.first_process();
        let system = Self { started, first };
        wait_until("the boot is up", || system.record().contains("\"phase\":\"up\""));
        system
    }

    /// Where a path of the system is here. Absolute links on the way lead astray.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first.as_raw_pid()))
    }

    fn record(&self) -> String {
        fs::read_to_string(self.inside("/run/vast/boot.json")).unwrap_or_default()
    }

    #[track_caller]
    fn assert_nothing_failed(&self) {
        let failed: Vec<String> = serde_json::from_str::<serde_json::Value>(&self.record()).unwrap()["stages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|stage| ["failed", "panicked", "gave-up"].contains(&stage["outcome"].as_str().unwrap()))
            .map(ToString::to_string)
            .collect();
        assert_eq!(failed, Vec::<String>::new());
    }

    #[track_caller]
    fn stop(self) {
        // Supervisor's programs start when it can be stopped; its socket is there before that.
        let runs = || self.inside("/app-ran").exists() && self.inside("/run/supervisor.sock").exists();
        wait_until("Supervisor starts programs", runs);
        kill_process(self.first, Signal::TERM).unwrap();
        let (code, said) = self.started.end();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_real_system_boots_with_supervisor_and_stops_cleanly() {
    let fake = Fake::new();
    let system = System::boot(&fake, "", "true", "");
    let inside = |path: &str| system.inside(path);
    let environment = fs::read_to_string(inside("/etc/environment")).unwrap();
    assert!(environment.starts_with("# Template controlled environment for C.42\nPATH="), "{environment}");
    assert!(environment.contains("PORTAL_CONFIG=\"localhost:1111:11111:/:Instance Portal\""), "{environment}");
    let bashrc = fs::read_to_string(inside("/root/.bashrc")).unwrap();
    assert!(bashrc.contains("### Entrypoint setup ###") && bashrc.contains("### End entrypoint setup ###"));
    assert!(inside("/first-boot-ran").exists() && inside("/.first_boot_complete").exists());
    assert!(inside("/etc/instance.crt").exists());
    wait_until("the marker is gone", || !inside("/.provisioning").exists());
    system.assert_nothing_failed();
    system.stop();
}

/// Homes and something of an environment, without what this machine has there.
const HOMES: &str = r"
mkdir -p root/.ssh home/user opt/nvm/versions
chmod 700 root root/.ssh
echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 key' >root/.ssh/authorized_keys
echo started >root/onstart.sh
chown 1001:0 home/user
grep -q ^user: etc/passwd || echo 'user:x:1001:0::/home/user:/bin/bash' >>etc/passwd
echo real >.env_hash
";

#[test]
fn homes_and_environments_of_a_real_system_move_and_the_stages_after_find_them_there() {
    let fake = Fake::new();
    let system = System::boot(&fake, "root home", HOMES, "--sync-home --sync-environment");
    system.assert_nothing_failed();
    for (path, target) in [
        ("/root", "/workspace/home/root"),
        ("/home/user", "/workspace/home/user"),
        ("/opt/nvm", "/workspace/.environment_sync/real/nvm"),
        ("/workspace/home/root/.ssh", "/home_ssh/root/.ssh"),
        ("/workspace/home/user/.ssh", "/home_ssh/user/.ssh"),
        ("/workspace/home/root/onstart.sh", "/onstart.sh"),
    ] {
        assert_eq!(fs::read_link(system.inside(path)).unwrap(), Path::new(target), "{path}");
    }
    // Stage 45 wrote through the link, and stage 46 into the place that stays in the container.
    for home in ["root", "user"] {
        let bashrc = fs::read_to_string(system.inside(&format!("/workspace/home/{home}/.bashrc"))).unwrap();
        assert!(bashrc.contains("### Entrypoint setup ###"), "{home}: {bashrc}");
        let keys = fs::metadata(system.inside(&format!("/home_ssh/{home}/.ssh/authorized_keys"))).unwrap();
        assert_eq!((keys.mode() & 0o777, keys.uid()), (0o600, if home == "root" { 0 } else { 1001 }), "{home}");
    }
    assert_eq!(fs::read_to_string(system.inside("/onstart.sh")).unwrap(), "started\n");
    let mark = fs::read_to_string(system.inside("/workspace/home/.synced")).unwrap();
    assert!(mark.contains("instance C.42\n"), "{mark}");
    system.stop();
}
