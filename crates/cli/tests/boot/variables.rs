//! The variables that a boot reads and sets, as the stages after it see them.

use std::fs;
use std::process::Command;

use super::harness::{Fake, VAST_BOOT};

#[test]
fn the_workspace_decides_what_is_not_set() {
    let root = |fake: &Fake, path: &str| fs::canonicalize(fake.path(path)).unwrap().display().to_string();
    for (env, workspace, data, hf) in [
        (&[][..], "/workspace", "/workspace", "/workspace/.hf_home"),
        (&[("WORKSPACE", "")], "/workspace", "/workspace", "/workspace/.hf_home"),
        (&[("WORKSPACE", "/data/w")], "/data/w", "/data/w", "/data/w/.hf_home"),
        (&[("DATA_DIRECTORY", "/d"), ("HF_HOME", "/h")], "/workspace", "/d", "/h"),
        (&[("WORKSPACE", "/w"), ("HF_HOME", "")], "/w", "/w", "/w/.hf_home"),
    ] {
        let fake = Fake::new();
        fake.stage("20-see.sh", "printf '%s\\n' \"$WORKSPACE\" \"$DATA_DIRECTORY\" \"$HF_HOME\" \"$PWD\" >$OUT/seen");
        assert_eq!(fake.run_with(env, &["run", "--only", "10,20"]).status.code(), Some(0));
        assert_eq!(
            fake.read_out("seen"),
            format!("{workspace}\n{data}\n{hf}\n{}\n", root(&fake, workspace)),
            "{env:?}"
        );
        let environment = fs::read_to_string(fake.path("/etc/environment")).unwrap();
        assert!(environment.contains(&format!("HF_HOME=\"{hf}\"\n")), "{environment}");
    }
}

