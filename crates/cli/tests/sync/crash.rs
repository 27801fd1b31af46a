//! Deaths: SIGKILL before and after every system call that decides what others see, and at many points in between.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::chance::Chance;
use crate::command::{Run, run, succeed, tool, vast_sync, workspace};
use crate::mount::Memory;
use crate::tree::{assert_alike, names, names_but_locks};

const FAULT: &str = "VAST_SYNC_FAULT";
const LOG: &str = "VAST_SYNC_FAULT_LOG";

/// A few items of every kind, small, since they are copied hundreds of times; on this machine's disk.
fn root() -> tempfile::TempDir {
    filled(tempfile::tempdir().unwrap())
}

/// The same in memory.
fn root_within(memory: &Memory) -> tempfile::TempDir {
    filled(tempfile::tempdir_in(memory.path()).unwrap())
}

fn filled(root: tempfile::TempDir) -> tempfile::TempDir {
    let internal = root.path().join("internal");
    fs::create_dir_all(internal.join("app/lib/inner")).unwrap();
    for index in 0..40 {
        fs::write(internal.join(format!("app/lib/{index}")), format!("file {index}")).unwrap();
    }
    fs::write(internal.join("app/large"), vec![7; 300_000]).unwrap();
    fs::hard_link(internal.join("app/large"), internal.join("app/lib/inner/too")).unwrap();
    symlink("large", internal.join("app/link")).unwrap();
    fs::create_dir(internal.join("empty")).unwrap();
    fs::write(internal.join("file"), "a file").unwrap();
    symlink("app", internal.join("link")).unwrap();
    fs::write(internal.join("user"), "the image's").unwrap();
    fs::create_dir(root.path().join("workspace")).unwrap();
    fs::write(root.path().join("workspace/user"), "the user's").unwrap();
    root
}

const ITEMS: [&str; 4] = ["app", "empty", "file", "link"];

/// What has an item's name is all of that item.
#[track_caller]
fn assert_nothing_partial(root: &Path, context: &str) {
    let (internal, target) = (root.join("internal"), root.join("workspace"));
    for item in ITEMS {
        let (from, to) = (internal.join(item), target.join(item));
        match fs::symlink_metadata(&to) {
            Err(_) => {}
            Ok(facts) if facts.is_dir() => {
                assert_alike(&from, &to);
            }
            Ok(facts) => {
                let source = fs::symlink_metadata(&from).unwrap();
                assert_eq!(facts.mode(), source.mode(), "{context}: {item}");
                assert_eq!(facts.mtime_nsec(), source.mtime_nsec(), "{context}: {item}");
                assert_eq!(fs::read_link(&to).ok(), fs::read_link(&from).ok(), "{context}: {item}");
                assert_eq!(fs::read(&to).ok(), fs::read(&from).ok(), "{context}: {item}");
            }
        }
    }
    assert_eq!(fs::read(target.join("user")).unwrap(), b"the user's", "{context}");
}

/// Dies as told, checks, lets another run finish, and checks that all is there and nothing else.
fn die_and_recover(root: &Path, fault: &str, and: &str) -> Run {
    let died = run(workspace(root).env(FAULT, format!("{fault},{and}")));
    assert_nothing_partial(root, fault);
    let finished = succeed(workspace(root).env(FAULT, and));
    assert_nothing_partial(root, fault);
    let there = names_but_locks(&root.join("workspace"));
    assert_eq!(there, ["app", "empty", "file", "link", "user"], "{fault} {and}: {died:#?} {finished:#?}");
    died
}

