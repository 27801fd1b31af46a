//! Reaping, signals and ends: as process 1, and below another one.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Signal, kill_process};

use super::harness::{Fake, SUPERVISOR, Started, children, runs, wait_for_file, wait_until};

/// Orphans a thousand processes that end at once or a little later.
const ORPHANS: &str = "for i in $(seq 1000); do (sleep 0.0$((i % 3)) & echo $! >>$OUT/orphans); done";

/// Waits until none of them is left, zombies included.
const GONE: &str = r#"
left=1000
for try in $(seq 3000); do
    left=0
    while read -r pid; do [ -d "/proc/$pid" ] && left=$((left + 1)); done <$OUT/orphans
    [ $left = 0 ] && break
    sleep 0.02
done
echo "$left of $(wc -l <$OUT/orphans)" >$OUT/left
"#;

#[test]
fn a_thousand_orphans_are_reaped_and_no_stage_loses_its_status() {
    for first in [true, false] {
        let fake = Fake::new();
        fake.stage("20-orphans.sh", ORPHANS);
        // Statuses of the stage's own children and of the stage, while orphans end.
        fake.stage(
            "21-status.sh",
            "for i in $(seq 200); do (exit 7); [ $? = 7 ] || echo stolen >>$OUT/stolen; done; exit 9",
        );
        fake.stage("22-gone.sh", GONE);
        let started = if first {
            fake.start_first(&["run", "--only", "20,21,22"])
        } else {
            fake.start(&["run", "--only", "20,21,22"])
        };
        assert_eq!(started.end().0, Some(0));
        assert_eq!(fake.read_out("left"), "0 of 1000\n", "as process 1: {first}");
        assert_eq!(fake.read_out("stolen"), "");
        assert_eq!(fake.recorded("21-status.sh"), ("failed".into(), "exited with 9".into()));
    }
}

/// Starts a boot and waits for its Supervisor.
fn up(fake: &Fake, first: bool) -> Started {
    let started = if first { fake.start_first(&["--no-cert-gen"]) } else { fake.start(&["--no-cert-gen"]) };
    wait_until("Supervisor is ready and the boot is up", || {
        fake.out("ready").exists() && !fake.path("/.provisioning").exists()
    });
    started
}

#[test]
fn a_stop_ends_supervisor_cleanly_and_the_boot_with_0() {
    for (first, signal) in [(true, Signal::TERM), (true, Signal::INT), (false, Signal::TERM)] {
        let fake = Fake::new();
        fake.supervisor(SUPERVISOR);
        let started = up(&fake, first);
        let target = if first { started.first_process() } else { started.pid() };
        kill_process(target, signal).unwrap();
        assert_eq!(started.end().0, Some(0), "as process 1: {first}");
        assert_eq!(fake.read_out("stopped"), "stopped\n");
        assert_eq!(fake.recorded("95-supervisor-wait.sh").0, "done");
    }
}

