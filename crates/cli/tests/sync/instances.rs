//! Several instances moving the same environment or homes: each a process in a mount namespace of its own, with a root of
//! its own and the volume at `/workspace`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use vast_testkit::volume::{Options, Volume};

use crate::command::{Run, run, succeed, tool, vast_sync, wait_until_stopped};
use crate::container::{Kind, assert_nothing_partial, fill, leftovers};
use crate::mount::Mount;
use crate::tree::names;

const FAULT: &str = "VAST_SYNC_FAULT";
const LOG: &str = "VAST_SYNC_FAULT_LOG";

/// Long enough that an instance which only waits for a processor is not taken for dead.
const LEASE: &str = "3";

/// Roots of instances, and the volume they share. All in memory: a disk that is busy elsewhere would hold back signs of life.
struct Fleet {
    mount: Mount,
    _directory: tempfile::TempDir,
}

impl Fleet {
    fn new(instances: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Mount::tmpfs(&directory.path().join("memory"), "size=100m");
        fs::create_dir(mount.at.join("volume")).unwrap();
        for number in 0..instances {
            fill(&mount.at.join(number.to_string()));
        }
        Self { mount, _directory: directory }
    }

    fn path(&self) -> &Path {
        &self.mount.at
    }

    fn root(&self, number: usize) -> PathBuf {
        self.path().join(number.to_string())
    }

    fn shared(&self, kind: Kind) -> PathBuf {
        self.path().join("volume").join(kind.directory())
    }

    /// An instance, ready to start: what it runs replaces the shell that mounts the volume.
    fn command(&self, number: usize, kind: Kind, wrapper: &[&str]) -> Command {
        let root = self.root(number);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc"]);
        command.arg("mount --bind \"$VOLUME\" \"$ROOT/workspace\"; exec \"$@\"").arg("sh").args(wrapper);
        let program = vast_sync();
        command.arg(program.get_program()).arg(kind.name()).arg("--json").arg("--lease").arg(LEASE);
        command.arg("--root").arg(&root);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
        command.env("ROOT", &root).env("VOLUME", self.path().join("volume"));
        command.env("CONTAINER_ID", number.to_string());
        command
    }

    /// All have their links, and login works everywhere.
    #[track_caller]
    fn assert_linked(&self, instances: impl Iterator<Item = usize>, kind: Kind) {
        assert_nothing_partial(&self.shared(kind), kind, "the volume");
        for number in instances {
            for (path, to) in kind.trees() {
                let target = Path::new("/workspace").join(kind.directory()).join(to);
                assert_eq!(fs::read_link(self.root(number).join(path)).ok(), Some(target), "instance {number}: {path}");
            }
            if kind == Kind::Home {
                // Seen through the volume: in this namespace nothing is mounted there.
                fs::remove_dir(self.root(number).join("workspace")).unwrap();
                std::os::unix::fs::symlink("../volume", self.root(number).join("workspace")).unwrap();
                assert_login_through_volume(&self.root(number), &self.path().join("volume"));
            }
        }
        assert_eq!(leftovers(&self.shared(kind)), [""; 0]);
    }
}

