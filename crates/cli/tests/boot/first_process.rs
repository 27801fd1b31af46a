//! Reaping, signals and ends: as process 1, and below another one.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{
    Fake, SUPERVISOR, Started, VAST_BOOT, children, runs, wait_for_file, wait_until, wait_until_or_say,
};

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
fn a_stop_reaches_supervisor_as_the_signal_that_stands_for_it_and_ends_the_boot_with_0() {
    for (first, signal, arrives) in [
        (true, Signal::TERM, "TERM\n"),
        (true, Signal::INT, "INT\n"),
        (true, Signal::QUIT, "TERM\n"),
        (false, Signal::TERM, "TERM\n"),
        (false, Signal::INT, "INT\n"),
        (false, Signal::QUIT, "TERM\n"),
    ] {
        let fake = Fake::new();
        fake.supervisor(
            "#!/bin/sh\nfor signal in TERM INT QUIT HUP; do trap \"echo $signal >>\\\"$OUT/stopped\\\"; exit 0\" $signal; done\n\
             touch \"$OUT/ready\"\nwhile :; do sleep 0.02; done\n",
        );
        let started = up(&fake, first);
        let target = if first { started.first_process() } else { started.pid() };
        kill_process(target, signal).unwrap();
        assert_eq!(started.end().0, Some(0), "as process 1: {first}");
        assert_eq!(fake.read_out("stopped"), arrives, "{signal:?}, as process 1: {first}");
        assert_eq!(fake.recorded("95-supervisor-wait.sh").0, "done");
    }
}

#[test]
fn a_supervisor_that_takes_seconds_to_stop_ends_by_itself() {
    for first in [true, false] {
        let fake = Fake::new();
        // Longer than other processes get, and well within what Supervisor gets.
        fake.supervisor("#!/bin/sh\ntrap 'sleep 3; exit 7' TERM\ntouch \"$OUT/ready\"\nwhile :; do sleep 0.02; done\n");
        let started = up(&fake, first);
        kill_process(if first { started.first_process() } else { started.pid() }, Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(7), "as process 1: {first}");
    }
}

/// What is promised of the two processes of a boot that waits.
const WAITING_BYTES: u64 = 10_000_000;

/// Waits until the first process and the sequence take no more than that.
fn until_small(init: Pid) {
    let resident = |pid: Pid| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    };
    let both = [init, children(init)[0]];
    let seen = || both.map(resident);
    wait_until_or_say(
        "both processes are small",
        || format!("{:?}", seen()),
        || seen().iter().sum::<u64>() < WAITING_BYTES,
    );
}

#[test]
fn a_boot_that_waits_takes_little_memory_and_still_ends_well() {
    for first in [true, false] {
        let fake = Fake::new();
        fake.supervisor(SUPERVISOR);
        let started = up(&fake, first);
        let init = if first { started.first_process() } else { started.pid() };
        until_small(init);
        kill_process(init, Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(0));
        assert_eq!(fake.read_out("stopped"), "stopped\n");
    }
}

#[test]
fn a_boot_takes_as_little_where_a_stage_of_the_users_starts_supervisor_and_where_nothing_does() {
    let replaced = Fake::new();
    replaced.supervisor(SUPERVISOR);
    let start = "\"${BASH_SOURCE[0]%/etc/*}/usr/bin/supervisord\" >/dev/null 2>&1 & supervisord_pid=$!";
    replaced.stage("65-supervisor-launch.sh", start);
    for (fake, code) in [(replaced, 0), (Fake::new(), 143)] {
        let started = fake.start(&["--no-cert-gen"]);
        let state = fake.path("/run/vast/boot.json");
        let waits = |text: String| text.contains("95-supervisor-wait.sh") && text.contains("\"phase\":\"up\"");
        wait_until("the boot is up", || fs::read_to_string(&state).is_ok_and(waits));
        until_small(started.pid());
        kill_process(started.pid(), Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(code));
    }
}