#[test]
fn a_stop_reaches_real_supervisord_and_its_programs() {
    let fake = Fake::new();
    let out = fake.out("");
    symlink("/usr/bin/supervisord", fake.path("/usr/bin/supervisord")).unwrap();
    fake.write(
        "/etc/supervisor/supervisord.conf",
        &format!(
            "[supervisord]\nlogfile={0}/supervisord.log\npidfile={0}/supervisord.pid\n[program:app]\nstartsecs=0\n\
             command=/bin/sh -c 'trap \"echo ended >>{0}/app; exit 0\" TERM; echo started >>{0}/app; while :; do sleep 0.02; done'\n",
            out.display()
        ),
    );
    let started = fake.start_first(&["--no-cert-gen"]);
    wait_until("the application runs", || fake.read_out("app") == "started\n");
    kill_process(started.first_process(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(0));
    assert_eq!(fake.read_out("app"), "started\nended\n");
}

#[test]
fn a_stop_before_supervisor_cancels_the_stage_with_all_it_started() {
    for first in [true, false] {
        let fake = Fake::new();
        fake.stage("20-long.sh", "trap 'echo trapped >$OUT/trapped' EXIT; sleep 1000 & echo $! >$OUT/pid; wait");
        fake.stage("21-never.sh", "touch $OUT/never");
        let started = if first { fake.start_first(&[]) } else { fake.start(&[]) };
        let pid = wait_for_file(&fake.out("pid"));
        let target = if first { started.first_process() } else { started.pid() };
        kill_process(target, Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(143), "as process 1: {first}");
        assert!(first || !runs(&pid));
        assert_eq!(fake.read_out("trapped"), "trapped\n");
        assert!(!fake.out("never").exists());
        assert_eq!(fake.recorded("20-long.sh").0, "cancelled");
    }
}

#[test]
fn after_a_stop_nothing_is_left_also_below_another_first_process() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    fake.stage("20-daemon.sh", "setsid sh -c 'trap \"\" TERM; echo $$ >$OUT/daemon; while :; do sleep 0.02; done' </dev/null >/dev/null 2>&1 &");
    let started = up(&fake, false);
    let daemon = wait_for_file(&fake.out("daemon"));
    assert!(runs(&daemon));
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(0));
    assert!(!runs(&daemon));
}

#[test]
fn a_first_process_that_is_killed_takes_the_sequence_and_supervisor_with_it() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    let started = up(&fake, false);
    let sequence = children(started.pid())[0].as_raw_pid().to_string();
    kill_process(started.pid(), Signal::KILL).unwrap();
    assert_eq!(started.end().0, Some(-9));
    wait_until("the sequence is gone", || !runs(&sequence));
    assert_eq!(fake.read_out("stopped"), "stopped\n");
}

#[test]
fn a_supervisor_that_ignores_the_stop_is_killed_in_time() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\ntrap '' TERM INT\ntouch $OUT/ready\nwhile :; do sleep 0.02; done\n");
    let started = up(&fake, true);
    kill_process(started.first_process(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(137));
    assert_eq!(fake.recorded("95-supervisor-wait.sh").0, "gave-up");
}

#[test]
fn a_stop_during_provisioning_stops_the_script_and_supervisor() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    let script = fake.write("/p.sh", "#!/bin/sh\necho $$ >$OUT/script; sleep 1000\n");
    let root = fake.root();
    let mut command = fake.command(super::harness::VAST_BOOT, [std::ffi::OsStr::new("--root"), root.as_os_str()]);
    command.env("PROVISIONING_SCRIPT", "/p.sh").arg("--no-cert-gen");
    let started = Started::new(&mut command);
    let pid = wait_for_file(&fake.out("script"));
    wait_until("Supervisor is ready", || fake.out("ready").exists());
    assert!(fake.path("/.provisioning").exists(), "applications wait while {} runs", script.display());
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(0));
    assert!(!runs(&pid));
    assert_eq!(fake.read_out("stopped"), "stopped\n");
    assert!(!fake.path("/.provisioning_failed").exists() && !fake.path("/.provisioning_complete").exists());
}

#[test]
fn the_status_of_a_supervisor_that_ends_by_itself_is_the_boots() {
    for (text, code) in [("exit 5", 5), ("kill -9 $$", 137)] {
        let fake = Fake::new();
        fake.supervisor(&format!("#!/bin/sh\n{text}\n"));
        assert_eq!(fake.start_first(&["--no-cert-gen"]).end().0, Some(code), "{text}");
    }
}

#[test]
fn a_container_without_supervisor_stays_up_until_it_is_stopped() {
    let fake = Fake::new();
    let started = fake.start(&["--no-cert-gen"]);
    wait_until("the boot is up", || {
        fs::read_to_string(fake.path("/run/vast/boot.json")).is_ok_and(|text| text.contains("\"up\""))
    });
    assert!(!children(started.pid()).is_empty());
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
    assert_eq!(fake.recorded("65-supervisor-launch.sh").0, "failed");
}
