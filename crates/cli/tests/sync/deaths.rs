//! Deaths while environments and homes move: SIGKILL before and after every system call that decides what others see, and
//! at two hundred points chosen by chance.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::chance::Chance;
use crate::command::{Run, run, succeed, vast_sync};
use crate::container::{
    Container, Kind, SHORT_LEASE, assert_login_works, assert_moved, assert_nothing_partial, command, leftovers,
};
use crate::mount::Memory;

const FAULT: &str = "VAST_SYNC_FAULT";
const LOG: &str = "VAST_SYNC_FAULT_LOG";

/// As on an ordinary disk; and where a filesystem cannot rename without replacing, and directories cannot be exchanged with
/// links, as on the lower layer of an overlay.
const MODES: [&str; 2] = ["", "fail:claim.rename=22,fail:publish.rename=22,fail:relink.exchange=18"];

/// The calls of an undisturbed run, in order.
fn calls(memory: &Memory, kind: Kind, and: &str) -> Vec<String> {
    let container = Container::within(memory.path());
    let log = container.path("log");
    succeed(container.command(kind).env(LOG, &log).env(FAULT, and));
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// Runs until the fault, and checks what is there then.
fn die(container: &Container, kind: Kind, fault: &str, and: &str) -> Run {
    let died = run(container.command(kind).env(FAULT, format!("{fault},{and}")));
    assert_nothing_partial(&container.shared(kind), kind, fault);
    // A home is gone for the time between two calls, where it cannot be exchanged; the next run makes good for that.
    let in_between = fault.contains("relink.") && and.contains("relink.exchange");
    if kind == Kind::Home && !in_between && !fault.contains('*') {
        assert_login_works(container.root(), fault);
    }
    died
}

/// Lets another run finish, and checks that all is there and, after `gc`, nothing else.
fn recover(container: &Container, kind: Kind, context: &str, and: &str) {
    succeed(container.command(kind).env(FAULT, and));
    assert_moved(container.root(), kind, context);
    gc(container.root());
    assert_moved(container.root(), kind, context);
    assert_eq!(leftovers(&container.shared(kind)), [""; 0], "{context}");
    for directory in
        ["", "venv", "opt", "home", "home_ssh/root", "home_ssh/user", "var/lib/vast-sync/relink", "workspace"]
    {
        let names = fs::read_dir(container.path(directory)).into_iter().flatten();
        for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            let is_left = name.contains(".vast-") || name.contains(".partial") || name.starts_with('%');
            assert!(!is_left || name == ".vast_api_key", "{context}: {directory}/{name}");
        }
    }
}

fn gc(root: &Path) {
    let mut command = vast_sync();
    succeed(command.args(["gc", "--apply", "--lease", SHORT_LEASE, "--root"]).arg(root));
}

/// Those that others could see the effect of. The rest happens in what is staged.
fn decides(point: &str) -> bool {
    !["stage.", "flush.", "content.", "sweep."].iter().any(|private| point.starts_with(private))
}

fn die_at_every_deciding_call(kind: Kind) {
    let memory = Memory::new();
    let mut seen = BTreeSet::new();
    for and in MODES {
        let calls = calls(&memory, kind, and);
        let points: BTreeSet<&String> = calls.iter().filter(|point| decides(point)).collect();
        for point in points {
            seen.insert(point.clone());
            let times = calls.iter().filter(|call| *call == point).count();
            for nth in 1..=times {
                for when in ["kill-before", "kill-after"] {
                    let fault = format!("{when}:{point}@{nth}");
                    let container = Container::within(memory.path());
                    let died = die(&container, kind, &fault, and);
                    assert!(died.killed, "{fault} {and}: {died:#?}");
                    recover(&container, kind, &format!("{fault} {and}"), and);
                }
            }
        }
    }
    let mut expected = vec![
        "claim.mkdir",
        "claim.rename",
        "claim.mkdir-plain",
        "claim.rmdir",
        "lease.create",
        "lease.unlink",
        "publish.rename",
        "publish.plain-rename",
        "publish.link",
        "relink.symlink",
        "relink.exchange",
        "relink.remove",
        "relink.rmdir",
        "relink.rename",
        "journal.rename",
        "journal.unlink",
    ];
    if kind == Kind::Home {
        expected.extend(["ssh.rename", "ssh.symlink", "platform.rename"]);
    }
    for point in expected {
        assert!(seen.contains(point), "{point}: {seen:?}");
    }
}

#[test]
fn a_death_at_any_deciding_call_of_an_environment_is_made_good() {
    die_at_every_deciding_call(Kind::Environment);
}

