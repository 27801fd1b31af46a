//! A whole boot with marked secrets, real programs and stages that fail: the marks are where they belong and nowhere else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use super::guide::{BASE, IMAGES, PATH, binaries};
use super::harness::{Fake, Started, VAST_BOOT, wait_for_file};
use super::system::{Setup, System};

/// Part of every secret, whatever stands around it.
const MARK: &str = "Zq7mark";

/// `user-Zq7mark:pass-Zq7mark` in base64, as a header has it.
const BASIC: &str = "dXNlci1acTdtYXJrOnBhc3MtWnE3bWFyaw";

/// Variables whose values are secret, or have one inside.
const SECRETS: [(&str, &str); 14] = [
    ("OPEN_BUTTON_TOKEN", "open-Zq7mark"),
    ("JUPYTER_TOKEN", "jupyter-Zq7mark"),
    ("WEB_PASSWORD", "web 'Zq7mark$"),
    ("HF_TOKEN", "hf_Zq7mark"),
    ("CONTAINER_API_KEY", "api-Zq7mark"),
    ("AWS_SECRET_ACCESS_KEY", "aws-Zq7mark"),
    (
        "SSH_PRIVATE_KEY",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nZq7markZq7markZq7mark\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    // It runs, and fails.
    ("PROVISIONING_SCRIPT", "http://user-Zq7mark:pass-Zq7mark@127.0.0.1:8000/p.sh?token=query-Zq7mark"),
    // A token in the error of a stage.
    ("HOTFIX_SCRIPT", "/missing/hf_Zq7mark/hotfix.sh"),
    // Cannot be had, so the sequence runs in its place.
    ("BOOT_SCRIPT", "http://user-Zq7mark:pass-Zq7mark@127.0.0.1:8000/missing.sh?token=query-Zq7mark"),
    ("VAST_SIGN_URL", "http://user-Zq7mark:pass-Zq7mark@127.0.0.1:8000/sign?key=query-Zq7mark"),
    ("VENV_BACKUP_COUNT", "hf_Zq7mark"),
    ("VAST_SIGN_TIMEOUT", "hf_Zq7mark"),
    ("https_proxy", "http://user-Zq7mark:pass-Zq7mark@127.0.0.1:1/"),
];

/// Where each of them is by design: what shells load, and the user's keys.
const HOLDERS: [&str; 4] =
    ["etc/environment", "home/user/.ssh/authorized_keys", "root/.ssh/authorized_keys", "root/.ssh/id_ed25519"];

const PREPARE: &str = r"
mkdir -p root/.ssh home/user tmp/user
chmod 700 root root/.ssh
echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@Zq7mark' >root/.ssh/authorized_keys
echo 'Zq7mark' >root/.ssh/id_ed25519
chmod 600 root/.ssh/*
chown 1001:0 home/user
grep -q ^user: etc/passwd || echo 'user:x:1001:0::/home/user:/bin/bash' >>etc/passwd
printf '#!/bin/sh\necho at work\nsleep 0.5\nexit 5\n' >srv/scripts/p.sh
echo 'exit 3' >etc/vast_boot.d/20-fails.sh
echo 'exec false' >etc/vast_boot.d/21-is-replaced.sh
echo 'kill -9 $$' >etc/vast_boot.d/22-dies.sh
";

/// Files with the mark that the boot left, below its root.
fn holders(system: &System, fake: &Fake) -> BTreeSet<String> {
    let over = fake.out("over");
    let mut found = BTreeSet::new();
    for tree in ["upper", "root/run"] {
        let mut grep = system.enter(&["--mount"]);
        grep.args(["grep", "-r", "-l", "-a", "-s", "-D", "skip", "-e", MARK, "-e", BASIC]).arg(over.join(tree));
        let output = grep.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let inside = |path: &str| Path::new(path).strip_prefix(&over).unwrap().display().to_string();
        found.extend(text.lines().map(|path| inside(path).trim_start_matches("upper/").to_owned()));
    }
    found
}

/// The command lines of the system's processes.
fn command_lines(system: &System) -> Vec<String> {
    let processes = fs::read_dir(system.inside("/proc")).into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn marked_secrets_are_in_no_log_no_file_of_a_boot_no_command_line_and_no_output() {
    let fake = Fake::new();
    let binaries = binaries();
    let own = [("IMAGES", IMAGES), ("BINARIES", &binaries), ("PATH", PATH), ("WEB_USERNAME", "me")];
    let published = [("VAST_TCP_PORT_1111", "41111"), ("ENABLE_HTTPS", "true")];
    let env = [&own[..], &published, &SECRETS].concat();
    let prepare = format!("{BASE}{PREPARE}");
    let system = System::start(&fake, &Setup { hide: "root home", prepare: &prepare, env: &env, ..Setup::default() });
    let seen = RefCell::new(BTreeSet::new());
    let watch = || {
        for line in command_lines(&system) {
            assert!(!line.contains(MARK) && !line.contains(BASIC), "{line}");
            seen.borrow_mut().insert(line);
        }
    };
    system.until("the boot is up", || {
        watch();
        system.record().contains("\"phase\":\"up\"")
    });
    // Whoever asks, rightly or wrongly, leaves lines in Caddy's and the portal's logs.
    let ask = |arguments: &[&str]| {
        let mut curl = system.enter(&["--net"]);
        curl.args(["curl", "-sk", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let page = "https://127.0.0.1:1111/get-applications";
    system.until("Caddy and the portal serve", || {
        watch();
        ask(&["-H", "Authorization: Bearer open-Zq7mark", page]) == "200"
    });
    for (arguments, status) in [
        (&["https://127.0.0.1:1111/get-applications?token=open-Zq7mark"][..], "200"),
        (&["-u", "me:web 'Zq7mark$", page], "200"),
        (&["-u", "user-Zq7mark:pass-Zq7mark", page], "401"),
        (&["-H", "Authorization: Bearer wrong-Zq7mark", page], "401"),
        (&["-H", "Cookie: C.42_auth_token=Zq7mark", "-H", "Referer: https://x/?token=Zq7mark", page], "401"),
        (&["-d", "password=Zq7mark-wrong", "https://127.0.0.1:1111/portal-login"], "401"),
        (&["-H", "Accept: text/html", "https://127.0.0.1:1111/?token=open-Zq7mark"], "302"),
    ] {
        assert_eq!(ask(arguments), status, "{arguments:?}");
    }
    watch();

    let record: serde_json::Value = serde_json::from_str(&system.record()).unwrap();
    let outcome = |name: &str| {
        let stages = record["stages"].as_array().unwrap();
        let stage = stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("{name}: {record}"));
        stage["outcome"].as_str().unwrap().to_owned()
    };
    for (stage, expected) in [
        ("BOOT_SCRIPT", "failed"),
        ("15-hotfix.sh", "failed"),
        ("20-fails.sh", "failed"),
        ("22-dies.sh", "failed"),
        ("48-venv-backup.sh", "failed"),
        ("55-tls-cert-gen.sh", "done"),
        ("75-provisioning-script.sh", "failed"),
    ] {
        assert_eq!(outcome(stage), expected, "{stage}: {record}");
    }
    let seen = seen.into_inner();
    for program in ["supervisord", "caddy run", "vast-portal serve", "vast-boot", "/provisioning.sh"] {
        assert!(seen.iter().any(|line| line.contains(program)), "{program} was not seen in {seen:?}");
    }
    assert_eq!(holders(&system, &fake).iter().map(String::as_str).collect::<Vec<_>>(), HOLDERS);
    let reason = fs::read_to_string(system.inside("/var/log/vast_boot.jsonl")).unwrap();
    assert!(reason.contains("/missing/***/hotfix.sh"), "the error of a stage is told, without its secret: {reason}");
    let said = system.end();
    assert!(said.contains("15-hotfix.sh: failed") && said.contains("at work"), "{said}");
    assert!(!said.contains(MARK) && !said.contains(BASIC), "{said}");
}