/// The calls of an undisturbed run, in order.
fn calls(root: &Path, and: &str) -> Vec<String> {
    let log = root.join("log");
    succeed(workspace(root).env(LOG, &log).env(FAULT, and));
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// The filesystem does as if it could not rename without replacing.
const NO_EXCLUSIVE_RENAME: &str = "fail:publish.rename=22";
/// … nor link.
const NO_LINKS: &str = "fail:publish.rename=22,fail:publish.link=95";
/// Locks are refused.
const NO_LOCKS: &str = "fail:lock.flock=37";

#[test]
fn a_death_at_any_publishing_call_leaves_nothing_partial_and_is_made_good() {
    for (and, publishing) in [
        ("", vec!["publish.rename"]),
        (NO_EXCLUSIVE_RENAME, vec!["publish.link", "publish.unlink", "publish.plain-rename"]),
        (NO_LINKS, vec!["publish.plain-rename"]),
        (NO_LOCKS, vec!["publish.rename"]),
    ] {
        let calls = calls(root().path(), and);
        for point in publishing {
            let times = calls.iter().filter(|call| *call == point).count();
            assert!(times > 0, "{point} is passed: {calls:?}");
            for nth in 1..=times {
                for when in ["kill-before", "kill-after"] {
                    let died = die_and_recover(root().path(), &format!("{when}:{point}@{nth}"), and);
                    assert!(died.killed, "{when}:{point}@{nth}: {died:?}");
                }
            }
        }
    }
}

#[test]
fn a_death_before_any_other_call_leaves_nothing_partial_and_is_made_good() {
    die_at_every_call("kill-before");
}

#[test]
fn a_death_after_any_other_call_leaves_nothing_partial_and_is_made_good() {
    die_at_every_call("kill-after");
}

fn die_at_every_call(when: &str) {
    let memory = Memory::new();
    let calls = calls(root_within(&memory).path(), "");
    let kinds: BTreeSet<&str> = calls.iter().map(String::as_str).collect();
    for expected in
        ["flush.syncfs", "lock.flock", "publish.rename", "stage.create", "stage.link", "stage.mkdir", "stage.symlink"]
    {
        assert!(kinds.contains(expected), "{expected}: {kinds:?}");
    }
    assert!(calls.len() >= 100, "{} points", calls.len());
    for nth in 1..=calls.len() {
        let died = die_and_recover(root_within(&memory).path(), &format!("{when}:*@{nth}"), "");
        assert!(died.killed, "{nth} of {calls:?}");
    }
}

#[test]
fn two_hundred_deaths_at_points_chosen_by_chance_are_made_good() {
    let memory = Memory::new();
    let mut chance = Chance::new();
    let modes = ["", NO_EXCLUSIVE_RENAME, NO_LINKS, NO_LOCKS];
    let counts: Vec<usize> = modes.iter().map(|and| calls(root_within(&memory).path(), and).len()).collect();
    let mut killed = 0;
    while killed < 200 {
        let mode = chance.below(modes.len());
        let when = *chance.pick(&["kill-before", "kill-after"]);
        let fault = format!("{when}:*@{}", 1 + chance.below(counts[mode]));
        let died = die_and_recover(root_within(&memory).path(), &fault, modes[mode]);
        // The number of calls differs a little from run to run, as threads do.
        assert!(
            died.killed || died.code == Some(0),
            "VAST_TEST_SEED={} {fault} {}: {died:#?}",
            chance.seed,
            modes[mode]
        );
        killed += usize::from(died.killed);
    }
}

#[test]
fn a_death_while_clearing_away_what_another_left_is_made_good() {
    for and in ["", NO_LOCKS] {
        let mut nth = 0;
        loop {
            nth += 1;
            let root = root();
            assert!(run(workspace(root.path()).env(FAULT, format!("kill-before:publish.rename@1,{and}"))).killed);
            // Die at the nth call of the sweeping itself, as long as there is one.
            let fault =
                ["sweep.rename", "sweep.unlink", "sweep.rmdir"].map(|point| format!("kill-after:{point}@{nth}"));
            let died = run(workspace(root.path()).env(FAULT, format!("{},{and}", fault.join(","))));
            assert_nothing_partial(root.path(), &fault.join(","));
            succeed(workspace(root.path()).env(FAULT, and));
            let there = names_but_locks(&root.path().join("workspace"));
            assert_eq!(there, ["app", "empty", "file", "link", "user"], "{nth} {and}");
            if !died.killed {
                break;
            }
        }
        assert!(nth > 1, "it died at least once");
    }
}

#[test]
fn a_death_in_a_plain_copy_leaves_nothing_at_its_target_and_is_made_good() {
    for when in ["kill-before:publish.rename", "kill-after:stage.create@9", "kill-before:flush.syncfs"] {
        let root = root();
        let (from, to) = (root.path().join("internal/app"), root.path().join("to/app"));
        fs::create_dir(root.path().join("to")).unwrap();
        let copy = || {
            let mut command = vast_sync();
            command.arg("copy").arg(&from).arg(&to);
            command
        };
        assert!(run(copy().env(FAULT, when)).killed, "{when}");
        assert!(!to.exists(), "{when}");
        assert_eq!(names(&root.path().join("to")).len(), 1, "{when}");
        succeed(&mut copy());
        assert_alike(&from, &to);
        assert_eq!(names(&root.path().join("to")), ["app"], "{when}");
    }
}

#[test]
fn a_death_while_merging_leaves_no_partial_file_under_a_final_name() {
    for nth in 1..30 {
        let root = root();
        let (from, to) = (root.path().join("internal/app"), root.path().join("to"));
        fs::create_dir_all(to.join("lib")).unwrap();
        fs::write(to.join("lib/3"), "the user's").unwrap();
        let merge = || {
            let mut command = vast_sync();
            command.arg("copy").arg("--merge").arg(&from).arg(&to);
            command
        };
        let fault = format!("kill-before:content.write@{nth},kill-after:publish.rename@{nth},fail:content.range=18");
        assert!(run(merge().env(FAULT, fault)).killed, "{nth}");
        for name in names(&to.join("lib")).iter().filter(|name| !["3", "inner"].contains(&name.as_str())) {
            assert_eq!(fs::read(to.join("lib").join(name)).unwrap(), format!("file {name}").as_bytes(), "{nth}");
        }
        assert!(fs::read(to.join("large")).map_or(true, |content| content.len() == 300_000), "{nth}");
        succeed(&mut merge());
        assert_eq!(fs::read(to.join("lib/3")).unwrap(), b"the user's");
        fs::copy(from.join("lib/3"), to.join("lib/3")).unwrap();
        assert_eq!(tool("diff", ["-r", "--no-dereference", from.to_str().unwrap(), to.to_str().unwrap()]), "", "{nth}");
    }
}

#[test]
fn leftovers_are_cleared_away_even_when_all_items_are_in_place() {
    let root = root();
    assert!(run(workspace(root.path()).env(FAULT, format!("kill-after:publish.link@1,{NO_EXCLUSIVE_RENAME}"))).killed);
    succeed(&mut workspace(root.path()));
    let target = root.path().join("workspace");
    // Another image's item, whose owner died on another machine.
    fs::create_dir_all(target.join(".sync_other.partial.00000000-1-1-00000000/inside")).unwrap();
    succeed(&mut workspace(root.path()));
    assert_eq!(names_but_locks(&target), ["app", "empty", "file", "link", "user"]);
}

#[test]
fn a_failing_flush_publishes_nothing() {
    let root = root();
    let failed = run(workspace(root.path()).args(["--json"]).env(FAULT, "fail:flush.syncfs=5"));
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert_eq!(failed.outcome("app"), "failed");
    assert_eq!(failed.outcome("file"), "published", "items do not depend on each other");
    assert!(failed.stderr.contains("cannot flush"), "{failed:?}");
    assert_eq!(names_but_locks(&root.path().join("workspace")), ["file", "link", "user"]);
    succeed(&mut workspace(root.path()));
    assert_nothing_partial(root.path(), "after a failed flush");
}

#[test]
fn errors_of_the_volume_while_writing_name_the_path_and_leave_nothing() {
    for (fault, says) in [
        ("fail:content.write@1=5", "cannot write"),
        ("fail:stage.create@3=5", "cannot create"),
        ("fail:content.write@3=28", "bytes needed"),
        ("fail:stage.mkdir@2=122", "bytes needed"),
    ] {
        let root = root();
        let failed = run(workspace(root.path()).env(FAULT, format!("fail:content.range=18,{fault}")));
        assert_eq!(failed.code, Some(2), "{fault}: {failed:?}");
        assert!(failed.stderr.contains(says) && failed.stderr.contains(".partial."), "{fault}: {failed:?}");
        assert_nothing_partial(root.path(), fault);
        let there = names_but_locks(&root.path().join("workspace"));
        assert!(!there.iter().any(|name| name.contains("partial")), "{fault}: {there:?}");
        succeed(&mut workspace(root.path()));
        assert_eq!(names_but_locks(&root.path().join("workspace")), ["app", "empty", "file", "link", "user"]);
    }
}

#[test]
fn a_target_without_links_is_refused_before_anything_is_written() {
    let root = root();
    let log = root.path().join("log");
    let failed = run(workspace(root.path()).arg("--json").env(FAULT, "fail:stage.symlink=1").env(LOG, &log));
    assert_eq!(failed.outcome("app"), "failed");
    assert_eq!(failed.outcome("file"), "published");
    assert!(failed.stderr.contains("cannot hold symbolic links"), "{failed:?}");
    let log = fs::read_to_string(log).unwrap();
    let of_app = log.lines().position(|point| point == "stage.symlink").unwrap();
    assert!(!log.lines().take(of_app).any(|point| point.starts_with("stage.")), "{log}");
    assert_eq!(names_but_locks(&root.path().join("workspace")), ["empty", "file", "user"]);
}

#[test]
fn what_a_target_cannot_keep_costs_one_warning() {
    let root = root();
    let run = succeed(workspace(root.path()).arg("--json").env(FAULT, "fail:stage.link=95"));
    let warnings = run.event("done")["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert!(warnings[0].as_str().unwrap().contains("no hard links"), "{warnings}");
    let target = root.path().join("workspace/app");
    assert_eq!(fs::read(target.join("large")).unwrap(), fs::read(target.join("lib/inner/too")).unwrap());
}