#[test]
fn a_bare_environment_is_completed() {
    let fake = Fake::new();
    fake.stage("20-see.sh", "echo \"$PATH $HOME\" >$OUT/seen");
    let mut command = Command::new(VAST_BOOT);
    command.env_clear().env("OUT", fake.out("")).args(["run", "--only", "20", "--root"]).arg(fake.root());
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    assert_eq!(fake.read_out("seen"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root\n");
}

#[test]
fn the_file_names_its_instance_and_is_the_users_until_the_instance_is_another() {
    let fake = Fake::new();
    fake.stage("20-see.sh", "printf %s \"$EDITED\" >$OUT/seen");
    let boot = |env: &[(&str, &str)]| {
        assert_eq!(fake.run_with(env, &["run", "--only", "10,20"]).status.code(), Some(0));
        fs::read_to_string(fake.path("/etc/environment")).unwrap()
    };
    let first_line = |text: &str| text.lines().next().unwrap().to_owned();
    let text = boot(&[("VAST_CONTAINERLABEL", "C.7"), ("EDITED", "no")]);
    assert_eq!(first_line(&text), "# Template controlled environment for C.7");
    assert!(text.lines().nth(1).unwrap().starts_with("PATH=\""), "{text}");
    // The user's edits count, for this boot too, whatever the platform says, and however it names the instance.
    let edited = text.replace("EDITED=\"no\"", "EDITED=\"yes\"") + "# mine\n";
    fs::write(fake.path("/etc/environment"), &edited).unwrap();
    for env in [[("VAST_CONTAINERLABEL", "C.7"), ("EDITED", "again")], [("CONTAINER_ID", "7"), ("EDITED", "again")]] {
        assert_eq!(boot(&env), edited);
        assert_eq!(fake.read_out("seen"), "yes");
    }
    // A snapshot on another instance.
    let text = boot(&[("CONTAINER_ID", "8"), ("VAST_CONTAINERLABEL", "C.7"), ("EDITED", "no")]);
    assert_eq!(first_line(&text), "# Template controlled environment for C.8");
    assert!(text.contains("EDITED=\"no\"") && !text.contains("# mine"), "{text}");
    assert_eq!(fake.read_out("seen"), "no");
    // A file without the line.
    fs::write(fake.path("/etc/environment"), "PATH=/bin\n").unwrap();
    assert_eq!(first_line(&boot(&[("CONTAINER_ID", "8")])), "# Template controlled environment for C.8");
}

#[test]
fn what_is_written_gives_every_value_back_and_leaves_out_what_is_the_shells() {
    let values = [
        ("QUOTES", "it's \"x\" `id` $HOME \\ $(id)"),
        ("LINES", "first\nPATH=/evil\n\nlast\n"),
        ("EMPTY", ""),
        ("SPACED", "  a  b\t"),
        ("JSON", "{\"a\": [1, 'two']}"),
    ];
    let left_out = ["SHLVL", "CONDA_PREFIX", "MY_CONDA_DIR", "_", "HOME", "BASH_FUNC_f%%", "1X", "A-B"];
    let fake = Fake::new();
    let mut command = fake.command(VAST_BOOT, ["run", "--only", "10"]);
    command.arg("--root").arg(fake.root()).envs(values).envs(left_out.map(|name| (name, "v")));
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    let file = fake.path("/etc/environment");
    let text = fs::read_to_string(&file).unwrap();
    for name in left_out {
        assert!(!text.lines().any(|line| line.starts_with(&format!("{name}="))), "{name} in {text}");
    }
    for shell in ["bash", "dash"] {
        for (name, value) in values {
            let script = format!(". \"$0\"; printf '%s.' \"${name}\"");
            let output = Command::new(shell).args(["-euc", &script]).arg(&file).env_clear().output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{value}."), "{name} in {shell}");
        }
    }
}

#[test]
fn a_serverless_instance_updates_nothing_and_gets_no_jupyter() {
    for (value, updates) in [("true", "false"), ("TRUE", "false"), ("false", "true"), ("", "true")] {
        let fake = Fake::new();
        fake.stage("20-see.sh", "echo \"$update_portal $update_vast_cli $PORTAL_CONFIG\" >$OUT/seen");
        let portal = "localhost:1111:11111:/:Instance Portal";
        let env = [("SERVERLESS", value), ("PORTAL_CONFIG", portal), ("VAST_TCP_PORT_8080", "1")];
        fake.run_with(&env, &["run", "--only", "10,20"]);
        let seen = fake.read_out("seen");
        assert!(seen.starts_with(&format!("{updates} {updates} {portal}")), "{value}: {seen}");
        assert_eq!(seen.contains("Jupyter"), updates == "true", "{value}: {seen}");
    }
}

#[test]
fn thread_pools_are_limited_by_the_quota_where_processes_are_scarce() {
    let fake = Fake::new();
    fake.write("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-255\n");
    fake.write("/proc/self/cgroup", "0::/\n");
    fake.write("/sys/fs/cgroup/cpu.max", "760000 100000\n");
    fake.write("/sys/fs/cgroup/pids.max", "2048\n");
    fake.write("/workspace/.env", "MKL_NUM_THREADS=3\n");
    let names = [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMEXPR_MAX_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
    ];
    fake.stage("20-see.sh", &format!("printf '%s ' {} >$OUT/seen", names.map(|name| format!("\"${name}\"")).join(" ")));
    let stages = ["run", "--only", "10,12,20"];
    fake.run_with(&[("RAYON_NUM_THREADS", "5")], &stages);
    assert_eq!(fake.read_out("seen"), "8 8 3 8 8 8 5 8 ");
    let text = fs::read_to_string(fake.path("/etc/environment")).unwrap();
    let block =
        text.split_once("# VAST_CPU_THREAD_CAPS_BEGIN ").unwrap().1.split_once("# VAST_CPU_THREAD_CAPS_END").unwrap().0;
    assert_eq!(block.lines().skip(1).count(), 6, "{text}");
    // A lower ceiling; what the file said before is no choice of the user's.
    fake.run_with(&[("RAYON_NUM_THREADS", "5"), ("VAST_CPU_THREAD_CEILING", "6")], &stages);
    assert_eq!(fake.read_out("seen"), "6 6 3 6 6 6 5 6 ");
    fake.run_with(&[("VAST_CPU_THREAD_CEILING", "none")], &stages);
    assert_eq!(fake.read_out("seen"), "8 8 3 8 8 8 5 8 ");
    // Processes enough: the block goes, and its values with it.
    fake.write("/sys/fs/cgroup/pids.max", "max\n");
    fake.run_with(&[], &stages);
    assert_eq!(fake.read_out("seen"), "  3    5  ");
    assert!(!fs::read_to_string(fake.path("/etc/environment")).unwrap().contains("VAST_CPU_THREAD_CAPS"));
}
