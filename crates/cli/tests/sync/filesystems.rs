//! Everything a tree can have, to and from each kind of filesystem.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::command::{Run, run, succeed, tool, vast_sync};
use crate::mount::Mount;
use crate::tree::{assert_alike, assert_rsync_finds_no_difference, everything, listing, names};

fn copy(from: &Path, to: &Path) -> std::process::Command {
    let mut command = vast_sync();
    command.arg("copy").arg(from).arg(to).arg("--json");
    command
}

#[track_caller]
fn assert_same(from: &Path, to: &Path) {
    assert_alike(from, to);
    assert_rsync_finds_no_difference(from, to);
}

/// To the filesystem, within it, and back.
fn there_and_back(filesystem: &Mount) {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    let before = listing(&from);
    let (there, within, back) = (filesystem.at.join("there"), filesystem.at.join("within"), root.path().join("back"));
    for (one, other) in [(&from, &there), (&there, &within), (&within, &back)] {
        let run = succeed(copy(one, other).arg("--verify=checksum"));
        assert_eq!(run.event("done")["warnings"], serde_json::json!([]));
        assert_same(&from, other);
    }
    assert_eq!(listing(&from), before, "the source is as it was");
}

#[test]
fn ext4_keeps_everything() {
    let root = tempfile::tempdir().unwrap();
    there_and_back(&Mount::ext4(&root.path().join("volume"), 64, 4096));
}

#[test]
fn tmpfs_keeps_everything() {
    let root = tempfile::tempdir().unwrap();
    there_and_back(&Mount::tmpfs(&root.path().join("volume"), "size=200m"));
}

#[test]
fn xfs_keeps_everything() {
    let root = tempfile::tempdir().unwrap();
    there_and_back(&Mount::xfs(&root.path().join("volume")));
}

#[test]
fn a_filesystem_that_can_share_blocks_shares_them() {
    let root = tempfile::tempdir().unwrap();
    let volume = Mount::xfs(&root.path().join("volume"));
    let from = volume.at.join("from");
    fs::create_dir(&from).unwrap();
    // Two thirds of the volume, so that a second time there is no room for it.
    fs::write(from.join("large"), vec![7; 200 << 20]).unwrap();
    fs::write(from.join("small"), vec![8; 5000]).unwrap();
    tool("sync", ["-f", from.to_str().unwrap()]);
    let to = volume.at.join("to");
    succeed(copy(&from, &to).arg("--verify=checksum"));
    for name in ["large", "small"] {
        let extents = tool("filefrag", ["-v", to.join(name).to_str().unwrap()]);
        assert!(extents.contains("shared"), "{name}: {extents}");
    }
    // They are two files for all that.
    File::options().write(true).open(to.join("small")).unwrap().write_all_at(b"changed", 0).unwrap();
    assert_eq!(fs::read(from.join("small")).unwrap(), vec![8; 5000]);
}

/// How many warnings speak of that.
fn warnings(run: &Run, of: &str) -> usize {
    run.events("warning").iter().filter(|event| event["text"].as_str().unwrap().contains(of)).count()
}

#[test]
fn fat_is_refused_before_anything_is_written_if_there_are_links() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    let volume = Mount::fat(&root.path().join("volume"));
    let refused = run(&mut copy(&from, &volume.at.join("to")));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("cannot hold symbolic links, and the source has 4"), "{refused:?}");
    assert!(refused.stderr.contains("hint: use a volume with a Linux filesystem"), "{refused:?}");
    assert_eq!(names(&volume.at), [""; 0]);
}

#[test]
fn fat_gets_what_it_can_hold_with_one_warning_for_each_thing_that_it_cannot() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    // Links, sockets and devices, and names that FAT has no letters for.
    let odd = "find . ! -type d ! -type f ! -type p -delete; rm -f *\\\"* not-utf8*";
    tool("sh", ["-ec", &format!("cd '{}'; {odd}", from.display())]);
    for more in 0..20 {
        let name = from.join(format!("deep/more-{more}"));
        fs::write(&name, "theirs").unwrap();
        std::os::unix::fs::chown(&name, Some(1234), Some(5678)).unwrap();
    }
    let volume = Mount::fat(&root.path().join("volume"));
    let run = succeed(copy(&from, &volume.at.join("to")).arg("--verify=checksum"));
    for of in [
        "no ownership",
        "no permissions",
        "no extended attributes",
        "no hard links",
        "to the second or two only",
        "no FIFOs or devices",
    ] {
        assert_eq!(warnings(&run, of), 1, "{of}: {run:#?}");
    }
    assert_eq!(run.events("warning").len(), 6, "{run:#?}");
    assert_eq!(names(&volume.at.join("to")).iter().filter(|name| *name == "fifo").count(), 0, "not as a file either");
    let content = "cd '$1'; find . -type f -exec md5sum {} + | sort";
    let content = |root: &Path| tool("sh", ["-ec", &content.replace("$1", root.to_str().unwrap())]);
    assert_eq!(content(&from), content(&volume.at.join("to")));
    let inode = |name: &str| fs::metadata(volume.at.join("to").join(name)).unwrap().ino();
    assert_ne!(inode("one"), inode("deep/one-three"), "each name has a copy of its own");
}