#[track_caller]
fn assert_login_through_volume(root: &Path, volume: &Path) {
    for home in ["root", "user"] {
        assert_eq!(
            fs::read_link(volume.join("home").join(home).join(".ssh")).unwrap(),
            Path::new("/home_ssh").join(home).join(".ssh")
        );
        let text = fs::read_to_string(root.join("home_ssh").join(home).join(".ssh/authorized_keys")).unwrap();
        assert!(text.starts_with("authorized_keys of"), "{text}");
    }
    assert!(root.join("home_ssh").is_dir());
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

fn roles(runs: &[Run]) -> Vec<String> {
    runs.iter().map(|run| run.event("done")["role"].as_str().unwrap().to_owned()).collect()
}

fn count(roles: &[String], wanted: &str) -> usize {
    roles.iter().filter(|role| *role == wanted).count()
}

#[test]
fn of_eight_instances_exactly_one_copies_and_all_are_linked() {
    for kind in Kind::BOTH {
        // As on a filesystem that can rename without replacing, and on one that cannot.
        for fault in ["", "fail:claim.rename=22,fail:publish.rename=22"] {
            let fleet = Fleet::new(8);
            let children: Vec<Child> =
                (0..8).map(|number| start(fleet.command(number, kind, &[]).env(FAULT, fault))).collect();
            let runs: Vec<Run> = children.into_iter().map(end).collect();
            assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
            let roles = roles(&runs);
            assert_eq!((count(&roles, "copied"), count(&roles, "none")), (1, 7), "{kind:?} {fault}: {runs:#?}");
            fleet.assert_linked(0..8, kind);
        }
    }
}

#[test]
fn of_seven_that_wait_for_a_dead_copier_exactly_one_takes_over_and_reuses_what_was_published() {
    for kind in Kind::BOTH {
        let fleet = Fleet::new(8);
        let died = run(fleet.command(0, kind, &[]).env(FAULT, "kill-after:publish.rename@1"));
        assert!(died.killed, "{died:?}");
        let first = fleet.shared(kind).join(kind.trees()[0].1);
        let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&first).unwrap());
        let children: Vec<Child> = (1..8).map(|number| start(&mut fleet.command(number, kind, &[]))).collect();
        let runs: Vec<Run> = children.into_iter().map(end).collect();
        assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
        let roles = roles(&runs);
        assert_eq!((count(&roles, "took_over"), count(&roles, "none")), (1, 6), "{runs:#?}");
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&first).unwrap()), before, "it was reused");
        fleet.assert_linked(1..8, kind);
    }
}

/// A filesystem in user space passes everything on to another, late, and need not know what the kernel's own can do.
#[test]
fn on_a_volume_in_user_space_that_answers_late_exactly_one_copies_and_exactly_one_takes_over() {
    for kind in Kind::BOTH {
        for fault in ["", "fail:claim.rename=22,fail:publish.rename=22"] {
            let fleet = Fleet::new(4);
            let behind = fleet.path().join("behind");
            fs::create_dir(&behind).unwrap();
            let late = Options::late(Duration::from_millis(1));
            let volume = Volume::mount(&behind, &fleet.path().join("volume"), &late);
            let kill = format!("kill-before:publish.rename@2,{fault}");
            assert!(run(fleet.command(0, kind, &[]).env(FAULT, kill.trim_end_matches(','))).killed);
            let children: Vec<Child> =
                (1..4).map(|number| start(fleet.command(number, kind, &[]).env(FAULT, fault))).collect();
            let runs: Vec<Run> = children.into_iter().map(end).collect();
            assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
            let roles = roles(&runs);
            assert_eq!((count(&roles, "took_over"), count(&roles, "none")), (1, 2), "{kind:?} {fault}: {runs:#?}");
            fleet.assert_linked(1..4, kind);
            drop(volume);
        }
    }
}

#[test]
fn a_copier_that_was_paused_past_its_lease_publishes_nothing_when_it_goes_on() {
    for kind in Kind::BOTH {
        let last = kind.trees().len();
        // Between the check of its lease and the rename of a tree, before the mark of completeness, while it copies.
        for point in [
            "publish.rename@1".to_owned(),
            "publish.rename@2".to_owned(),
            format!("publish.rename@{}", last + 1),
            "stage.create@3".to_owned(),
        ] {
            let fleet = Fleet::new(2);
            let log = fleet.path().join("log");
            let mut paused = fleet.command(0, kind, &[]);
            let paused = start(paused.env(FAULT, format!("stop-before:{point}")).env(LOG, &log));
            let pid = wait_until_stopped(&paused);
            let published = names(&fleet.shared(kind));
            let taker = run(&mut fleet.command(1, kind, &[]));
            assert_eq!(taker.event("done")["role"], "took_over", "{point}: {taker:?}");
            let before = ids(&fleet.shared(kind));
            kill_process(pid, Signal::CONT).unwrap();
            let went_on = end(paused);
            assert_eq!(went_on.code, Some(0), "{point}: {went_on:?}");
            assert_eq!(went_on.event("done")["role"], "none", "{point}: {went_on:?}");
            assert!(went_on.stdout.contains("has taken over"), "{point}: {went_on:?}");
            assert_eq!(ids(&fleet.shared(kind)), before, "{point}: {published:?}");
            fleet.assert_linked(0..2, kind);
        }
    }
}

