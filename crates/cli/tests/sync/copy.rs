//! `vast-sync copy`.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::command::{Run, run, succeed, tool, vast_sync, wait_until_stopped};
use crate::mount::Mount;
use crate::tree::{assert_alike, everything, listing, names, set_mode};

fn copy(from: &Path, to: &Path) -> std::process::Command {
    let mut command = vast_sync();
    command.arg("copy").arg(from).arg(to);
    command
}

#[test]
fn a_copy_keeps_everything_a_tree_can_have() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    everything(&from);
    let before = listing(&from);
    let run = succeed(copy(&from, &to).args(["--verify=checksum", "--json"]));
    assert_alike(&from, &to);
    assert_eq!(listing(&from), before, "the source is as it was");
    assert_eq!(names(root.path()), ["from", "to"], "nothing else is left");
    let done = run.event("done");
    assert_eq!((&done["verified"], &done["left_out"]), (&true.into(), &0.into()));
    assert_eq!(run.event("start")["entries"], done["entries"]);
    assert_eq!(done["entries"], before.len());
}

#[test]
fn a_directory_with_access_lists_does_not_pass_them_on_to_a_copy() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    // This one has a default ACL, which anything made in it inherits.
    let to = from.join("deep/er/to");
    let inner = root.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "").unwrap();
    succeed(copy(&inner, &to).arg("--verify"));
    assert_alike(&inner, &to);
}

#[test]
fn a_single_file_a_link_and_a_fifo_are_copied_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    for name in ["odd", "owned", "absolute", "dangling", "fifo", "set-user-id", "sparse"] {
        let (one, to) = (from.join(name), root.path().join("to"));
        succeed(copy(&one, &to).arg("--verify=checksum"));
        let facts = |path| {
            let facts = fs::symlink_metadata(path).unwrap();
            (facts.mode(), facts.uid(), facts.gid(), facts.mtime(), facts.mtime_nsec(), facts.len())
        };
        assert_eq!(facts(&one), facts(&to), "{name}");
        assert_eq!(fs::read_link(&one).ok(), fs::read_link(&to).ok(), "{name}");
        fs::remove_file(to).unwrap();
    }
}

#[test]
fn large_files_arrive_whole_with_their_holes_and_their_other_names() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir_all(from.join("deep")).unwrap();
    // Neither ends where a range does.
    let content: Vec<u8> =
        (0..90_000_001_u64).map(|at| (at.wrapping_mul(0x9E37_79B9) >> 24).to_le_bytes()[0]).collect();
    fs::write(from.join("dense"), &content).unwrap();
    fs::hard_link(from.join("dense"), from.join("deep/dense-too")).unwrap();
    set_mode(&from.join("dense"), 0o4751);
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    for (at, bytes) in [(0, 5), (15 << 20, 3 << 20), (100 << 20, 70_000)] {
        sparse.write_all_at(&content[..bytes], at).unwrap();
    }
    sparse.set_len((200 << 20) + 1).unwrap();
    fs::File::create(from.join("empty")).unwrap().set_len(100 << 20).unwrap();

    succeed(copy(&from, &to).arg("--verify=checksum"));
    assert_alike(&from, &to);
    let alone = root.path().join("alone");
    succeed(copy(&from.join("sparse"), &alone).arg("--verify=checksum"));
    fs::remove_file(to.join("dense")).unwrap();
    fs::remove_file(to.join("sparse")).unwrap();
    fs::remove_dir_all(to.join("deep")).unwrap();
    succeed(copy(&from, &to).arg("--merge"));
    assert_alike(&from.join("deep"), &to.join("deep"));
    for (name, copies) in [("dense", vec![to.join("dense")]), ("sparse", vec![to.join("sparse"), alone])] {
        for copied in copies {
            tool("cmp", [&from.join(name), &copied]);
            let facts = |path: &Path| {
                let facts = fs::metadata(path).unwrap();
                (facts.mode(), facts.mtime_nsec(), facts.nlink(), facts.blocks() / 2048)
            };
            let (was, is) = (facts(&from.join(name)), facts(&copied));
            assert_eq!((was.0, was.1, was.2), (is.0, is.1, is.2), "{name}");
            assert!(is.3 <= was.3, "{name}: {} MB for {}", is.3, was.3);
        }
    }
}

