//! The power fails: what a disk holds at that moment is all there is, and the filesystem replays its journal.
//!
//! The disk is a file. A copy of the file, made while the filesystem on it is mounted and nothing was flushed for the sake of the
//! copy, is a disk whose machine lost power. What the kernel had in memory alone is not on it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::command::{tool, workspace};
use crate::mount::Mount;
use crate::tree::{assert_alike, everything, listing, names_but_locks};

/// Boots until the second item is about to get its name, loses power, and hands what is left of the volume to a check.
fn lose_power(fault: &str, check: impl FnOnce(&Path, &Path)) {
    let root = tempfile::tempdir().unwrap();
    for item in ["internal/first", "internal/second"] {
        fs::create_dir_all(root.path().join(item)).unwrap();
        everything(&root.path().join(item));
    }
    let volume = Mount::ext4(&root.path().join("workspace"), 64, 4096);
    let fault = format!("stop-before:publish.rename@2,{fault}");
    let mut boot = workspace(root.path()).env("VAST_SYNC_FAULT", fault).spawn().unwrap();
    let pid = Pid::from_child(&boot);
    let status = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap().1;
    assert!(status.stopped(), "{status:?}");
    // Someone else's file: its flush commits the journal, and with it the name of the first item.
    let mut other = File::create(volume.at.join("other")).unwrap();
    other.write_all(b"flushed").unwrap();
    other.sync_all().unwrap();
    drop(other);
    let after = root.path().join("after");
    tool("cp", ["--sparse=always", volume.image().to_str().unwrap(), after.to_str().unwrap()]);
    kill_process(pid, Signal::KILL).unwrap();
    boot.wait().unwrap();
    drop(volume);
    let volume = Mount::new(&root.path().join("workspace"), &["-o", "loop", after.to_str().unwrap()]);
    check(root.path(), &volume.at);
}

#[test]
fn what_has_its_name_when_the_power_fails_is_whole_and_the_next_boot_finishes() {
    lose_power("", |root, volume| {
        let there = names_but_locks(volume);
        let published: Vec<_> = there.iter().filter(|name| !name.starts_with('.')).collect();
        assert_eq!(published.len(), 2, "one item, and someone else's file: {there:?}");
        let item = published.iter().find(|name| **name != "other").unwrap();
        assert_alike(&root.join("internal").join(item), &volume.join(item));
        crate::command::succeed(&mut workspace(root));
        for item in ["first", "second"] {
            assert_alike(&root.join("internal").join(item), &volume.join(item));
        }
        assert_eq!(names_but_locks(volume), ["first", "other", "second"]);
    });
}

#[test]
fn without_the_flush_the_same_loss_of_power_leaves_a_broken_item() {
    // Otherwise the test above would prove nothing.
    lose_power("fail:flush.syncfs=38", |root, volume| {
        let there = names_but_locks(volume);
        let item = there.iter().find(|name| !name.starts_with('.') && *name != "other").unwrap();
        assert_ne!(listing(&root.join("internal").join(item)), listing(&volume.join(item)));
    });
}
