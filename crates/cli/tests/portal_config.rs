//! `vast-portal config`, `port` and `listed`, as scripts and people call them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:My App";

const FILE: &str = "\
applications:
  Edited:
    hostname: localhost
    external_port: 17861
    internal_port: 7861
    open_path: /
    name: Edited
";

/// The binary in an empty environment, about an instance under `root`.
fn portal(root: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vast-portal"));
    command.env_clear().arg(subcommand).arg("--root").arg(root);
    command
}

fn instance(file: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    if let Some(file) = file {
        fs::write(root.path().join("etc/portal.yaml"), file).unwrap();
    }
    root
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&command.arg("--json").assert().get_output().stdout).unwrap()
}

#[test]
fn config_prints_a_table_resolved_against_the_published_ports() {
    let root = instance(None);
    let mut command = portal(root.path(), "config");
    command.env("PORTAL_CONFIG", CONFIG).env("VAST_TCP_PORT_1111", "40000");
    let expected = "\
LABEL            HOST       INTERNAL  EXTERNAL  PROXIED  PATH
Instance Portal  localhost  11111     1111      yes      /
My App           localhost  7860      17860     no       /
";
    command.assert().success().stdout(expected).stderr("");
}

#[test]
fn config_prints_the_agreed_json() {
    let root = instance(None);
    let mut command = portal(root.path(), "config");
    command.env("VAST_TCP_PORT_17860", "40000").arg("localhost:7860:17860:/ui:My App|localhost:x:1:/:Bad");
    assert_eq!(
        json(&mut command),
        json!({
            "applications": [
                {"label": "My App", "host": "localhost", "internal_port": 7860, "external_port": 17860, "path": "/ui", "proxied": true}
            ],
            "warnings": ["entry 2 `localhost:x:1:/:Bad` is left out: internal port `x` is not a number from 1 to 65535"],
            "errors": [
                {"entry": 2, "span": {"start": 42, "end": 43}, "message": "internal port `x` is not a number from 1 to 65535"}
            ]
        })
    );
}

#[test]
fn config_prefers_the_value_then_the_variable_then_the_file() {
    let root = instance(Some(FILE));
    let label = |command: &mut Command| json(command)["applications"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!(label(&mut portal(root.path(), "config")), "Edited");
    assert_eq!(label(portal(root.path(), "config").env("PORTAL_CONFIG", "")), "Edited");
    assert_eq!(label(portal(root.path(), "config").env("PORTAL_CONFIG", CONFIG)), "Instance Portal");
    assert_eq!(label(portal(root.path(), "config").env("PORTAL_CONFIG", CONFIG).arg("localhost:1:2:/:Given")), "Given");
}

#[test]
fn config_is_lenient_unless_told_to_be_strict() {
    let root = instance(None);
    let value = "localhost:1:2:/:A|localhost:0:2";
    let lenient = portal(root.path(), "config").arg(value).assert().success();
    let output = lenient.get_output();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .starts_with("vast-portal: warning: entry 2 `localhost:0:2` is left out")
    );

    let strict = portal(root.path(), "config").arg("--strict").arg(value).assert().code(1);
    let stderr = String::from_utf8_lossy(&strict.get_output().stderr).into_owned();
    assert_eq!(stderr.matches("vast-portal: error: entry 2, ").count(), 2, "{stderr}");
    assert!(stderr.contains("\n  localhost:0:2\n            ^\n"), "{stderr}");

    portal(root.path(), "config").arg("--strict").arg(CONFIG).assert().success();
    portal(root.path(), "config").args(["--strict", "--json"]).arg(value).assert().code(1);
}

#[test]
fn config_finds_errors_in_the_file_and_leaves_it_alone() {
    let root = instance(Some("applications: {A: {"));
    portal(root.path(), "config").assert().success();
    portal(root.path(), "config").arg("--strict").assert().code(1);
    assert_eq!(fs::read_dir(root.path().join("etc")).unwrap().count(), 1);
}

#[test]
fn config_prints_no_control_characters() {
    let root = instance(None);
    let value = "localhost:1:2:/:a\u{1b}[2Jb|localhost:\u{7}:2:/:c";
    for arguments in [&["config"][..], &["config", "--strict"], &["config", "--json"]] {
        let output = portal(root.path(), arguments[0]).args(&arguments[1..]).arg(value).output().unwrap();
        for bytes in [output.stdout, output.stderr] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
        }
    }
}

#[test]
fn port_prints_one_number() {
    let root = instance(None);
    let command = || {
        let mut command = portal(root.path(), "port");
        command.env("PORTAL_CONFIG", CONFIG).env("VAST_TCP_PORT_17860", "40000");
        command
    };
    command().arg("My App").assert().success().stdout("7860\n").stderr("");
    command().args(["My App", "--external"]).assert().success().stdout("17860\n");
    command().args(["--external", "Instance Portal"]).assert().success().stdout("1111\n");
    command()
        .arg("my")
        .assert()
        .code(1)
        .stdout("")
        .stderr("vast-portal: no application is labelled `my`: there are `Instance Portal`, `My App`\n");
}

#[test]
fn port_follows_the_users_file() {
    let root = instance(Some(FILE));
    portal(root.path(), "port").env("PORTAL_CONFIG", CONFIG).arg("Edited").assert().success().stdout("7861\n");
    portal(root.path(), "port").env("PORTAL_CONFIG", CONFIG).arg("My App").assert().code(1);
}

#[test]
fn listed_answers_with_its_exit_code() {
    let root = instance(Some(FILE));
    portal(root.path(), "listed").arg("edit").assert().code(0).stdout("").stderr("");
    portal(root.path(), "listed").arg("My App").assert().code(1).stdout("").stderr("");
    fs::write(root.path().join("etc/portal.yaml"), "applications: [").unwrap();
    portal(root.path(), "listed").arg("edit").assert().code(2).stdout("");
    fs::remove_file(root.path().join("etc/portal.yaml")).unwrap();
    portal(root.path(), "listed").arg("edit").assert().code(2);
    portal(root.path(), "listed").assert().code(64);
    portal(root.path(), "listed").args(["edit", "--wait", "soon"]).assert().code(64);
}

#[test]
fn listed_waits_for_the_file() {
    let root = instance(Some(""));
    let mut waiter = Process::new(env!("CARGO_BIN_EXE_vast-portal"))
        .args(["listed", "edit", "--wait", "600", "--root"])
        .arg(root.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(root.path().join("etc/new"), FILE).unwrap();
    fs::rename(root.path().join("etc/new"), root.path().join("etc/portal.yaml")).unwrap();
    let mut stderr = String::new();
    waiter.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((waiter.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn listed_agrees_with_the_line_search_of_deployed_scripts() {
    let root = instance(None);
    let labels = ["My App", "it's \"x\"", "a: b", "#1", "日本", r"C:\app"];
    let value: Vec<String> = labels.iter().map(|label| format!("localhost:1:2:/:{label}")).collect();
    let env = std::collections::BTreeMap::from([("PORTAL_CONFIG".to_owned(), value.join("|"))]);
    let effective = vast_portal_config::yaml::effective(root.path(), &env).unwrap();
    effective.publish().unwrap();
    for label in labels {
        portal(root.path(), "listed").arg(label).assert().code(0);
        // The search takes a pattern; `\` is the only character above that means something in it.
        let pattern = format!("^[^#].*{}", label.replace('\\', r"\\"));
        let search = Process::new("grep").args(["-qiE", &pattern]).arg(root.path().join("etc/portal.yaml")).status();
        assert!(search.unwrap().success(), "{label}");
    }
}