#[test]
fn an_empty_directory_is_replaced_and_one_with_content_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("file"), "new").unwrap();
    succeed(&mut copy(&from, &to));
    assert_alike(&from, &to);
    fs::write(to.join("file"), "user's").unwrap();
    let again = run(&mut copy(&from, &to));
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("is there already") && again.stderr.contains("--merge"), "{again:?}");
    assert_eq!(fs::read(to.join("file")).unwrap(), b"user's");
    for other in ["file", "link"] {
        let to = root.path().join(other);
        if other == "file" {
            fs::write(&to, "").unwrap();
        } else {
            symlink("to", &to).unwrap();
        }
        assert_eq!(run(&mut copy(&from, &to)).code, Some(2), "{other}");
    }
    assert_eq!(names(root.path()), ["file", "from", "link", "to"]);
}

#[test]
fn merging_adds_what_is_missing_and_touches_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    everything(&from);
    fs::create_dir_all(to.join("deep/er")).unwrap();
    fs::write(to.join("large"), "user's").unwrap();
    fs::write(to.join("deep/mine"), "user's").unwrap();
    fs::write(to.join("deep/one-three"), "user's").unwrap();
    // What is a directory in the source is a link here: nothing is written through it.
    fs::create_dir(root.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", to.join("empty")).unwrap();
    symlink("../../../elsewhere", to.join("deep/er/and")).unwrap();
    succeed(copy(&from, &to).arg("--merge"));
    for kept in ["large", "deep/mine", "deep/one-three"] {
        assert_eq!(fs::read(to.join(kept)).unwrap(), b"user's", "{kept}");
    }
    assert_eq!(names(&root.path().join("elsewhere")), [""; 0]);
    assert_eq!(fs::read(from.join("odd")).unwrap(), fs::read(to.join("odd")).unwrap());
    let inode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("deep/er/one-too"));
    assert_ne!(inode("one"), inode("deep/one-three"));
    assert!(!names(&to).iter().any(|name| name.contains("partial")), "{:?}", names(&to));
    let missing = |one: &Path, other: &Path| -> Vec<String> {
        let there = names(other);
        names(one).into_iter().filter(|name| !there.contains(name)).collect()
    };
    assert_eq!(missing(&from, &to), [""; 0]);
    assert_eq!(missing(&from.join("deep/er"), &to.join("deep/er")), [""; 0]);
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed_out_of_the_source() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir_all(root.path().join("secret")).unwrap();
    fs::write(root.path().join("secret/key"), "secret").unwrap();
    fs::create_dir(&from).unwrap();
    symlink("../secret", from.join("link")).unwrap();
    succeed(&mut copy(&from, &to));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("../secret"));
    assert_alike(&from, &to);
}

#[test]
fn sockets_are_left_out_with_a_note() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), "").unwrap();
    let _one = UnixListener::bind(from.join("one")).unwrap();
    let _two = UnixListener::bind(from.join("two")).unwrap();
    let run = succeed(copy(&from, &to).args(["--json", "--verify"]));
    assert_eq!(names(&to), ["file"]);
    assert_eq!(run.event("done")["left_out"], 2);
    assert_eq!(run.events("warning").len(), 1, "one note for all of them");
}

#[test]
fn a_copy_into_itself_is_refused_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir_all(from.join("inner")).unwrap();
    fs::write(from.join("inner/file"), "").unwrap();
    let run = run(&mut copy(&from, &from.join("inner/to")));
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("lies inside the source"), "{run:?}");
    assert_eq!(names(&from.join("inner")), ["file"]);
}

