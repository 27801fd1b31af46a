//! `vast-sync status`, `gc` and `migrate`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{run, succeed, vast_sync};
use crate::container::{Container, ID, Kind, SHORT_LEASE, assert_moved, leftovers};
use crate::tree::{listing, names, set_mode};

const FAULT: &str = "VAST_SYNC_FAULT";

fn on(container: &Container, command: &str) -> Command {
    let mut program = vast_sync();
    program.arg(command).arg("--root").arg(container.root());
    if command == "gc" {
        program.args(["--lease", SHORT_LEASE]);
    }
    program
}

fn environments(container: &Container) -> Vec<String> {
    names(&container.path("workspace/.environment_sync"))
}

/// A container whose environment is on the volume, beside that of an older image, one that is being filled by an older
/// image, one that an instance left unfinished, and things that are none.
fn with_environments() -> Container {
    let container = Container::new();
    for id in ["old", "unfinished"] {
        let other = Container::new();
        fs::remove_dir(other.path("workspace")).unwrap();
        fs::rename(container.path("workspace"), other.path("workspace")).unwrap();
        let mut command = other.command(Kind::Environment);
        command.args(["--id", id]).env("CONTAINER_ID", "7");
        if id == "unfinished" {
            assert!(run(command.env(FAULT, "kill-before:publish.rename@2")).killed);
        } else {
            succeed(&mut command);
        }
        fs::rename(other.path("workspace"), container.path("workspace")).unwrap();
    }
    succeed(container.command(Kind::Environment).env("CONTAINER_ID", "12345"));
    let shared = container.path("workspace/.environment_sync");
    fs::create_dir_all(shared.join("older/venv/main")).unwrap();
    fs::write(shared.join("older/.syncing"), "").unwrap();
    fs::create_dir_all(shared.join("mine/photos")).unwrap();
    container
}

