//! Plans, runs, the record and the selection.

use std::fs;

use super::harness::{Fake, SUPERVISOR, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_plan_shows_source_and_reason_and_runs_nothing() {
    let fake = Fake::new();
    fake.stage("05-app-env.sh", "touch $OUT/ran");
    fake.stage("10-prep-env.sh", "touch $OUT/ran");
    fake.stage("notes.txt", "");
    std::os::unix::fs::symlink("/dev/null", fake.path("/etc/vast_boot.d/11-log-dirs.sh")).unwrap();
    let output = fake.run(&["plan", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages: Vec<_> = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["name"].as_str().unwrap(), stage["why"].as_str().unwrap()))
        .collect();
    assert_eq!(
        stages[..4],
        [
            ("05-app-env.sh", "inserted"),
            ("05-configure-cuda.sh", "built-in"),
            ("10-prep-env.sh", "replaced"),
            ("11-log-dirs.sh", "masked")
        ]
    );
    assert!(stages.contains(&("65-supervisor-launch.sh", "built-in")));
    assert!(stages.is_sorted());
    assert_eq!(plan["ignored"][0]["name"], "notes.txt");
    assert!(!fake.out("ran").exists());
    assert!(text(&fake.run(&["plan"]).stdout).contains("05-app-env.sh"));
}

#[test]
fn a_whole_boot_runs_every_stage_in_order_and_is_recorded() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\necho \"$FROM_STAGE $(umask) $(pwd)\" >$OUT/supervisor\n[ -e \"${0%/usr/bin/*}/.provisioning\" ] && echo held >>$OUT/supervisor\nexit 0\n");
    fake.stage("05-app-env.sh", "export FROM_STAGE='a b'\nexit 3\n");
    fake.stage("70-late.sh", "umask >$OUT/umask; [ -n \"$supervisord_pid\" ] && echo seen >>$OUT/umask");
    let output = fake.run(&["--no-cert-gen", "--frobnicate=secret", "bash", "secret"]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(said.contains("ignoring the unknown flag `--frobnicate`\n") && !said.contains("secret"), "{said}");
    assert!(said.contains("05-app-env.sh: failed: exited with 3"), "{said}");
    let workspace = fs::canonicalize(fake.path("/workspace")).unwrap();
    assert_eq!(fake.read_out("supervisor"), format!("a b 0002 {}\nheld\n", workspace.display()));
    assert_eq!(fake.read_out("umask"), "0002\nseen\n");
    assert!(!fake.path("/.provisioning").exists());
    let stages: Vec<String> = fake.log().iter().map(|record| record["stage"].as_str().unwrap().to_owned()).collect();
    assert!(stages.is_sorted() && stages.len() > 12, "{stages:?}");
    assert_eq!(fake.recorded("05-app-env.sh"), ("failed".into(), "exited with 3".into()));
    assert_eq!(fake.recorded("55-tls-cert-gen.sh"), ("skipped".into(), "--no-cert-gen".into()));

    let status = fake.run(&["status", "--json"]);
    let record: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&record["phase"], &record["exit_code"]), (&"ended".into(), &0.into()));
    assert!(text(&fake.run(&["status"]).stdout).contains("05-app-env.sh"));
}

#[test]
fn status_without_a_boot_answers_no() {
    let output = Fake::new().run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no boot is recorded"));
}

#[test]
fn only_and_skip_select_and_do_not_wait_for_a_supervisor() {
    let fake = Fake::new();
    fake.stage("20-a.sh", "echo a >>$OUT/ran");
    fake.stage("21-b.sh", "echo b >>$OUT/ran");
    assert_eq!(fake.run(&["run", "--only", "20,21-b.sh"]).status.code(), Some(0));
    assert_eq!(fake.run(&["run", "--only=20-a"]).status.code(), Some(0));
    assert_eq!(fake.read_out("ran"), "a\nb\na\n");
}

#[test]
fn a_part_that_is_run_by_hand_leaves_the_record_of_the_running_boot_alone() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    let started = fake.start(&["--no-cert-gen"]);
    let phase = || {
        let status = fake.run(&["status", "--json"]);
        let record: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        (record["phase"].as_str().unwrap_or_default().to_owned(), record["stages"].as_array().map_or(0, Vec::len))
    };
    wait_until("the boot is up", || phase().0 == "up");
    let before = phase();
    assert_eq!(fake.run(&["run", "--only", "46"]).status.code(), Some(0));
    assert_eq!(phase(), before);
    assert_eq!(fake.recorded("46-user-propagate-ssh-keys.sh").0, "done");
    drop(started);
}