#[test]
fn a_taker_that_was_paused_past_its_lease_does_not_bring_its_own_back() {
    for kind in Kind::BOTH {
        for point in ["lease.create@1", "takeover.rename@1"] {
            let fleet = Fleet::new(3);
            assert!(run(fleet.command(0, kind, &[]).env(FAULT, "kill-before:publish.rename@2")).killed);
            let paused = start(fleet.command(1, kind, &[]).env(FAULT, format!("stop-before:{point}")));
            let pid = wait_until_stopped(&paused);
            let taker = run(&mut fleet.command(2, kind, &[]));
            assert_eq!(taker.event("done")["role"], "took_over", "{point}: {taker:?}");
            let before = ids(&fleet.shared(kind));
            kill_process(pid, Signal::CONT).unwrap();
            let went_on = end(paused);
            assert_eq!(went_on.code, Some(0), "{point}: {went_on:?}");
            assert_eq!(went_on.event("done")["role"], "none", "{point}: {went_on:?}");
            assert_eq!(ids(&fleet.shared(kind)), before, "{point}");
            fleet.assert_linked(1..3, kind);
        }
    }
}

/// Every entry of a directory and which inode it is, but for the root, which loses its marks.
fn ids(directory: &Path) -> String {
    tool("find", [directory.to_str().unwrap(), "-mindepth", "1", "-printf", "%P %i\\n"])
}

#[test]
fn clocks_that_differ_by_days_change_nothing() {
    // Each in a time namespace whose monotonic and boot clocks are days apart.
    let clocks = [["0", "0"], ["864000", "864000"], ["8640000", "0"], ["0", "8640000"]];
    for kind in Kind::BOTH {
        let fleet = Fleet::new(5);
        let died = run(fleet.command(0, kind, &[]).env(FAULT, "kill-before:publish.rename@2"));
        assert!(died.killed, "{died:?}");
        // And the volume's times are of the future and of the past.
        for (entry, time) in [(".syncing", "2040-01-01"), (".", "1971-01-01")] {
            tool("touch", ["-d", time, fleet.shared(kind).join(entry).to_str().unwrap()]);
        }
        let children: Vec<Child> = clocks
            .iter()
            .enumerate()
            .map(|(number, [monotonic, boottime])| {
                let wrapper =
                    ["unshare", "--time", "--fork", "--kill-child", "--monotonic", monotonic, "--boottime", boottime];
                start(&mut fleet.command(number + 1, kind, &wrapper))
            })
            .collect();
        let runs: Vec<Run> = children.into_iter().map(end).collect();
        assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
        let roles = roles(&runs);
        assert_eq!((count(&roles, "took_over"), count(&roles, "none")), (1, 3), "{runs:#?}");
        fleet.assert_linked(1..5, kind);
    }
}

/// Preloaded, it puts a process into another day.
const ANOTHER_DAY: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += 86400 * atol(getenv("DAYS"));
    return (int)failed;
}
"#;

