//! `vast-sync workspace`, one instance at a time.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::command::{run, succeed, vast_sync, workspace};
use crate::tree::{assert_alike, everything, listing, names, names_but_locks};

/// A root with an item that has everything, a file and a link in `internal`, and an empty `workspace`.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let internal = root.path().join("internal");
    fs::create_dir_all(internal.join("app")).unwrap();
    fs::create_dir(root.path().join("workspace")).unwrap();
    everything(&internal.join("app"));
    fs::write(internal.join("README.md"), "read me").unwrap();
    symlink("app/one", internal.join("link")).unwrap();
    root
}

#[test]
fn each_item_is_published_whole_and_the_second_run_is_quiet() {
    let root = root();
    let run = succeed(workspace(root.path()).arg("--json"));
    for item in ["app", "README.md", "link"] {
        assert_eq!(run.outcome(item), "published");
    }
    let (internal, target) = (root.path().join("internal"), root.path().join("workspace"));
    assert_alike(&internal.join("app"), &target.join("app"));
    assert_eq!(fs::read(target.join("README.md")).unwrap(), b"read me");
    assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("app/one"));
    assert_eq!(names_but_locks(&target), ["README.md", "app", "link"]);
    assert!(target.join(".sync_app.lock").is_file(), "a lock file stays");

    let before = listing(&target);
    let again = succeed(&mut workspace(root.path()));
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    assert_eq!(listing(&target), before);
}

#[test]
fn when_all_is_in_place_no_lock_is_taken_and_nothing_is_created() {
    let root = root();
    let target = root.path().join("workspace");
    for item in ["app", "README.md", "link"] {
        fs::write(target.join(item), "user's").unwrap();
    }
    succeed(&mut workspace(root.path()));
    assert_eq!(names(&target), ["README.md", "app", "link"], "no lock files either");
}

#[test]
fn what_the_user_has_is_never_touched() {
    let root = root();
    let target = root.path().join("workspace");
    fs::create_dir(target.join("app")).unwrap();
    symlink("nowhere", target.join("README.md")).unwrap();
    fs::write(target.join("link"), "a file").unwrap();
    let before = listing(&target);
    let inodes = |names: &[&str]| -> Vec<u64> {
        names.iter().map(|name| fs::symlink_metadata(target.join(name)).unwrap().ino()).collect()
    };
    let before_inodes = inodes(&["app", "README.md", "link"]);
    let run = succeed(workspace(root.path()).arg("--json"));
    for item in ["app", "README.md", "link"] {
        assert_eq!(run.outcome(item), "kept");
    }
    assert_eq!(listing(&target), before);
    assert_eq!(inodes(&["app", "README.md", "link"]), before_inodes);
}

#[test]
fn files_of_the_platform_are_removed_and_directories_of_their_names_are_not() {
    let root = root();
    let target = root.path().join("workspace");
    fs::write(target.join("onstart.sh"), "").unwrap();
    fs::create_dir(target.join("ports.log")).unwrap();
    fs::write(root.path().join("internal/onstart.sh"), "").unwrap();
    let run = succeed(workspace(root.path()).arg("--json"));
    assert_eq!(run.event("done")["removed"], serde_json::json!(["onstart.sh"]));
    assert_eq!(names_but_locks(&target), ["README.md", "app", "link", "ports.log"]);
}

#[test]
fn a_missing_workspace_is_created_and_a_missing_source_is_nothing_to_do() {
    let root = root();
    fs::remove_dir(root.path().join("workspace")).unwrap();
    succeed(&mut workspace(root.path()));
    assert_alike(&root.path().join("internal/app"), &root.path().join("workspace/app"));

    let empty = tempfile::tempdir().unwrap();
    let run = succeed(&mut workspace(empty.path()));
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert_eq!(names(empty.path()), [""; 0], "no workspace is made for nothing");
}

#[test]
fn a_source_that_is_the_workspace_stays_as_it_is() {
    let root = root();
    let internal = root.path().join("internal");
    let before = listing(&internal);
    let mut command = vast_sync();
    command.arg("workspace").arg("--source").arg(&internal).arg("--workspace").arg(internal.join("../internal/."));
    let run = succeed(&mut command);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert_eq!(listing(&internal), before);
}

#[test]
fn a_workspace_inside_an_item_costs_that_item_alone() {
    let root = root();
    let inside = root.path().join("internal/app/deep/ws");
    fs::create_dir(&inside).unwrap();
    let mut command = vast_sync();
    command.arg("workspace").arg("--source").arg(root.path().join("internal")).arg("--workspace").arg(&inside);
    let run = run(&mut command);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("lies inside the source"), "{run:?}");
    assert_eq!(names_but_locks(&inside), ["README.md", "link"]);
}

#[test]
fn the_workspace_comes_from_the_environment() {
    let root = root();
    let target = root.path().join("elsewhere");
    let mut command = vast_sync();
    command.arg("workspace").arg("--source").arg(root.path().join("internal")).env("WORKSPACE", &target);
    succeed(&mut command);
    assert_eq!(names_but_locks(&target), ["README.md", "app", "link"]);
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let root = root();
    let target = root.path().join("workspace");
    fs::write(target.join("link"), "").unwrap();
    fs::write(target.join("ports.log"), "").unwrap();
    let before = listing(root.path());
    let run = succeed(workspace(root.path()).arg("--dry-run"));
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("would copy `README.md`: 7 B in 1 entry"), "{lines:?}");
    assert!(lines[1].starts_with("would copy `app`: "), "{lines:?}");
    assert_eq!(lines[2..], ["would remove `ports.log`"]);
    assert_eq!(listing(root.path()), before);
}

#[test]
fn status_tells_what_is_in_place_and_what_was_left_behind() {
    let root = root();
    let target = root.path().join("workspace");
    fs::write(target.join("app"), "").unwrap();
    fs::create_dir(target.join(".sync_link.partial.00000000-1-1-00000000")).unwrap();
    let mut command = vast_sync();
    command.arg("status").arg("--json").arg("--source").arg(root.path().join("internal"));
    let before = listing(root.path());
    let run = succeed(command.arg("--workspace").arg(&target));
    let status: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(status["items"][1], serde_json::json!({ "name": "app", "in_place": true, "lock": "never" }));
    assert_eq!(status["items"][2]["in_place"], false);
    assert_eq!(status["leftovers"][0]["item"], "link");
    assert_eq!(status["leftovers"][0]["owner"], "elsewhere");
    assert_eq!(status["locks_are_shared"], true);
    assert_eq!(listing(root.path()), before);
}

#[test]
fn a_wrong_command_line_is_told_apart_from_work_that_failed() {
    assert_eq!(run(vast_sync().arg("workspaces")).code, Some(64));
    assert_eq!(run(vast_sync().args(["workspace", "--lock-wait", "soon"])).code, Some(64));
    assert_eq!(run(vast_sync().args(["copy", "/nonexistent/a", "/nonexistent/b"])).code, Some(2));
    assert_eq!(run(vast_sync().arg("--help")).code, Some(0));
}
