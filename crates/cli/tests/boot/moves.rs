//! Stages 35 to 37: homes and environments move to the volume, and the workspace is filled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::{Signal, kill_process};

use super::harness::{Fake, Started, VAST_BOOT, wait_until};

const VAST_SYNC: &str = env!("CARGO_BIN_EXE_vast-sync");
const FAULT: &str = "VAST_SYNC_FAULT";

fn container() -> Fake {
    let fake = Fake::new();
    fake.write("/.env_hash", "0123abcd\n");
    fake.write("/venv/main/pyvenv.cfg", "home = /usr/bin\n");
    fake.write("/venv/main/bin/activate", "");
    symlink("/bin/true", fake.path("/venv/main/bin/python")).unwrap();
    fake.write("/root/.ssh/authorized_keys", "key\n");
    fake.write("/home/user/notes", "mine\n");
    fs::create_dir_all(fake.path("/workspace")).unwrap();
    fake
}

const FLAGS: [&str; 4] = ["--sync-home", "--sync-environment", "--only", "35,36,37"];

#[test]
fn a_boot_that_is_asked_to_moves_both_and_the_next_one_finds_all_in_place() {
    let fake = container();
    let output = fake.run(&["run", "--only", "35,37"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fake.recorded("35-sync-home-dirs.sh"), ("skipped".into(), "not asked for (--sync-home)".into()));
    assert_eq!(fake.run(&[&["run"], &FLAGS[..]].concat()).status.code(), Some(0));
    assert_eq!(fake.recorded("35-sync-home-dirs.sh").1, "2 directories are on the volume now");
    assert_eq!(fake.recorded("37-sync-environment.sh").1, "1 directory is on the volume now");
    for (path, target) in [
        ("/root", "/workspace/home/root"),
        ("/home/user", "/workspace/home/user"),
        ("/venv/main", "/workspace/.environment_sync/0123abcd/venv/main"),
        ("/workspace/home/root/.ssh", "/home_ssh/root/.ssh"),
    ] {
        assert_eq!(fs::read_link(fake.path(path)).unwrap(), Path::new(target));
    }
    assert_eq!(fake.run(&[&["run"], &FLAGS[..]].concat()).status.code(), Some(0));
    for stage in ["35-sync-home-dirs.sh", "37-sync-environment.sh"] {
        assert_eq!(fake.recorded(stage), ("skipped".into(), "all is on the volume already".into()));
    }
}

#[test]
fn a_volume_that_cannot_be_written_to_leaves_all_in_the_container_and_the_boot_goes_on() {
    let fake = container();
    let mut command = fake.command(VAST_BOOT, [&["run"], &FLAGS[..]].concat());
    let output = command.arg("--root").arg(fake.root()).env(FAULT, "fail:claim.mkdir=30").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for stage in ["35-sync-home-dirs.sh", "37-sync-environment.sh"] {
        let (outcome, message) = fake.recorded(stage);
        assert_eq!(outcome, "gave-up");
        assert!(message.contains("is read-only") && message.contains("mount the volume writable"), "{message}");
    }
    assert!(fake.path("/root").symlink_metadata().unwrap().is_dir());
    assert!(fs::read_to_string(fake.path("/var/log/vast_boot_failures")).unwrap().contains("35-sync-home-dirs"));
}

#[test]
fn a_stop_while_a_stage_copies_releases_the_lease() {
    for (stage, shared) in [("35", "/workspace/home"), ("37", "/workspace/.environment_sync/0123abcd")] {
        for first in [true, false] {
            let fake = container();
            let arguments = ["run", "--sync-home", "--sync-environment", "--only", stage];
            let mut command = if first {
                let mut command =
                    fake.command("unshare", ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", VAST_BOOT]);
                command.args(arguments);
                command
            } else {
                fake.command(VAST_BOOT, arguments)
            };
            command.arg("--root").arg(fake.root()).env(FAULT, "delay:stage.create=300");
            let started = Started::new(&mut command);
            let syncing = fake.path(shared).join(".syncing");
            wait_until("the stage copies", || syncing.exists());
            let pid = if first { started.first_process() } else { started.pid() };
            kill_process(pid, Signal::TERM).unwrap();
            assert_eq!(started.end().0, Some(143), "stage {stage}, as process 1: {first}");
            let lease = fs::read_to_string(&syncing).unwrap();
            assert!(lease.contains("state released"), "{lease}");
            // The next boot goes on at once.
            let output = fake.run(&["run", "--sync-home", "--sync-environment", "--only", stage]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(fake.path(shared).join(".synced").exists());
        }
    }
}

#[test]
fn a_stop_while_the_workspace_is_filled_frees_the_lock() {
    for first in [true, false] {
        let fake = Fake::new();
        let items: Vec<String> = (0..20).map(|number| format!("{number}")).collect();
        for name in &items {
            fake.write(&format!("/opt/workspace-internal/app/{name}"), name);
        }
        fs::create_dir_all(fake.path("/workspace")).unwrap();
        let status = || -> serde_json::Value {
            // The homes and environments of this machine are large, and none of its business.
            let mut command = fake.command(VAST_SYNC, ["status", "--json", "--root"]);
            serde_json::from_slice(&command.arg(fake.root()).output().unwrap().stdout).unwrap()
        };
        let arguments = ["run", "--only", "36"];
        let program = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", VAST_BOOT];
        let mut command =
            if first { fake.command("unshare", program) } else { fake.command(VAST_BOOT, std::iter::empty::<&str>()) };
        command.args(arguments).arg("--root").arg(fake.root()).env(FAULT, "delay:stage.create=300");
        let started = Started::new(&mut command);
        let begun = || fs::read_dir(fake.path("/workspace")).unwrap().any(|entry| entry.unwrap().path().is_dir());
        wait_until("the stage copies", begun);
        assert_eq!(status()["items"][0], serde_json::json!({ "name": "app", "in_place": false, "lock": "held" }));
        let pid = if first { started.first_process() } else { started.pid() };
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(143), "as process 1: {first}");
        assert_eq!(status()["items"][0], serde_json::json!({ "name": "app", "in_place": false, "lock": "free" }));
        assert_eq!(fake.recorded("36-sync-workspace.sh").0, "cancelled");
        // The next boot waits for nobody, and clears away what this one left.
        assert_eq!(fake.run(&arguments).status.code(), Some(0));
        assert_eq!(fake.recorded("36-sync-workspace.sh"), ("done".into(), "published 1 item".into()));
        for name in &items {
            assert_eq!(fs::read_to_string(fake.path("/workspace/app").join(name)).unwrap(), *name);
        }
        assert_eq!(status()["leftovers"], serde_json::json!([]));
    }
}