/// The user's own file, which holds the sequence up.
const HOLDS: &str =
    "HF_TOKEN=hf_Zq7mark\nmkfifo \"$OUT/pipe\"\necho held >\"$OUT/held\"\nread -r line <\"$OUT/pipe\"\n";

#[test]
fn what_stage_10_loads_is_in_no_other_file_while_it_is_held_up_and_after_a_kill() {
    let fake = Fake::new();
    let env = [("CONTAINER_ID", "7"), ("HF_TOKEN", "hf_Zq7mark")];
    assert_eq!(fake.run_with(&env, &["run", "--only", "10"]).status.code(), Some(0));
    // What is sourced is not the file itself: its line ends have to be mended.
    fake.write("/workspace/.env", &format!("A=1\r\n{HOLDS}"));
    let written = || {
        let output = Command::new("grep").args(["-rlas", "-D", "skip", MARK]).arg(fake.root()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let below = |path: &str| Path::new(path).strip_prefix(fake.root()).unwrap().display().to_string();
        text.lines().map(below).collect::<BTreeSet<_>>()
    };
    let expected = BTreeSet::from(["etc/environment", "workspace/.env"].map(str::to_owned));
    let mut command =
        fake.command("unshare", ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", VAST_BOOT]);
    command.args(["run", "--only", "10", "--root"]).arg(fake.root()).envs(env);
    let started = Started::new(&mut command);
    wait_for_file(&fake.out("held"));
    assert_eq!(written(), expected);
    kill_process(started.first_process(), Signal::KILL).unwrap();
    assert_ne!(started.end().0, Some(0));
    assert_eq!(written(), expected);
}