#[test]
fn the_flags_of_deployed_templates_reach_the_stages() {
    let fake = Fake::new();
    fake.stage("20-flags.sh", "echo $propagate_user_keys $export_env $sync_environment $JUPYTER_OVERRIDE $FORCE_JUPYTER $DISABLE_FORWARD_COMPAT >$OUT/flags");
    let flags = [
        "--no-user-keys",
        "--no-export-env",
        "--sync-environment",
        "--jupyter-override",
        "--no-force-jupyter",
        "--no-forward-compat",
    ];
    fake.run(&[&["run", "--only", "20"], &flags[..]].concat());
    assert_eq!(fake.read_out("flags"), "false false true true false true\n");
}

/// A stage as deployed images have them: strict, and asking for the flags by name, without their being in the environment.
const DEPLOYED: &str = r#"#!/bin/bash
set -euo pipefail
for flag in propagate_user_keys export_env generate_tls_cert activate_python_environment sync_environment \
    sync_home_to_workspace update_portal update_vast_cli; do
    if [[ "${!flag}" == "true" ]]; then echo "$flag on"; else echo "$flag off"; fi
    if env | grep -q "^$flag="; then echo "$flag is exported"; fi
done >"$OUT/$NAME"
if [[ "${generate_tls_cert,,}" = "true" && ! -f /nonexistent ]]; then echo certificate >>"$OUT/$NAME"; fi
if [[ -n $supervisord_pid ]]; then
    kill -0 "$supervisord_pid" && echo "supervisor runs" >>"$OUT/$NAME"
    ! env | grep -q ^supervisord_pid= || echo "supervisord_pid is exported" >>"$OUT/$NAME"
fi
"#;

#[test]
fn a_stage_of_a_deployed_image_reads_the_flags_and_what_it_changes_counts() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    fake.stage("20-early.sh", &format!("NAME=early\n{DEPLOYED}"));
    fake.stage("50-change.sh", "generate_tls_cert=false");
    fake.stage("70-late.sh", &format!("NAME=late\n{DEPLOYED}"));
    let started = fake.start(&["--no-user-keys", "--sync-home", "--no-update-vast"]);
    wait_until("the late stage ran", || fake.read_out("late").ends_with("supervisor runs\n"));
    drop(started);
    let flags = "propagate_user_keys off\nexport_env on\ngenerate_tls_cert on\nactivate_python_environment on\n\
                 sync_environment off\nsync_home_to_workspace on\nupdate_portal on\nupdate_vast_cli off\n";
    assert_eq!(fake.read_out("early"), format!("{flags}certificate\n"));
    let late = flags.replace("generate_tls_cert on", "generate_tls_cert off");
    assert_eq!(fake.read_out("late"), format!("{late}supervisor runs\n"));
    assert_eq!(fake.recorded("55-tls-cert-gen.sh"), ("skipped".into(), "--no-cert-gen".into()));
    assert_eq!(fake.recorded("46-user-propagate-ssh-keys.sh").0, "skipped");
}

#[test]
fn a_boot_that_replaces_the_sequence_gets_the_arguments_and_its_status_counts() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    fake.stage("20-never.sh", "touch $OUT/never");
    fake.write("/opt/instance-tools/bin/boot_custom.sh", "#!/bin/sh\necho \"custom $*\" >$OUT/custom; exit 6\n");
    assert!(text(&fake.run(&["plan"]).stdout).ends_with("boot_custom.sh replaces all of this\n"));
    assert_eq!(fake.run(&["--sync-home", "x"]).status.code(), Some(6));
    assert_eq!(fake.read_out("custom"), "custom --sync-home x\n");
    assert!(!fake.out("never").exists());
}

#[test]
fn secrets_of_the_environment_are_in_no_output_of_ours() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\nexit 0\n");
    let root = fake.root();
    let mut command = fake.command(super::harness::VAST_BOOT, [std::ffi::OsStr::new("--root"), root.as_os_str()]);
    command
        .env("HF_TOKEN", "hf_SECRET")
        .env("PROVISIONING_SCRIPT", "http://user:hf_SECRET@127.0.0.1:1/hf_SECRET?t=hf_SECRET#sha256=bad");
    let output = command.output().unwrap();
    let log = fs::read_to_string(fake.path("/var/log/vast_boot.jsonl")).unwrap();
    let state = fs::read_to_string(fake.path("/run/vast/boot.json")).unwrap();
    for said in [text(&output.stdout), text(&output.stderr), log, state] {
        assert!(!said.contains("hf_SECRET"), "{said}");
    }
    assert_eq!(fake.recorded("75-provisioning-script.sh").0, "failed");
}