#[test]
fn an_owner_that_lives_in_another_day_is_waited_for_as_long_as_it_lives() {
    let tools = tempfile::tempdir().unwrap();
    let (source, library) = (tools.path().join("day.c"), tools.path().join("day.so"));
    fs::write(&source, ANOTHER_DAY).unwrap();
    tool("cc", ["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()]);
    for kind in Kind::BOTH {
        let fleet = Fleet::new(4);
        let instance = |number: usize, days: &str| {
            let mut command = fleet.command(number, kind, &[]);
            command.env("LD_PRELOAD", &library).env("DAYS", days);
            command
        };
        // Slower than the time after which who is silent is dead.
        let owner = start(instance(0, "-10").env(FAULT, "delay:stage.create=500"));
        let shared = fleet.shared(kind);
        while !shared.join(".syncing").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let others: Vec<Child> = ["10", "-400", "3650"]
            .iter()
            .enumerate()
            .map(|(number, days)| start(&mut instance(number + 1, days)))
            .collect();
        let owner = end(owner);
        let runs: Vec<Run> = others.into_iter().map(end).collect();
        assert!(runs.iter().chain([&owner]).all(|run| run.code == Some(0)), "{owner:#?} {runs:#?}");
        assert_eq!(owner.event("done")["role"], "copied", "{owner:#?}");
        assert_eq!(count(&roles(&runs), "none"), 3, "{runs:#?}");
        fleet.assert_linked(0..4, kind);
    }
}

#[test]
fn no_lock_of_the_volume_is_ever_asked_for() {
    // So it does not matter whether its locks always succeed, always fail or never return.
    for kind in Kind::BOTH {
        let fleet = Fleet::new(1);
        let log = fleet.path().join("log");
        let strace = ["strace", "-f", "-qq", "-y", "-e", "trace=flock,fcntl", "-o", log.to_str().unwrap()];
        succeed(&mut fleet.command(0, kind, &strace));
        let calls = fs::read_to_string(&log).unwrap();
        assert!(!calls.contains("F_SETLK") && !calls.contains("F_OFD_"), "{calls}");
        let locks: Vec<&str> = calls.lines().filter(|line| line.contains("flock(")).collect();
        // The container has one of its own, for its own processes.
        assert!(locks.iter().all(|line| line.contains("/var/lib/vast-sync/lock>")), "{locks:?}");
        fleet.assert_linked(0..1, kind);

        let fleet = Fleet::new(2);
        for number in 0..2 {
            succeed(fleet.command(number, kind, &[]).env(FAULT, "fail:lock.flock=37"));
        }
        fleet.assert_linked(0..2, kind);
    }
}

#[test]
fn processes_of_one_container_do_not_get_into_each_others_way() {
    for fault in ["", "fail:relink.exchange=18"] {
        let fleet = Fleet::new(1);
        let start = |kind: Kind| start(fleet.command(0, kind, &[]).env(FAULT, fault));
        let children: Vec<Child> =
            [Kind::Environment, Kind::Home, Kind::Environment, Kind::Home, Kind::Environment].map(start).into();
        let runs: Vec<Run> = children.into_iter().map(end).collect();
        assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
        assert_eq!(count(&roles(&runs), "copied"), 2, "one of each kind: {runs:#?}");
        for kind in Kind::BOTH {
            for (path, _) in kind.trees() {
                assert!(fleet.root(0).join(path).is_symlink(), "{path}");
            }
        }
    }
}

/// The protocol of deployed images, for one tree, as far as it is visible to others.
const OLDER: &str = r#"
set -eu
shared=$1 source=$2 target=$3
mkdir -p "$(dirname "$shared")"
if mkdir "$shared" 2>/dev/null; then
    touch "$shared/.syncing"
    echo claimed
    read -r _
    mkdir -p "$(dirname "$shared/$target")"
    for tree in $source; do cp -a "$ROOT/${tree%%=*}" "$shared/${tree##*=}.tmp"; mv "$shared/${tree##*=}.tmp" "$shared/${tree##*=}"; done
    touch "$shared/.synced"
    rm -f "$shared/.syncing"
    echo copied
else
    for try in $(seq 3000); do
        if [ -e "$shared/.synced" ]; then echo waited; exit 0; fi
        if [ ! -e "$shared/.syncing" ] && [ -n "$(ls -A "$shared/$SIGN" 2>/dev/null)" ]; then echo accepted; exit 0; fi
        [ "$try" = 1 ] && echo waiting
        sleep 0.02
    done
    echo gave up
    exit 1
fi
"#;

/// An older image as an instance.
fn older(fleet: &Fleet, number: usize, kind: Kind) -> (Child, BufReader<ChildStdout>) {
    let trees: Vec<String> = kind.trees().iter().map(|(path, to)| format!("{path}={to}")).collect();
    let mut child = Command::new("bash")
        .args(["-c", OLDER, "older"])
        .arg(fleet.shared(kind))
        .arg(trees.join(" "))
        .arg(kind.trees()[0].1)
        .env("ROOT", fleet.root(number))
        .env("SIGN", if kind == Kind::Home { "root" } else { "venv" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    (child, said)
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Starts instances that wait, and returns when each has said so.
fn start_waiters(fleet: &Fleet, numbers: std::ops::Range<usize>, kind: Kind) -> Vec<(Child, BufReader<ChildStdout>)> {
    let mut waiters = Vec::new();
    for number in numbers {
        let mut waiter = start(&mut fleet.command(number, kind, &[]));
        let mut events = BufReader::new(waiter.stdout.take().unwrap());
        let first = line(&mut events);
        assert!(first.contains("waiting for another instance"), "{first}");
        waiters.push((waiter, events));
    }
    waiters
}

#[test]
fn an_older_image_copies_and_this_program_waits_and_links() {
    for kind in Kind::BOTH {
        let fleet = Fleet::new(3);
        let (mut copier, mut said) = older(&fleet, 0, kind);
        assert_eq!(line(&mut said), "claimed");
        let waiters = start_waiters(&fleet, 1..3, kind);
        for (path, _) in kind.trees() {
            assert!(fleet.root(1).join(path).symlink_metadata().unwrap().is_dir(), "nothing is linked before");
        }
        copier.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        assert_eq!(line(&mut said), "copied");
        assert!(copier.wait().unwrap().success());
        for (waiter, events) in waiters {
            let events: Vec<String> = events.lines().map(Result::unwrap).collect();
            let run = end(waiter);
            assert_eq!(run.code, Some(0), "{run:?}");
            let done: serde_json::Value = serde_json::from_str(events.last().unwrap()).unwrap();
            assert_eq!(done["role"], "none", "{done}");
        }
        for number in 1..3 {
            for (path, _) in kind.trees() {
                assert!(fleet.root(number).join(path).is_symlink(), "{path}");
            }
        }
    }
}

#[test]
fn an_older_image_that_died_copying_is_waited_for_and_never_taken_over() {
    for kind in Kind::BOTH {
        let fleet = Fleet::new(2);
        let (mut copier, mut said) = older(&fleet, 0, kind);
        assert_eq!(line(&mut said), "claimed");
        copier.kill().unwrap();
        copier.wait().unwrap();
        let before = ids(&fleet.shared(kind));
        // Three leases long, as far as anyone could tell.
        let waited = run(fleet.command(1, kind, &[]).args(["--wait", "9"]));
        assert_eq!(waited.code, Some(2), "{waited:?}");
        assert!(waited.stderr.contains("is not complete after 9 s"), "{waited:?}");
        assert_eq!(ids(&fleet.shared(kind)), before);
        for (path, _) in kind.trees() {
            assert!(fleet.root(1).join(path).symlink_metadata().unwrap().is_dir(), "{path}");
        }
    }
}

#[test]
fn this_program_copies_and_an_older_image_waits() {
    for kind in Kind::BOTH {
        let fleet = Fleet::new(2);
        let mut copier = fleet.command(0, kind, &[]);
        let copier = start(copier.env(FAULT, format!("stop-before:publish.rename@{}", kind.trees().len() + 1)));
        let pid = wait_until_stopped(&copier);
        // All trees are published, and the mark is not: it must not be taken for finished.
        let (mut waiter, mut said) = older(&fleet, 1, kind);
        assert_eq!(line(&mut said), "waiting");
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(line(&mut said), "waited");
        assert!(waiter.wait().unwrap().success());
        assert_eq!(end(copier).event("done")["role"], "copied");
        fleet.assert_linked(0..1, kind);
    }
}
