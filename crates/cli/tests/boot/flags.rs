//! Each flag of deployed templates: what it changes, and that nothing else does.

use std::fs;

use super::cuda::with_gpu;
use super::harness::Fake;

/// The variables of deployed stages, in the order in which `SEE` prints them, and what they are without a flag.
const VARIABLES: [(&str, &str); 8] = [
    ("propagate_user_keys", "true"),
    ("export_env", "true"),
    ("generate_tls_cert", "true"),
    ("activate_python_environment", "true"),
    ("sync_environment", "false"),
    ("sync_home_to_workspace", "false"),
    ("update_portal", "true"),
    ("update_vast_cli", "true"),
];

/// Prints each variable that a stage sees and whether it is exported, then the variables that flags stand for.
const SEE: &str = r#"
for name in propagate_user_keys export_env generate_tls_cert activate_python_environment sync_environment sync_home_to_workspace \
            update_portal update_vast_cli; do
    printf '%s=%s%s\n' "$name" "${!name}" "$(/usr/bin/env | grep -c "^$name=" | sed 's/0//')" >>$OUT/seen
done
printf '%s=%s\n' DISABLE_FORWARD_COMPAT "$DISABLE_FORWARD_COMPAT" JUPYTER_OVERRIDE "$JUPYTER_OVERRIDE" FORCE_JUPYTER "$FORCE_JUPYTER" \
    supervisord_pid "${supervisord_pid-unset}" >>$OUT/seen
"#;

