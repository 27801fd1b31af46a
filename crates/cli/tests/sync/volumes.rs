//! Real filesystems that are full, read-only, short of inodes, or lack what a Linux filesystem has.

use std::fs;

use crate::command::{Run, run, succeed, tool, vast_sync, wait_until_stopped, workspace};
use crate::mount::Mount;
use crate::tree::{assert_alike, everything, names, names_but_locks};

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("internal/app")).unwrap();
    root
}

#[test]
fn a_volume_without_room_is_refused_beforehand_with_what_is_needed_and_what_there_is() {
    let root = root();
    fs::write(root.path().join("internal/app/large"), vec![1; 2 << 20]).unwrap();
    fs::write(root.path().join("internal/small"), "fits").unwrap();
    let mount = Mount::tmpfs(&root.path().join("workspace"), "size=1m");
    let run = run(workspace(root.path()).arg("--json"));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!((run.outcome("app"), run.outcome("small")), ("failed".to_owned(), "published".to_owned()));
    let error = &run.event("done")["items"][0]["error"];
    assert!(error.as_str().unwrap().contains("2101248 bytes needed, 1048576 available"), "{error}");
    assert!(run.stderr.contains("hint: free 2 MB on that volume"), "{run:?}");
    assert_eq!(names_but_locks(&mount.at), ["small"]);
}

#[test]
fn a_volume_without_inodes_is_refused_beforehand() {
    let root = root();
    for index in 0..40 {
        fs::write(root.path().join(format!("internal/app/{index}")), "").unwrap();
    }
    let mount = Mount::tmpfs(&root.path().join("workspace"), "nr_inodes=20");
    let run = run(&mut workspace(root.path()));
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("41 inodes needed"), "{run:?}");
    assert_eq!(names_but_locks(&mount.at), [""; 0]);
}

#[test]
fn a_volume_that_fills_up_meanwhile_stops_the_copy_and_gets_its_room_back() {
    let root = root();
    // The same bytes need more room on a filesystem than its free space promises: directories and inodes cost too.
    for index in 0..220 {
        fs::create_dir(root.path().join(format!("internal/app/{index}"))).unwrap();
        fs::write(root.path().join(format!("internal/app/{index}/file")), vec![1; 4096]).unwrap();
    }
    let mount = Mount::tmpfs(&root.path().join("workspace"), "size=1m");
    let run = run(&mut workspace(root.path()));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("bytes needed"), "{run:?}");
    assert_eq!(names_but_locks(&mount.at), [""; 0]);
    let free = tool("df", ["--output=avail", mount.at.to_str().unwrap()]);
    assert!(free.lines().last().unwrap().trim().parse::<u64>().unwrap() > 1000, "{free}");
}

#[test]
fn a_real_disk_that_fills_up_while_copying_publishes_nothing_and_the_next_run_does() {
    let root = root();
    fs::write(root.path().join("internal/app/large"), vec![1; 6 << 20]).unwrap();
    let mount = Mount::ext4(&root.path().join("workspace"), 16, 4096);
    // Stopped in the middle; meanwhile someone else takes the rest of the disk.
    let mut copier = workspace(root.path());
    copier.env("VAST_SYNC_FAULT", "stop-before:content.write@1,fail:content.range=18");
    let copier = copier.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = wait_until_stopped(&copier);
    let script = format!("head -c 100M /dev/zero > '{}/user' 2>/dev/null; true", mount.at.display());
    tool("sh", ["-c", &script]);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let failed = Run::from(copier.wait_with_output().unwrap());
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr.contains("no room for") && failed.stderr.contains("bytes needed"), "{failed:?}");
    assert_eq!(names_but_locks(&mount.at), ["user"], "what was copied is gone");
    fs::remove_file(mount.at.join("user")).unwrap();
    succeed(&mut workspace(root.path()));
    assert_alike(&root.path().join("internal/app"), &mount.at.join("app"));
}

