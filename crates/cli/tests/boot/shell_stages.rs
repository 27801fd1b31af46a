//! Shell stages: their place in the sequence, what they leave to the stages after them, and what becomes of bad ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::{Signal, kill_process};
use vast_boot::stages::BUILT_IN;

use super::harness::{Fake, VAST_BOOT, runs, wait_for_file, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What bash's glob in the C locale makes of these names.
fn globbed(names: &[String]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(directory.path().join(name), "").unwrap();
    }
    let output = Command::new("bash")
        .args(["-c", "for file in [0-9][0-9]-*.sh; do printf '%s\\n' \"$file\"; done"])
        .current_dir(directory.path())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_order_is_that_of_a_glob_byte_by_byte() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\nexit 0\n");
    let files = [
        "00-first.sh",
        "05-Zebra.sh",
        "05-_.sh",
        "05-a b.sh",
        "05-configure-cuda-after.sh",
        "05-configure-cuda.sh.sh",
        "05-my-app-env.sh",
        "05-é.sh",
        "36-sync-workspace-x.sh",
        "66-b.sh",
        "66-B.sh",
        "99-last.sh",
    ];
    for name in files {
        fake.stage(name, "printf '%s\\n' \"${BASH_SOURCE[0]##*/}\" >>$OUT/order");
    }
    let mut names: Vec<String> = files.map(str::to_owned).into();
    names.extend(BUILT_IN.iter().map(|stage| stage.name.to_owned()));
    let expected = globbed(&names);
    assert_eq!(expected.len(), names.len());
    assert_eq!(fake.run(&["--no-cert-gen"]).status.code(), Some(0));
    let ran: Vec<String> = fake.log().iter().map(|record| record["stage"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ran, expected);
    let plan: serde_json::Value = serde_json::from_slice(&fake.run(&["plan", "--json"]).stdout).unwrap();
    let planned: Vec<_> =
        plan["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(planned, expected);
    let of_files: Vec<_> = expected.iter().filter(|name| files.contains(&name.as_str())).cloned().collect();
    assert_eq!(fake.read_out("order").lines().collect::<Vec<_>>(), of_files);
}

/// A stage, how it is recorded, and what the next stage and Supervisor find in `X`; a dash where it is not set.
const STAGES: [(&str, &str, &str, &str); 21] = [
    ("export X=1", "done", "", "1"),
    ("X=1", "done", "", "-"),
    ("export X=1; exit 3", "failed", "exited with 3", "1"),
    ("export X=1; return 4; export X=2", "failed", "exited with 4", "1"),
    ("export X=1; exit", "done", "", "1"),
    ("set -e; export X=1; false; export X=2", "failed", "exited with 1", "1"),
    ("set -euo pipefail; export X=1; : $not_set", "failed", "exited with 1", "1"),
    ("f() { exit 5; }; export X=1; f; export X=2", "failed", "exited with 5", "1"),
    ("export X=1\nif then\n", "failed", "exited with 2", "1"),
    (
        "export X=1; kill -9 $$",
        "failed",
        "was killed by signal 9; its shell was replaced or killed, so what it exported is not known",
        "-",
    ),
    ("export X=1; exec true", "done", "its shell was replaced or killed, so what it exported is not known", "-"),
    ("X=(1 2)", "done", "", "-"),
    ("declare -ax X=(1 2)", "done", "", "-"),
    ("declare -Ax X=([a]=1)", "done", "", "-"),
    ("export X=$'first\\nX=2\\n\\n  last $HOME `id` \"\\n'", "done", "", "first\nX=2\n\n  last $HOME `id` \"\n"),
    ("export X=", "done", "", ""),
    ("export X=1\r\nif true; then\r\n  export X=2\r\nfi\r\n", "done", "", "2"),
    ("set -a; X=1", "done", "", "1"),
    ("export X=1; cd /; umask 077; set -f; alias printf=false; printf() { :; }; readonly X", "done", "", "1"),
    ("trap 'export X=2' EXIT; export X=1; exit 6", "failed", "exited with 6", "2"),
    ("export X=1; unset X", "done", "", "-"),
];

#[test]
fn what_a_stage_exports_reaches_later_stages_and_supervisor_however_it_ends() {
    for (stage, outcome, message, x) in STAGES {
        let fake = Fake::new();
        let write = "if [ -n \"${X+set}\" ]; then printf %s \"$X\"; else printf -; fi";
        fake.stage("20-x.sh", stage);
        fake.stage("30-see.sh", &format!("({write}) >$OUT/stage; umask >$OUT/umask; declare -p X >$OUT/declared"));
        fake.supervisor(&format!("#!/bin/bash\n({write}) >$OUT/supervisor\n"));
        assert_eq!(fake.run(&["run", "--only", "20,30,65,95"]).status.code(), Some(0), "{stage}");
        assert_eq!(fake.recorded("20-x.sh"), (outcome.to_owned(), message.to_owned()), "{stage}");
        assert_eq!(fake.read_out("stage"), x, "{stage}");
        assert_eq!(fake.read_out("supervisor"), x, "{stage}");
        assert_eq!(fake.read_out("umask"), "0002\n", "{stage}");
        assert!(!fake.read_out("declared").starts_with("declare -a"), "{stage}");
    }
}

#[test]
fn a_stage_that_hangs_is_waited_for_until_it_is_done() {
    let fake = Fake::new();
    fake.stage("20-waits.sh", "echo >$OUT/waits; until [ -e $OUT/go ]; do sleep 0.01; done; export X=went-on");
    fake.stage("30-see.sh", "echo $X >$OUT/seen");
    let started = fake.start(&["run", "--only", "20,30"]);
    wait_for_file(&fake.out("waits"));
    let record: serde_json::Value = serde_json::from_slice(&fake.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&record["stages"][0]["outcome"], &record["phase"]), (&"running".into(), &"booting".into()));
    assert!(text(&fake.run(&["status"]).stdout).contains("20-waits.sh  running"));
    fs::write(fake.out("go"), "").unwrap();
    assert_eq!(started.end().0, Some(0));
    assert_eq!((fake.recorded("20-waits.sh").0.as_str(), fake.read_out("seen").as_str()), ("done", "went-on\n"));
}

#[test]
fn a_stage_beyond_the_limit_is_ended_with_all_that_it_started() {
    let fake = Fake::new();
    let hangs = "export X=kept; (trap '' TERM; while :; do sleep 1; done) & echo $! >$OUT/pid; trap '' TERM; while :; do sleep 1; done";
    fake.stage("20-hangs.sh", hangs);
    fake.stage("first_boot/10-hangs.sh", "sleep 1000");
    fake.stage("30-see.sh", "echo $X >$OUT/seen");
    let output = fake.run_with(&[("VAST_BOOT_STAGE_TIMEOUT", "0.3")], &["run", "--only", "20,25,30"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fake.recorded("20-hangs.sh").0, "timed-out");
    assert!(fake.recorded("20-hangs.sh").1.starts_with("took longer than 0.3 s"), "{:?}", fake.recorded("20-hangs.sh"));
    assert!(text(&output.stdout).contains("20-hangs.sh: timed out: took longer than 0.3 s"));
    assert_eq!(fake.recorded("25-first-boot.sh").0, "failed");
    assert!(fake.recorded("25-first-boot.sh").1.contains("10-hangs.sh: took longer than 0.3 s"));
    assert!(!runs(&fake.read_out("pid")));
    assert_eq!(fake.recorded("30-see.sh").0, "done");
}

#[test]
fn a_limit_that_is_none_is_said_and_costs_nothing() {
    for value in ["0", "-1", "soon", "1e30", "1e400", "NaN"] {
        let fake = Fake::new();
        fake.stage("20-x.sh", "export X=1");
        fake.run_with(&[("VAST_BOOT_STAGE_TIMEOUT", value)], &["run", "--only", "20"]);
        let (outcome, message) = fake.recorded("20-x.sh");
        assert_eq!(outcome, "done", "{value}");
        assert!(message.contains("VAST_BOOT_STAGE_TIMEOUT"), "{value}: {message}");
    }
    for value in ["", " ", "60", "1e18"] {
        let fake = Fake::new();
        fake.stage("20-x.sh", "export X=1");
        fake.run_with(&[("VAST_BOOT_STAGE_TIMEOUT", value)], &["run", "--only", "20"]);
        assert_eq!(fake.recorded("20-x.sh"), ("done".into(), String::new()), "{value:?}");
    }
}

/// The arguments of `setpriv` for a root that permissions count for, as in a container without that capability.
const WITHOUT_OVERRIDE: [&str; 2] = ["--bounding-set=-dac_override,-dac_read_search", VAST_BOOT];

#[test]
fn a_file_that_cannot_be_read_fails_alone_and_one_that_need_not_be_executable_runs() {
    let fake = Fake::new();
    fake.stage("20-secret.sh", "touch $OUT/never");
    fake.stage("21-plain.sh", "echo ran >>$OUT/ran");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(fake.path("/etc/vast_boot.d").join(name), Permissions::from_mode(mode)).unwrap();
    };
    mode("20-secret.sh", 0);
    mode("21-plain.sh", 0o444);
    let run = |arguments: &[&str]| {
        let mut command = fake.command("setpriv", WITHOUT_OVERRIDE);
        command.args(arguments).arg("--root").arg(fake.root()).output().unwrap()
    };
    let plan = text(&run(&["plan"]).stdout);
    let line = plan.lines().find(|line| line.starts_with("20-secret.sh")).unwrap();
    assert!(
        line.ends_with("/etc/vast_boot.d/20-secret.sh (cannot be read: Permission denied (os error 13))"),
        "{line}"
    );
    let output = run(&["run", "--only", "20,21"]);
    assert_eq!(output.status.code(), Some(0));
    let (outcome, message) = fake.recorded("20-secret.sh");
    assert_eq!(outcome, "failed");
    assert!(message.contains("cannot read") && message.contains("Permission denied"), "{message}");
    assert_eq!((fake.recorded("21-plain.sh").0.as_str(), fake.read_out("ran").as_str()), ("done", "ran\n"));
    // Usual root reads what nobody may.
    fake.run(&["run", "--only", "20"]);
    assert_eq!(fake.recorded("20-secret.sh").0, "done");
}

#[test]
fn replaced_inserted_and_masked_stages_do_what_the_plan_says() {
    let fake = Fake::new();
    fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
    fs::create_dir_all(fake.path("/home/user")).unwrap();
    fake.stage("45-user-write-bashrc.sh", "echo replaced >>$OUT/ran\r\n");
    fake.stage("46-extra.sh", "echo inserted >>$OUT/ran");
    fake.stage("first_boot/10-once.sh", "echo once >>$OUT/ran");
    symlink("/dev/null", fake.path("/etc/vast_boot.d/46-user-propagate-ssh-keys.sh")).unwrap();
    symlink("/dev/null", fake.path("/etc/vast_boot.d/first_boot/11-masked.sh")).unwrap();
    symlink("nowhere", fake.path("/etc/vast_boot.d/47-dangling.sh")).unwrap();
    fs::create_dir(fake.path("/etc/vast_boot.d/48-directory.sh")).unwrap();
    fake.write("/etc/vast_boot.d/README.md", "");

    let plan = text(&fake.run(&["plan"]).stdout);
    let lines =
        |start: &str| plan.lines().filter(|line| line.trim_start().starts_with(start)).collect::<Vec<_>>().join("\n");
    let shown: Vec<(&str, Vec<String>)> = ["44", "45", "46-e", "46-u", "47", "48", "README", "25", "10-o", "11-m"]
        .into_iter()
        .map(|start| {
            (start, lines(start).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
        })
        .collect();
    let expected: Vec<(&str, Vec<String>)> = [
        ("44", &[][..]),
        (
            "45",
            &["45-user-write-bashrc.sh replaced /etc/vast_boot.d/45-user-write-bashrc.sh (its line ends are mended)"],
        ),
        ("46-e", &["46-extra.sh inserted /etc/vast_boot.d/46-extra.sh"]),
        ("46-u", &["46-user-propagate-ssh-keys.sh masked /etc/vast_boot.d/46-user-propagate-ssh-keys.sh"]),
        ("47", &["47-user-git-safe-dirs.sh built-in", "47-dangling.sh ignored it is not a readable file"]),
        ("48", &["48-venv-backup.sh built-in", "48-directory.sh ignored it is a directory"]),
        ("README", &["README.md ignored its name is not of the form NN-name.sh"]),
        ("25", &["25-first-boot.sh built-in", "25-first-boot.sh runs, on this boot alone:"]),
        ("10-o", &["10-once.sh inserted /etc/vast_boot.d/first_boot/10-once.sh"]),
        ("11-m", &["11-masked.sh masked /etc/vast_boot.d/first_boot/11-masked.sh"]),
    ]
    .into_iter()
    .map(|(start, lines)| (start, lines.iter().map(|line| (*line).to_owned()).collect()))
    .collect();
    assert_eq!(shown, expected);
    assert_eq!(fake.read_out("ran"), "", "a plan ran something");

    for _ in 0..2 {
        let said = text(&fake.run(&["run", "--only", "25,45,46"]).stdout);
        assert!(said.contains("ignoring /etc/vast_boot.d/47-dangling.sh: it is not a readable file"), "{said}");
    }
    // Twice, and once of it what belongs to the first boot.
    assert_eq!(fake.read_out("ran"), "once\nreplaced\ninserted\nreplaced\ninserted\n");
    assert!(!fake.path("/root/.bashrc").exists() && !fake.path("/home/user/.ssh").exists());
    assert_eq!(fake.recorded("46-user-propagate-ssh-keys.sh").0, "masked");
    let log = fake.log();
    let replaced = log.iter().find(|record| record["stage"] == "45-user-write-bashrc.sh").unwrap();
    assert_eq!(replaced["source"], "/etc/vast_boot.d/45-user-write-bashrc.sh");
    assert!(text(&fake.run(&["plan"]).stdout).contains("25-first-boot.sh ran on an earlier boot, and no more:\n"));
}

#[test]
fn first_boot_scripts_run_in_order_once_also_when_one_fails_and_their_exports_count() {
    let fake = Fake::new();
    fake.stage("first_boot/20-b.sh", "echo b $FROM_A >>$OUT/ran\r\nexport FROM_B=2\r\n");
    fake.stage("first_boot/10-a.sh", "echo a >>$OUT/ran; export FROM_A=1; exit 3");
    fake.stage("first_boot/notes.txt", "touch $OUT/never");
    fake.stage("30-see.sh", "echo \"$FROM_A$FROM_B\" >>$OUT/seen");
    for _ in 0..2 {
        assert_eq!(fake.run(&["run", "--only", "25,30"]).status.code(), Some(0));
    }
    assert_eq!((fake.read_out("ran"), fake.read_out("seen")), ("a\nb 1\n".into(), "12\n\n".into()));
    let outcomes: Vec<_> = fake
        .log()
        .iter()
        .filter(|record| record["stage"] == "25-first-boot.sh")
        .map(|record| (record["outcome"].as_str().unwrap().to_owned(), record["message"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("failed".to_owned(), "`first_boot` 10-a.sh: exited with 3".to_owned()),
            ("skipped".to_owned(), "not the first boot".to_owned())
        ]
    );
    assert!(fake.path("/.first_boot_complete").exists() && !fake.out("never").exists());
}

#[test]
fn first_boot_scripts_that_a_stop_cut_off_run_again() {
    let fake = Fake::new();
    fake.stage("first_boot/10-a.sh", "echo a >>$OUT/ran; until [ -e $OUT/go ]; do sleep 0.01; done; echo b >>$OUT/ran");
    let started = fake.start(&["run", "--only", "25"]);
    wait_until("it runs", || fake.read_out("ran") == "a\n");
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
    assert!(!fake.path("/.first_boot_complete").exists());
    fs::write(fake.out("go"), "").unwrap();
    assert_eq!(fake.run(&["run", "--only", "25"]).status.code(), Some(0));
    assert_eq!(fake.read_out("ran"), "a\na\nb\n");
}