#[test]
fn without_apply_gc_only_says_what_it_would_remove_and_with_it_does() {
    let container = with_environments();
    let before = listing(container.root());
    let told = succeed(&mut on(&container, "gc"));
    for text in [
        "would remove environment old: ",
        "would remove environment unfinished: ",
        "keeps environment 0123abcd: ",
        "keeps environment, because an instance may be filling it: older",
        "leaves alone what is no environment: mine",
        "--apply removes",
        "--keep names those in use elsewhere",
    ] {
        assert!(told.stdout.contains(text), "{text}: {told:?}");
    }
    assert_eq!(listing(container.root()), before);
    let kept = succeed(on(&container, "gc").args(["--keep", "old", "--json"])).event("plan");
    let verdicts: Vec<(&str, &str)> = kept["environments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["id"].as_str().unwrap(), entry["verdict"].as_str().unwrap()))
        .collect();
    let expected = [(ID, "kept"), ("mine", "foreign"), ("old", "kept"), ("older", "filling"), ("unfinished", "remove")];
    assert_eq!(verdicts, expected);

    succeed(on(&container, "gc").args(["--apply", "--keep", "old"]));
    assert_eq!(environments(&container), [ID, "mine", "old", "older"]);
    let report = succeed(on(&container, "gc").args(["--apply", "--json"])).event("done");
    assert_eq!(report["removed"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["bytes"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(environments(&container), [ID, "mine", "older"]);
    assert_moved(container.root(), Kind::Environment, "after gc");
    assert!(succeed(&mut on(&container, "gc")).stdout.ends_with("nothing to remove\n"));
}

#[test]
fn gc_keeps_what_links_of_the_container_lead_to_even_without_an_id() {
    let container = with_environments();
    fs::remove_file(container.path(".env_hash")).unwrap();
    succeed(on(&container, "gc").arg("--apply"));
    assert_eq!(environments(&container), [ID, "mine", "older"]);
}

#[test]
fn gc_leaves_an_environment_that_an_instance_is_filling() {
    let container = Container::new();
    let mut command = crate::container::command(container.root(), Kind::Environment, "3");
    let mut copier = command.args(["--id", "busy"]).env(FAULT, "delay:stage.create=50").spawn().unwrap();
    let shared = container.path("workspace/.environment_sync/busy");
    while !shared.join(".syncing").exists() {
        std::thread::yield_now();
    }
    // Its signs of life come every half second.
    let mut gc = vast_sync();
    gc.args(["gc", "--apply", "--json", "--lease", "3", "--root"]).arg(container.root());
    let done = succeed(&mut gc).event("done");
    assert_eq!(done["removed"], serde_json::json!([]), "{done}");
    assert!(copier.wait().unwrap().success());
    assert!(shared.join(".synced").exists());
}

#[test]
fn gc_clears_away_what_deaths_left_beside_and_inside() {
    let container = Container::new();
    for (kind, fault) in [
        (Kind::Environment, "kill-after:claim.mkdir"),
        (Kind::Home, "kill-before:claim.rename"),
        (Kind::Environment, "kill-after:stage.symlink"),
    ] {
        assert!(run(container.command(kind).env(FAULT, fault)).killed, "{fault}");
    }
    let internal = container.path("internal/app");
    fs::create_dir_all(&internal).unwrap();
    let mut workspace = vast_sync();
    workspace.arg("workspace").arg("--source").arg(container.path("internal"));
    workspace.arg("--workspace").arg(container.path("workspace")).env(FAULT, "kill-before:publish.rename");
    assert!(run(&mut workspace).killed);
    for kind in Kind::BOTH {
        // They finish, but for the last step.
        assert!(run(container.command(kind).env(FAULT, "kill-before:lease.unlink")).killed);
        succeed(&mut container.command(kind));
    }
    let status: Value = serde_json::from_str(&succeed(on(&container, "status").arg("--json")).stdout).unwrap();
    assert!(!status["stray"].as_array().unwrap().is_empty(), "{status}");
    assert!(!status["home"]["leftovers"].as_array().unwrap().is_empty(), "{status}");
    succeed(on(&container, "gc").arg("--apply"));
    for kind in Kind::BOTH {
        assert_moved(container.root(), kind, "after gc");
        assert_eq!(leftovers(&container.shared(kind)), [""; 0]);
    }
    assert_eq!(names(&container.path("workspace")), [".environment_sync", ".sync_app.lock", "home"]);
}

#[test]
fn status_tells_what_is_on_the_volume_by_whom_how_old_and_how_large() {
    let container = with_environments();
    let status = succeed(&mut on(&container, "status")).stdout;
    let line = |start: &str| {
        let found = status.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start}: {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(line("environment 0123abcd (this image's)").contains("complete"), "{status}");
    assert!(line("environment 0123abcd").contains(" entries, by C.12345, "), "{status}");
    assert!(line("environment 0123abcd").ends_with(" ago"), "{status}");
    assert!(line("environment unfinished").contains("being filled, or left unfinished"), "{status}");
    assert!(line("environment unfinished").contains("by C.7"), "{status}");
    assert_eq!(line("/venv/main"), "/venv/main on the volume");
    assert_eq!(line("/root"), "/root in the container");

    let json: Value = serde_json::from_str(&succeed(on(&container, "status").arg("--json")).stdout).unwrap();
    assert_eq!(json["environment"], ID);
    assert_eq!(json["environments"][0]["instance"], "C.12345");
    assert!(json["environments"][0]["bytes"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["home"], Value::Null);
}

/// Puts a distribution into a venv on the volume.
fn distribution(container: &Container, id: &str, name: &str, version: &str, origin: Option<&str>) {
    let site = container.path("workspace/.environment_sync").join(id).join("venv/main/lib/python3.12/site-packages");
    let directory = site.join(format!("{name}-{version}.dist-info"));
    fs::create_dir_all(&directory).unwrap();
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\ntext\n");
    fs::write(directory.join("METADATA"), metadata).unwrap();
    if let Some(origin) = origin {
        fs::write(directory.join("direct_url.json"), origin).unwrap();
    }
}

fn with_packages() -> Container {
    let container = Container::new();
    for id in ["old", "new"] {
        let venv = container.path("workspace/.environment_sync").join(id).join("venv/main");
        fs::create_dir_all(venv.join("bin")).unwrap();
        fs::write(venv.join("bin/python"), "").unwrap();
        distribution(&container, id, "numpy", if id == "old" { "1.26" } else { "2.0" }, None);
    }
    distribution(&container, "old", "Einops", "0.8.0", None);
    distribution(&container, "old", "Shared_Thing", "1", None);
    distribution(&container, "new", "shared-thing", "2", None);
    let origin = r#"{"url": "https://host/repo", "vcs_info": {"vcs": "git", "commit_id": "0a1b2c"}}"#;
    distribution(&container, "old", "nodes", "0.1", Some(origin));
    container
}

#[test]
fn migrate_lists_what_the_new_environment_lacks() {
    let container = with_packages();
    let before = listing(container.root());
    let told = succeed(on(&container, "migrate").args(["old", "new"]));
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "main: 2 packages of old are not in new",
            "  Einops==0.8.0",
            "  nodes @ git+https://host/repo@0a1b2c",
            "--install installs them with uv"
        ]
    );
    let json = succeed(on(&container, "migrate").args(["old", "new", "--json"])).event("plan");
    assert_eq!(json["venvs"][0]["packages"][0]["requirement"], "Einops==0.8.0");
    assert_eq!(listing(container.root()), before);
    let none = succeed(on(&container, "migrate").args(["new", "new"]));
    assert_eq!(none.stdout, "main: new has everything that new has\n");
    let missing = run(on(&container, "migrate").args(["gone", "new"]));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains(".environment_sync/gone` is not a directory"), "{missing:?}");
}

#[test]
fn migrate_installs_into_the_new_environment_when_asked_to() {
    let container = with_packages();
    let tools = container.path("tools");
    fs::create_dir(&tools).unwrap();
    let uv = |code: u8| {
        fs::write(
            tools.join("uv"),
            format!("#!/bin/sh\nfor argument; do echo \"$argument\"; done > \"$0.asked\"\nexit {code}\n"),
        )
        .unwrap();
        set_mode(&tools.join("uv"), 0o755);
    };
    let migrate = || {
        let mut command = on(&container, "migrate");
        command.args(["old", "new", "--install"]).env("PATH", format!("{}:/usr/bin:/bin", tools.display()));
        command
    };
    uv(0);
    succeed(&mut migrate());
    let python = container.path("workspace/.environment_sync/new/venv/main/bin/python");
    let asked = fs::read_to_string(tools.join("uv.asked")).unwrap();
    let expected =
        format!("pip\ninstall\n--python\n{}\nEinops==0.8.0\nnodes @ git+https://host/repo@0a1b2c\n", python.display());
    assert_eq!(asked, expected);
    uv(1);
    let failed = run(&mut migrate());
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr.contains("uv could not install them into `main`"), "{failed:?}");
    fs::remove_file(tools.join("uv")).unwrap();
    let missing = run(migrate().env("PATH", Path::new("/nonexistent")));
    assert!(missing.stderr.contains("cannot run `uv`") && missing.stderr.contains("hint: install uv"), "{missing:?}");
}