#[test]
fn enospc_from_a_real_disk_names_the_path_and_publishes_nothing() {
    let root = root();
    let mount = Mount::ext4(&root.path().join("workspace"), 16, 4096);
    everything(&root.path().join("internal/app"));
    let script = format!("head -c 100M /dev/zero > '{}/user' 2>/dev/null; true", mount.at.display());
    tool("sh", ["-c", &script]);
    let run = run(&mut workspace(root.path()));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("no room for"), "{run:?}");
    assert_eq!(names_but_locks(&mount.at), ["user"]);
    fs::remove_file(mount.at.join("user")).unwrap();
    succeed(&mut workspace(root.path()));
    assert_alike(&root.path().join("internal/app"), &mount.at.join("app"));
}

#[test]
fn a_read_only_volume_is_a_clear_error_unless_all_is_in_place() {
    let root = root();
    let mount = Mount::tmpfs(&root.path().join("workspace"), "size=1m");
    mount.remount("ro");
    let refused = run(&mut workspace(root.path()));
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("is read-only") && refused.stderr.contains("hint: mount the volume"),
        "{refused:?}"
    );
    mount.remount("rw");
    fs::create_dir(mount.at.join("app")).unwrap();
    mount.remount("ro");
    succeed(&mut workspace(root.path()));
}

#[test]
fn a_copy_between_filesystems_keeps_everything() {
    let root = root();
    let app = root.path().join("internal/app");
    everything(&app);
    let mount = Mount::ext4(&root.path().join("workspace"), 64, 4096);
    succeed(&mut workspace(root.path()));
    assert_alike(&app, &mount.at.join("app"));
    assert_eq!(names_but_locks(&mount.at), ["app"]);
}

#[test]
fn an_overlay_is_a_source_and_a_workspace_like_any_other() {
    let root = root();
    let [lower, upper, work] = ["internal", "upper", "work"].map(|name| root.path().join(name));
    everything(&lower.join("app"));
    for directory in [&upper, &work] {
        fs::create_dir(directory).unwrap();
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Mount::new(&root.path().join("merged"), &["-t", "overlay", "-o", &options, "overlay"]);
    let mut command = vast_sync();
    command.arg("workspace").arg("--source").arg(&mount.at).arg("--workspace").arg(mount.at.join("ws"));
    // The workspace is an item of its source here, and left alone.
    fs::create_dir_all(mount.at.join("ws/ws")).unwrap();
    succeed(&mut command);
    assert_alike(&mount.at.join("app"), &mount.at.join("ws/app"));
    assert_eq!(names_but_locks(&mount.at.join("ws")), ["app", "ws"]);
}

#[test]
fn a_target_without_attributes_gets_the_rest_with_one_warning() {
    let root = root();
    let app = root.path().join("internal/app");
    everything(&app);
    // ramfs has neither attributes nor numbers for its free space.
    let mount = Mount::new(&root.path().join("workspace"), &["-t", "ramfs", "ramfs"]);
    let run = succeed(workspace(root.path()).arg("--json"));
    let warnings = run.event("done")["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert!(warnings[0].as_str().unwrap().contains("extended attributes"), "{warnings}");
    tool(
        "diff",
        [
            "-r",
            "--no-dereference",
            "--exclude=fifo",
            "--exclude=null",
            app.to_str().unwrap(),
            mount.at.join("app").to_str().unwrap(),
        ],
    );
}

#[test]
fn an_attribute_that_is_too_large_for_the_target_is_left_out_and_is_not_taken_for_a_full_volume() {
    let root = root();
    everything(&root.path().join("internal/app"));
    // An attribute of 2000 bytes does not fit into a block of 1024.
    let mount = Mount::ext4(&root.path().join("workspace"), 64, 1024);
    let run = succeed(workspace(root.path()).arg("--json"));
    let warnings = run.event("done")["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert!(warnings[0].as_str().unwrap().contains("too large"), "{warnings}");
    assert_eq!(names_but_locks(&mount.at), ["app"]);
}

#[test]
fn the_root_of_a_filesystem_is_filled_in_place() {
    let root = root();
    let from = root.path().join("internal/app");
    everything(&from);
    let mount = Mount::tmpfs(&root.path().join("to"), "size=200m");
    succeed(vast_sync().arg("copy").arg(&from).arg(&mount.at));
    assert_eq!(names(&from), names(&mount.at));
    assert_alike(&from.join("deep"), &mount.at.join("deep"));
}
