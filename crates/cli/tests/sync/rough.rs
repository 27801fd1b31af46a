//! Environments and homes on volumes that are full, short of inodes, read-only, late, without links, or lose power.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::command::{run, succeed, tool, wait_until_stopped};
use crate::container::{
    Container, Kind, assert_login_works, assert_moved, assert_nothing_partial, command, contents, leftovers,
};
use crate::mount::Mount;
use crate::tree::names;

const FAULT: &str = "VAST_SYNC_FAULT";

type Before = BTreeMap<&'static str, BTreeMap<PathBuf, String>>;

fn trees(container: &Container, kind: Kind) -> Before {
    kind.trees().into_iter().map(|(path, _)| (path, contents(&container.path(path)))).collect()
}

/// The container is what it was, and whoever could log in still can.
#[track_caller]
fn assert_untouched(container: &Container, kind: Kind, before: &Before, context: &str) {
    assert_eq!(&trees(container, kind), before, "{context}");
    assert_login_works(container.root(), context);
    assert!(!container.path("var/lib/vast-sync/relink").exists(), "{context}: no swap was begun");
}

fn large(container: &Container, kind: Kind) -> PathBuf {
    container.path(kind.trees()[0].0).join("large")
}

#[test]
fn a_volume_without_room_is_refused_before_anything_is_written() {
    for kind in Kind::BOTH {
        let container = Container::new();
        fs::write(large(&container, kind), vec![1; 3 << 20]).unwrap();
        let before = trees(&container, kind);
        let mount = Mount::tmpfs(&container.path("workspace"), "size=1m");
        let failed = run(&mut container.command(kind));
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(failed.stderr.contains("bytes needed, 1048576 available"), "{failed:?}");
        assert!(failed.stderr.contains("hint: free "), "{failed:?}");
        assert_eq!(names(&mount.at), [""; 0]);
        assert_untouched(&container, kind, &before, "no room");
    }
}

#[test]
fn a_volume_without_inodes_is_refused_before_anything_is_written() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let before = trees(&container, kind);
        let mount = Mount::tmpfs(&container.path("workspace"), "nr_inodes=6");
        let failed = run(&mut container.command(kind));
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(failed.stderr.contains("inodes needed"), "{failed:?}");
        assert_eq!(names(&mount.at), [""; 0]);
        assert_untouched(&container, kind, &before, "no inodes");
    }
}

#[test]
fn a_disk_that_fills_up_while_copying_gets_its_room_back_and_the_next_run_goes_on() {
    for kind in Kind::BOTH {
        let container = Container::new();
        fs::write(large(&container, kind), vec![1; 6 << 20]).unwrap();
        let before = trees(&container, kind);
        let mount = Mount::ext4(&container.path("workspace"), 16, 4096);
        // Stopped in the middle; meanwhile someone else takes the rest of the disk.
        let mut copier = container.command(kind);
        let copier = copier
            .env(FAULT, "stop-before:content.write@1,fail:content.range=18")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = wait_until_stopped(&copier);
        let script = format!("head -c 100M /dev/zero > '{}/user' 2>/dev/null; true", mount.at.display());
        tool("sh", ["-c", &script]);
        kill_process(pid, Signal::CONT).unwrap();
        let failed = copier.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(2), "{said}");
        assert!(said.contains("no room for") && said.contains("bytes needed"), "{said}");
        assert_eq!(said.matches("no room").count(), 1, "one message: {said}");
        assert_untouched(&container, kind, &before, "it filled up");
        assert_eq!(leftovers(&container.shared(kind)), [".syncing"], "what was copied is gone, its lease is released");
        fs::remove_file(mount.at.join("user")).unwrap();
        let next = succeed(command(container.root(), kind, "3600").arg("--json"));
        assert_eq!(next.event("done")["role"], "took_over");
        assert_eq!(fs::metadata(container.shared(kind).join(kind.trees()[0].1).join("large")).unwrap().len(), 6 << 20);
    }
}