#[test]
fn a_source_that_is_to_disappear_is_renamed_on_one_filesystem_and_removed_after_a_copy_to_another() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    everything(&from);
    let (before, inode) = (listing(&from), fs::metadata(from.join("large")).unwrap().ino());
    fs::create_dir(&to).unwrap();
    succeed(copy(&from, &to).arg("--move"));
    assert_eq!(listing(&to), before);
    assert_eq!(fs::metadata(to.join("large")).unwrap().ino(), inode, "the same file");
    assert_eq!(names(root.path()), ["to"]);

    let volume = Mount::tmpfs(&root.path().join("volume"), "size=200m");
    succeed(copy(&to, &volume.at.join("moved")).arg("--move"));
    assert_eq!(listing(&volume.at.join("moved")), before);
    assert_eq!(names(root.path()), ["volume"]);
}

#[test]
fn a_source_of_which_something_is_lost_on_the_way_stays() {
    let root = tempfile::tempdir().unwrap();
    let from = root.path().join("from");
    fs::create_dir(&from).unwrap();
    everything(&from);
    let before = listing(&from);
    // It has no attributes.
    let volume = Mount::new(&root.path().join("volume"), &["-t", "ramfs", "ramfs"]);
    let run = succeed(copy(&from, &volume.at.join("to")).arg("--move"));
    assert!(run.stderr.contains("stays, since not everything of it is in the copy"), "{run:?}");
    assert_eq!(listing(&from), before);
    // And what is there is not replaced by a rename either.
    fs::create_dir_all(root.path().join("user/theirs")).unwrap();
    assert_eq!(crate::command::run(copy(&from, &root.path().join("user")).arg("--move")).code, Some(2));
    assert_eq!(listing(&from), before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    everything(&from);
    let plan = succeed(copy(&from, &to).args(["--dry-run", "--json"])).event("plan");
    assert_eq!(plan["entries"], listing(&from).len());
    assert_eq!(names(root.path()), ["from"]);
}

#[test]
fn a_tree_that_is_both_wide_and_deep_is_copied_with_few_open_files() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    // More directories side by side than jobs may wait, at several depths.
    let mut at = from.clone();
    for depth in 0..4 {
        for index in 0..300 {
            fs::create_dir_all(at.join(format!("{depth}-{index}/inner"))).unwrap();
        }
        at.push(format!("{depth}-299"));
    }
    for _ in 0..60 {
        at.push("d");
        fs::create_dir(&at).unwrap();
    }
    fs::write(at.join("bottom"), "here").unwrap();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", "ulimit -n 400; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_vast-sync"), "copy"]);
    succeed(command.arg(&from).arg(&to).arg("--verify"));
    assert_alike(&from, &to);
}

/// The copy is complete and not yet compared when it is flushed: what is changed then is found.
#[test]
fn comparing_finds_what_the_volume_lost_and_nothing_is_published() {
    let lose =
        "s=$(stat -c %y \"$0\"); printf X | dd of=\"$0\" bs=1 seek=1 conv=notrunc status=none; touch -d \"$s\" \"$0\"";
    for (depth, script, found) in [
        ("--verify=checksum", lose, true),
        ("--verify", lose, false),
        ("--verify", "chmod 600 \"$0\"", true),
        ("--verify", "rm \"$0\"", true),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), "content").unwrap();
        fs::write(from.join("other"), "content").unwrap();
        let mut copier = vast_sync();
        copier.arg("copy").arg(depth).arg(&from).arg(&to).env("VAST_SYNC_FAULT", "stop-before:flush.syncfs@1");
        let copier = copier.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = wait_until_stopped(&copier);
        let partial = names(root.path()).into_iter().find(|name| name.starts_with(".copy_")).unwrap();
        let file = root.path().join(partial).join("inner/file");
        tool("sh", ["-ec", script, file.to_str().unwrap()]);
        kill_process(pid, Signal::CONT).unwrap();
        let run = Run::from(copier.wait_with_output().unwrap());
        assert_eq!((run.code, to.exists()), if found { (Some(1), false) } else { (Some(0), true) }, "{depth}: {run:?}");
        assert_eq!(run.stderr.contains("inner/file"), found, "{run:?}");
        assert_eq!(names(root.path()), if found { vec!["from"] } else { vec!["from", "to"] }, "{depth}");
    }
}