#[test]
fn each_flag_changes_its_variable_and_no_other() {
    for (flag, name, value) in [
        ("--no-user-keys", "propagate_user_keys", "false"),
        ("--no-export-env", "export_env", "false"),
        ("--no-cert-gen", "generate_tls_cert", "false"),
        ("--no-activate-pyenv", "activate_python_environment", "false"),
        ("--sync-environment", "sync_environment", "true"),
        ("--sync-home", "sync_home_to_workspace", "true"),
        ("--no-update-portal", "update_portal", "false"),
        ("--no-update-vast", "update_vast_cli", "false"),
        ("--no-forward-compat", "DISABLE_FORWARD_COMPAT", "true"),
        ("--jupyter-override", "JUPYTER_OVERRIDE", "true"),
        ("--no-force-jupyter", "FORCE_JUPYTER", "false"),
        ("--frobnicate", "", ""),
    ] {
        let fake = Fake::new();
        fake.stage("20-see.sh", SEE);
        let output = fake.run(&["run", "--only", "20", flag]);
        let expected: Vec<String> = VARIABLES
            .into_iter()
            .chain([
                ("DISABLE_FORWARD_COMPAT", ""),
                ("JUPYTER_OVERRIDE", ""),
                ("FORCE_JUPYTER", ""),
                ("supervisord_pid", ""),
            ])
            .map(|(variable, default)| format!("{variable}={}\n", if variable == name { value } else { default }))
            .collect();
        assert_eq!(fake.read_out("seen"), expected.concat(), "{flag}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.contains("ignoring the unknown flag"), name.is_empty(), "{flag}: {said}");
    }
}

#[test]
fn a_stage_may_change_what_the_flags_decided_and_sees_which_process_supervisor_is() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\necho $$ >$OUT/pid; until [ -e ${0%/usr/bin/*}/go ]; do sleep 0.01; done\n");
    fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
    fs::create_dir_all(fake.path("/home/user")).unwrap();
    fake.stage("20-changes.sh", "propagate_user_keys=false; generate_tls_cert=false");
    fake.stage(
        "70-see.sh",
        "until [ -s $OUT/pid ]; do sleep 0.01; done; echo $supervisord_pid >$OUT/seen; touch \"$GO\"",
    );
    let go = fake.path("/go").display().to_string();
    let output = fake.run_with(&[("GO", &go)], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fake.recorded("46-user-propagate-ssh-keys.sh"), ("skipped".into(), "--no-user-keys".into()));
    assert_eq!(fake.recorded("55-tls-cert-gen.sh"), ("skipped".into(), "--no-cert-gen".into()));
    assert_eq!(fake.read_out("seen"), fake.read_out("pid"));
}

#[test]
fn keys_the_environment_and_the_venv_are_left_alone_when_a_flag_says_so() {
    for with_flags in [false, true] {
        let fake = Fake::new();
        fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
        fs::create_dir_all(fake.path("/home/user")).unwrap();
        fake.write("/workspace/.env", "FROM_ENV=1\n");
        fake.stage("20-see.sh", "echo \"[$FROM_ENV]\" >$OUT/seen");
        let flags: &[&str] =
            if with_flags { &["--no-user-keys", "--no-export-env", "--no-activate-pyenv"] } else { &[] };
        fake.run(&[&["run", "--only", "10,20,45,46"], flags].concat());
        assert_eq!(fake.path("/home/user/.ssh/authorized_keys").exists(), !with_flags);
        assert_eq!(fake.read_out("seen"), if with_flags { "[]\n" } else { "[1]\n" });
        let environment = fs::read_to_string(fake.path("/etc/environment")).unwrap();
        assert!(environment.starts_with("# Template controlled environment for C."), "it is written all the same");
        let bashrc = fs::read_to_string(fake.path("/root/.bashrc")).unwrap();
        assert_eq!(bashrc.contains("/bin/activate"), !with_flags);
    }
}

#[test]
fn the_jupyter_flags_decide_what_the_portal_lists() {
    let own = "localhost:1111:11111:/:Instance Portal";
    let both = "localhost:1111:11111:/:Instance Portal|localhost:8080:18080:/:Jupyter|localhost:8080:8080:/terminals/1:Jupyter Terminal";
    let direct = "localhost:1111:11111:/:Instance Portal|localhost:8080:8080:/:Jupyter|localhost:8080:8080:/terminals/1:Jupyter Terminal";
    for (launch, given, flags, expected) in [
        (None, own, &[][..], both),
        (None, own, &["--no-force-jupyter"], own),
        (None, both, &["--no-force-jupyter"], both),
        (Some("sshd\n"), both, &[], own),
        (Some("sshd\n"), both, &["--jupyter-override"], both),
        (Some("exec jupyter notebook\n"), both, &[], direct),
        (Some("exec jupyter notebook\n"), both, &["--jupyter-override"], both),
    ] {
        let fake = Fake::new();
        if let Some(launch) = launch {
            fake.write("/.launch", launch);
        }
        fake.stage("20-see.sh", "printf %s \"$PORTAL_CONFIG\" >$OUT/seen");
        let env = [("PORTAL_CONFIG", given), ("VAST_TCP_PORT_8080", "40000")];
        fake.run_with(&env, &[&["run", "--only", "10,20"], flags].concat());
        assert_eq!(fake.read_out("seen"), expected, "{launch:?} {flags:?}");
    }
}

#[test]
fn cuda_is_set_up_with_forward_compatibility_unless_the_flag_says_no() {
    for (flags, version) in [(&[][..], "13.0"), (&["--no-forward-compat"], "12.8"), (&[], "13.0")] {
        let fake = with_gpu();
        fake.stage("20-see.sh", "echo \"$CUDA_HOME ${PATH%%:*} [$LD_LIBRARY_PATH]\" >$OUT/seen");
        let env = [("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")];
        for boot in 1..=2 {
            let output = fake.run_with(&env, &[&["run", "--only", "05,20"], flags].concat());
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(
                fake.recorded("05-configure-cuda.sh"),
                ("done".into(), format!("CUDA {version}")),
                "boot {boot}"
            );
            let link = fs::read_link(fake.path("/usr/local/cuda")).unwrap();
            assert_eq!(link.display().to_string(), format!("/usr/local/cuda-{version}"));
            assert_eq!(fake.path("/etc/vast-cuda-compat-established").exists(), version == "13.0");
            assert_eq!(fake.read_out("seen"), "/usr/local/cuda /usr/local/cuda/bin []\n", "boot {boot}");
        }
    }
    // On an instance that had it, the flag is no failure to record.
    let fake = with_gpu();
    fake.run(&["run", "--only", "05"]);
    fake.run(&["run", "--only", "05", "--no-forward-compat"]);
    assert_eq!(fake.recorded("05-configure-cuda.sh"), ("done".into(), "CUDA 12.8".into()));
    assert!(!fake.path("/run/vast-cuda-config-failed").exists() && !fake.path("/var/log/vast_boot_failures").exists());
}