/// Boots with the real supervisord as process 1, and waits for its one program.
fn up_with_real_supervisord(fake: &Fake) -> Started {
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
    started
}

#[test]
fn a_stop_reaches_real_supervisord_and_its_programs() {
    let fake = Fake::new();
    let started = up_with_real_supervisord(&fake);
    kill_process(started.first_process(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(0));
    assert_eq!(fake.read_out("app"), "started\nended\n");
}

#[test]
fn real_supervisord_that_crashes_ends_the_container_with_its_code() {
    for (signal, code) in [(Signal::KILL, 137), (Signal::SEGV, 139)] {
        let fake = Fake::new();
        let started = up_with_real_supervisord(&fake);
        wait_until("the boot is up", || !fake.path("/.provisioning").exists());
        let sequence = children(started.first_process())[0];
        let supervisord = children(sequence)[0];
        let application = children(supervisord)[0].as_raw_pid().to_string();
        kill_process(supervisord, signal).unwrap();
        assert_eq!(started.end().0, Some(code), "{signal:?}");
        assert!(!runs(&application));
        let (outcome, message) = fake.recorded("95-supervisor-wait.sh");
        assert_eq!(outcome, "failed");
        assert!(message.contains(&format!("was killed by signal {}", signal.as_raw())), "{message}");
    }
}

/// Sends a signal to both processes of a boot, and waits until both have taken it.
fn signal_both(first: Pid, signal: Signal) {
    for pid in [first, children(first)[0]] {
        kill_process(pid, signal).unwrap();
        wait_until("the signal has arrived", || mask(pid, "SigPnd") | mask(pid, "ShdPnd") == 0);
    }
}

/// A set of signals of a process, as `/proc` shows it: bit 0 is signal 1.
fn mask(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

#[test]
fn a_second_stop_changes_nothing() {
    for first in [true, false] {
        let fake = Fake::new();
        fake.supervisor(
            "#!/bin/sh\ntrap 'echo asked >>$OUT/asked' TERM INT QUIT\ntouch $OUT/ready\n\
             while [ ! -e $OUT/go ]; do sleep 0.02; done\necho stopped >$OUT/stopped\n",
        );
        let started = up(&fake, first);
        let target = if first { started.first_process() } else { started.pid() };
        kill_process(target, Signal::TERM).unwrap();
        wait_until("Supervisor is asked to stop", || fake.read_out("asked") == "asked\n");
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            signal_both(target, signal);
        }
        fs::write(fake.out("go"), "").unwrap();
        assert_eq!(started.end().0, Some(0), "as process 1: {first}");
        assert_eq!((fake.read_out("asked"), fake.read_out("stopped")), ("asked\n".into(), "stopped\n".into()));
    }
}

#[test]
fn a_terminal_that_closes_and_users_signals_end_nothing() {
    const MEANINGLESS: [Signal; 3] = [Signal::HUP, Signal::USR1, Signal::USR2];
    for first in [true, false] {
        let fake = Fake::new();
        fake.supervisor(&SUPERVISOR.replace("trap ", "trap 'echo seen >$OUT/seen' HUP USR1 USR2\ntrap "));
        // Before Supervisor, while a stage runs.
        fake.stage(
            "20-wait.sh",
            "echo $$ >$OUT/stage; while [ ! -e $OUT/go ]; do sleep 0.02; done; echo over >$OUT/over",
        );
        let arguments = ["--no-cert-gen"];
        let started = if first { fake.start_first(&arguments) } else { fake.start(&arguments) };
        let target = if first { started.first_process() } else { started.pid() };
        wait_for_file(&fake.out("stage"));
        for signal in MEANINGLESS {
            signal_both(target, signal);
        }
        fs::write(fake.out("go"), "").unwrap();
        wait_until("Supervisor is ready", || fake.out("ready").exists() && !fake.path("/.provisioning").exists());
        assert_eq!(fake.read_out("over"), "over\n", "as process 1: {first}");
        for signal in MEANINGLESS {
            signal_both(target, signal);
        }
        // What is started from here is free to make something of them.
        let supervisor = children(children(target)[0])[0];
        for signal in MEANINGLESS {
            assert_eq!(mask(supervisor, "SigIgn") & 1 << (signal.as_raw() - 1), 0, "{signal:?} is ignored");
        }
        kill_process(target, Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(0), "as process 1: {first}");
        assert_eq!((fake.read_out("stopped"), fake.read_out("seen")), ("stopped\n".into(), String::new()));
    }
}

/// Process 1 is a shell, as of an image that starts the boot among other things.
const BELOW_A_SHELL: &str = r#"
"$BOOT" --no-cert-gen --root "$ROOT"
echo $? >"$OUT/code"
kill -0 "$(cat "$OUT/daemon")" 2>/dev/null && echo left >"$OUT/left"
true
"#;

/// A daemon as they are made: forked twice, in a session of its own.
const DAEMON: &str = "(setsid sh -c 'echo $$ >$OUT/daemon; while :; do sleep 0.02; done' </dev/null >/dev/null 2>&1 &)";

/// Tells whether the daemon is the child of the process that the sequence is the child of.
const ADOPTED: &str = r#"
until [ -s "$OUT/daemon" ]; do sleep 0.02; done
parent() { awk '/^PPid:/ { print $2 }' "/proc/$1/status"; }
[ "$(parent "$(cat "$OUT/daemon")")" = "$(parent "$PPID")" ] && [ "$(parent "$PPID")" != 1 ] && echo adopted >"$OUT/adopted"
"#;

#[test]
fn below_a_shell_that_is_process_1_the_boot_adopts_what_is_orphaned_and_gives_its_code() {
    for (stop, code) in [(true, "0\n"), (false, "137\n")] {
        let fake = Fake::new();
        fake.supervisor(SUPERVISOR);
        fake.stage("20-daemon.sh", DAEMON);
        fake.stage("21-adopted.sh", ADOPTED);
        let namespaces = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", BELOW_A_SHELL];
        let mut command = fake.command("unshare", namespaces);
        let started = Started::new(command.env("BOOT", VAST_BOOT).env("ROOT", fake.root()));
        wait_until("Supervisor is ready and the boot is up", || {
            fake.out("ready").exists() && !fake.path("/.provisioning").exists()
        });
        let boot = children(started.first_process())[0];
        if stop {
            kill_process(boot, Signal::TERM).unwrap();
        } else {
            kill_process(children(children(boot)[0])[0], Signal::KILL).unwrap();
        }
        assert_eq!(started.end().0, Some(0), "the shell goes on after the boot");
        assert_eq!((fake.read_out("code").as_str(), fake.read_out("adopted").as_str()), (code, "adopted\n"));
        assert!(!stop || !fake.out("left").exists(), "a stop leaves nothing");
    }
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
    let first = started.first_process();
    // Asked again and again, it has no more time than asked once.
    wait_until("the container has ended", || kill_process(first, Signal::TERM).is_err());
    assert_eq!(started.end().0, Some(137));
    assert_eq!(fake.recorded("95-supervisor-wait.sh").0, "gave-up");
}

#[test]
fn a_stop_during_provisioning_stops_the_script_and_supervisor() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    let script = fake.write("/p.sh", "#!/bin/sh\necho $$ >$OUT/script; sleep 1000\n");
    let root = fake.root();
    let mut command = fake.command(VAST_BOOT, [std::ffi::OsStr::new("--root"), root.as_os_str()]);
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
    for (text, code) in [("exit 5", 5), ("exit 255", 255), ("kill -9 $$", 137), ("kill -SEGV $$", 139)] {
        let fake = Fake::new();
        fake.supervisor(&format!("#!/bin/sh\n{text}\n"));
        assert_eq!(fake.start_first(&["--no-cert-gen"]).end().0, Some(code), "{text}");
        assert_eq!(fake.start(&["--no-cert-gen"]).end().0, Some(code), "{text}, not as process 1");
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
