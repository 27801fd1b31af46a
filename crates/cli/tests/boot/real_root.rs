//! A boot of a real `/`: this machine's files below an overlay, in namespaces of its own.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Signal, kill_process};

use super::harness::{Fake, Started, VAST_BOOT, wait_until};

/// Makes `/` an overlay whose writes go to a tmpfs, and boots it. Nothing of it is left when its last process ends.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mkdir -p "$OUT/over"
mount -t tmpfs none "$OUT/over"
mkdir "$OUT/over/upper" "$OUT/over/work" "$OUT/over/root"
mount -t overlay none -o "lowerdir=/,upperdir=$OUT/over/upper,workdir=$OUT/over/work" "$OUT/over/root"
cd "$OUT/over/root"
mount -t proc none proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs none run
mkdir -p etc/vast_boot.d etc/supervisor/conf.d opt/workspace-internal/app
rm -rf workspace root/.bashrc .provisioning* .first_boot_complete etc/instance.*
printf '[unix_http_server]\nfile=/var/run/supervisor.sock\n[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=/run/supervisord.pid\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n[supervisorctl]\nserverurl=unix:///var/run/supervisor.sock\n[program:app]\nstartsecs=0\ncommand=/bin/sh -c "touch /app-ran; exec sleep 1000"\n' >etc/supervisor/supervisord.conf
echo 'export PORTAL_CONFIG="localhost:1111:11111:/:Instance Portal"' >etc/vast_boot.d/05-app-env.sh
echo 'touch /first-boot-ran' >opt/workspace-internal/app/file
mkdir -p etc/vast_boot.d/first_boot
echo 'touch /first-boot-ran' >etc/vast_boot.d/first_boot/10-x.sh
exec chroot . "$BOOT" run
"#;

#[test]
fn a_real_system_boots_with_supervisor_and_stops_cleanly() {
    let fake = Fake::new();
    let namespaces = ["--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "sh", "-c", ENTER];
    let mut command = fake.command("unshare", namespaces);
    command.env("BOOT", VAST_BOOT).env("VAST_CONTAINERLABEL", "C.42").env("VAST_SIGN_URL", "http://127.0.0.1:1/");
    let started = Started::new(&mut command);
    let first = started.first_process();
    let inside = |path: &str| PathBuf::from(format!("/proc/{}/root{path}", first.as_raw_pid()));
    let record = || fs::read_to_string(inside("/run/vast/boot.json")).unwrap_or_default();
    wait_until("the boot is up", || record().contains("\"phase\":\"up\""));
    let environment = fs::read_to_string(inside("/etc/environment")).unwrap();
    assert!(environment.starts_with("# Template controlled environment for C.42\nPATH="), "{environment}");
    assert!(environment.contains("PORTAL_CONFIG=\"localhost:1111:11111:/:Instance Portal\""), "{environment}");
    let bashrc = fs::read_to_string(inside("/root/.bashrc")).unwrap();
    assert!(bashrc.contains("### Entrypoint setup ###") && bashrc.contains("### End entrypoint setup ###"));
    assert!(inside("/first-boot-ran").exists() && inside("/.first_boot_complete").exists());
    assert!(inside("/etc/instance.crt").exists());
    // Its programs start when it can be stopped; its socket is there before that.
    wait_until("Supervisor starts programs", || inside("/app-ran").exists() && inside("/run/supervisor.sock").exists());
    wait_until("the marker is gone", || !inside("/.provisioning").exists());
    let failed: Vec<String> = serde_json::from_str::<serde_json::Value>(&record()).unwrap()["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| ["failed", "panicked", "gave-up"].contains(&stage["outcome"].as_str().unwrap()))
        .map(ToString::to_string)
        .collect();
    assert_eq!(failed, Vec::<String>::new());
    kill_process(first, Signal::TERM).unwrap();
    let (code, said) = started.end();
    assert_eq!(code, Some(0), "{said}");
}