#[test]
fn a_read_only_volume_is_a_clear_error_unless_it_has_everything() {
    for kind in Kind::BOTH {
        let first = Container::new();
        let mount = Mount::tmpfs(&first.path("workspace"), "size=10m");
        let remount = |options: &str| tool("mount", ["-o", &format!("remount,{options}"), mount.at.to_str().unwrap()]);
        let before = trees(&first, kind);
        remount("ro");
        let refused = run(&mut first.command(kind));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("is read-only") && refused.stderr.contains("hint: mount"), "{refused:?}");
        assert_untouched(&first, kind, &before, "read-only");
        remount("rw");
        succeed(&mut first.command(kind));
        remount("ro");
        // Another instance needs only to link.
        let second = Container::new();
        let bound = Mount::new(&second.path("workspace"), &["--bind", mount.at.to_str().unwrap()]);
        succeed(&mut second.command(kind));
        for (path, _) in kind.trees() {
            assert!(second.path(path).is_symlink(), "{path}");
        }
        drop(bound);
        remount("rw");
    }
}

#[test]
fn a_volume_without_links_is_refused_before_anything_is_written() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let before = trees(&container, kind);
        let failed = run(container.command(kind).env(FAULT, "fail:stage.symlink=1"));
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(failed.stderr.contains("cannot hold symbolic links"), "{failed:?}");
        assert_eq!(names(&container.path("workspace")), [""; 0]);
        assert_untouched(&container, kind, &before, "no links");
    }
}

#[test]
fn a_volume_that_appears_late_hides_what_was_moved_and_nothing_is_lost() {
    for kind in Kind::BOTH {
        let container = Container::new();
        // Moved onto what is the container's own disk, while the volume was not there …
        succeed(&mut container.command(kind));
        // … and then it is there, and hides that.
        let mount = Mount::tmpfs(&container.path("workspace"), "size=10m");
        let dangling = run(&mut container.command(kind));
        assert_eq!(dangling.code, Some(2), "{dangling:?}");
        assert!(dangling.stderr.contains("which is not there"), "{dangling:?}");
        drop(mount);
        assert_moved(container.root(), kind, "nothing was lost");
    }
}

#[test]
fn a_directory_that_is_a_mount_of_its_own_stays() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let (path, to) = kind.trees()[0];
        let here = container.path(path);
        let aside = tempfile::tempdir().unwrap();
        tool("cp", ["-a", &format!("{}/.", here.display()), aside.path().to_str().unwrap()]);
        let mount = Mount::new(&here, &["--bind", aside.path().to_str().unwrap()]);
        let failed = run(&mut container.command(kind));
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(failed.stderr.contains("it is a mount of its own"), "{failed:?}");
        assert!(container.shared(kind).join(to).exists(), "it is on the volume all the same");
        for (path, _) in &kind.trees()[1..] {
            assert!(container.path(path).is_symlink(), "{path}");
        }
        drop(mount);
        succeed(&mut container.command(kind));
        assert!(here.is_symlink());
    }
}

#[test]
fn after_a_power_failure_what_is_there_is_whole_and_the_next_boot_finishes() {
    for kind in Kind::BOTH {
        let marks = kind.trees().len() + 1;
        // Before and after each tree, and before and after the mark of completeness.
        for nth in 1..=marks + 1 {
            let container = Container::new();
            let disk = tempfile::tempdir().unwrap();
            let (image, snapshot) = (disk.path().join("image"), disk.path().join("snapshot"));
            fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
            tool("mkfs.ext4", ["-q", "-m", "0", image.to_str().unwrap()]);
            let fault = if nth <= marks {
                format!("stop-before:publish.rename@{nth}")
            } else {
                "stop-before:lease.unlink@1".to_owned()
            };
            let mount = Mount::new(&container.path("workspace"), &["-o", "loop", image.to_str().unwrap()]);
            let mut copier = container.command(kind).env(FAULT, &fault).spawn().unwrap();
            let pid = wait_until_stopped(&copier);
            // What the filesystem has not written out is not in the image: that is what a power failure leaves.
            fs::copy(&image, &snapshot).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            copier.wait().unwrap();
            drop(mount);
            let mount = Mount::new(&container.path("workspace"), &["-o", "loop", snapshot.to_str().unwrap()]);
            let _ = fs::remove_dir(mount.at.join("lost+found"));
            assert_nothing_partial(&container.shared(kind), kind, &fault);
            succeed(&mut container.command(kind));
            assert_moved(container.root(), kind, &fault);
        }
    }
}