#[test]
fn a_death_at_any_deciding_call_of_a_home_is_made_good() {
    die_at_every_deciding_call(Kind::Home);
}

fn die_by_chance(kind: Kind) {
    let memory = Memory::new();
    let mut chance = Chance::new();
    let counts: Vec<usize> = MODES.iter().map(|and| calls(&memory, kind, and).len()).collect();
    let mut killed = 0;
    while killed < 200 {
        let mode = chance.below(MODES.len());
        let (and, when) = (MODES[mode], *chance.pick(&["kill-before", "kill-after"]));
        let fault = format!("{when}:*@{}", 1 + chance.below(counts[mode]));
        let context = format!("VAST_TEST_SEED={} {fault} {and}", chance.seed);
        let container = Container::within(memory.path());
        // The number of calls differs a little from run to run, as threads do.
        let died = die(&container, kind, &fault, and);
        assert!(died.killed || died.code == Some(0), "{context}: {died:#?}");
        killed += usize::from(died.killed);
        recover(&container, kind, &context, and);
    }
}

#[test]
fn two_hundred_deaths_of_an_environment_at_points_chosen_by_chance_are_made_good() {
    die_by_chance(Kind::Environment);
}

#[test]
fn two_hundred_deaths_of_a_home_at_points_chosen_by_chance_are_made_good() {
    die_by_chance(Kind::Home);
}

#[test]
fn a_death_while_taking_over_is_made_good_by_the_next() {
    let memory = Memory::new();
    for kind in Kind::BOTH {
        for first in ["kill-before:publish.rename@2", "kill-after:claim.mkdir-plain,fail:claim.rename=22"] {
            let mut points = BTreeSet::new();
            let container = Container::within(memory.path());
            assert!(die(&container, kind, first, "").killed);
            let log = container.path("log");
            succeed(container.command(kind).env(LOG, &log));
            for point in fs::read_to_string(log).unwrap().lines() {
                if decides(point) || point.starts_with("sweep.") {
                    points.insert(point.to_owned());
                }
            }
            assert!(points.contains("takeover.mkdir"), "{first}: {points:?}");
            for point in points {
                for when in ["kill-before", "kill-after"] {
                    let container = Container::within(memory.path());
                    let context = format!("{first}, then {when}:{point}");
                    assert!(die(&container, kind, first, "").killed, "{context}");
                    assert!(die(&container, kind, &format!("{when}:{point}@1"), "").killed, "{context}");
                    recover(&container, kind, &context, "");
                }
            }
        }
    }
}

#[test]
fn what_was_published_before_a_death_is_not_copied_again() {
    for kind in Kind::BOTH {
        let container = Container::new();
        assert!(die(&container, kind, "kill-after:publish.rename@1", "").killed);
        let first = container.shared(kind).join(kind.trees()[0].1);
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&first);
        let run = succeed(container.command(kind).arg("--json"));
        assert_eq!(run.event("done")["role"], "took_over");
        let expected = crate::container::expected(kind);
        let first_entries = crate::container::contents(&first).len();
        let all: usize = expected.values().map(std::collections::BTreeMap::len).sum();
        assert!(run.event("done")["entries"].as_u64().unwrap() <= (all - first_entries) as u64, "{run:?}");
        assert_eq!(inode(&first), before);
        assert_moved(container.root(), kind, "taken over");
    }
}

#[test]
fn a_failure_of_the_volume_leaves_the_container_as_it_was_and_the_directory_to_the_next() {
    for kind in Kind::BOTH {
        for fault in
            ["fail:content.write@1=28,fail:content.range=18", "fail:flush.syncfs@1=5", "fail:publish.rename@2=5"]
        {
            let container = Container::new();
            let before: Vec<_> =
                kind.trees().iter().map(|(path, _)| crate::container::contents(&container.path(path))).collect();
            let failed = run(container.command(kind).env(FAULT, fault));
            assert_eq!(failed.code, Some(2), "{fault}: {failed:?}");
            let after: Vec<_> =
                kind.trees().iter().map(|(path, _)| crate::container::contents(&container.path(path))).collect();
            assert_eq!(before, after, "{fault}");
            assert_nothing_partial(&container.shared(kind), kind, fault);
            // It has said so in its lease: the next does not wait, though it would wait for an hour.
            let next = succeed(command(container.root(), kind, "3600").arg("--json"));
            assert_eq!(next.event("done")["role"], "took_over");
            assert_moved(container.root(), kind, fault);
            gc(container.root());
            assert_eq!(leftovers(&container.shared(kind)), [""; 0], "{fault}");
        }
    }
}
