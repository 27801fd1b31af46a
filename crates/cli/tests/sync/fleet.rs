//! Several instances on one volume.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::command::{Run, run, succeed, workspace};
use crate::tree::{assert_alike, everything, names_but_locks};

const FAULT: &str = "VAST_SYNC_FAULT";

fn root(items: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("workspace")).unwrap();
    for item in items {
        fs::create_dir_all(root.path().join("internal").join(item)).unwrap();
        everything(&root.path().join("internal").join(item));
    }
    root
}

fn boot(instances: usize, root: &Path, fault: &str) -> Vec<Run> {
    let spawn =
        |_| workspace(root).arg("--json").env(FAULT, fault).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let children: Vec<Child> = (0..instances).map(spawn).collect::<Result<_, _>>().unwrap();
    children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

/// How often each outcome was reported for each item.
fn outcomes(runs: &[Run]) -> BTreeMap<(String, String), usize> {
    let mut outcomes = BTreeMap::new();
    for run in runs {
        assert_eq!(run.code, Some(0), "{run:#?}");
        for item in run.event("done")["items"].as_array().unwrap() {
            let text = |key: &str| item[key].as_str().unwrap().to_owned();
            *outcomes.entry((text("name"), text("outcome"))).or_default() += 1;
        }
    }
    outcomes
}

#[test]
fn of_eight_instances_exactly_one_copies_each_item() {
    let items = ["one", "three", "two"];
    let root = root(&items);
    let runs = boot(8, root.path(), "");
    let outcomes = outcomes(&runs);
    for item in items {
        assert_eq!(outcomes.get(&(item.to_owned(), "published".to_owned())), Some(&1), "{outcomes:?}");
        assert_alike(&root.path().join("internal").join(item), &root.path().join("workspace").join(item));
    }
    let all: usize = outcomes.values().sum();
    assert_eq!(all, 8 * items.len(), "{outcomes:?}");
    assert_eq!(names_but_locks(&root.path().join("workspace")), items);
}

#[test]
fn without_locks_eight_instances_still_publish_each_item_once_and_whole() {
    let items = ["one", "two"];
    let root = root(&items);
    let runs = boot(8, root.path(), "fail:lock.flock=37");
    let outcomes = outcomes(&runs);
    for item in items {
        assert_eq!(outcomes.get(&(item.to_owned(), "published".to_owned())), Some(&1), "{outcomes:?}");
        assert_alike(&root.path().join("internal").join(item), &root.path().join("workspace").join(item));
    }
    assert_eq!(names_but_locks(&root.path().join("workspace")), items);
    assert!(runs.iter().any(|run| run.stdout.contains("no lock for `one` (No locks available")), "{runs:#?}");
}

#[test]
fn without_locks_the_copy_of_an_unknown_owner_stays_until_it_is_known_to_be_dead() {
    let root = root(&["one"]);
    let theirs = root.path().join("workspace/.sync_one.partial.00000000-1-1-00000000");
    fs::create_dir(&theirs).unwrap();
    let run = succeed(workspace(root.path()).arg("--json").env(FAULT, "fail:lock.flock=37"));
    assert_eq!(run.outcome("one"), "published");
    assert_eq!(run.event("done")["leftovers_kept"], 1);
    assert!(theirs.exists());
    // An instance whose locks work can tell: nobody who lives is at the item.
    let run = succeed(workspace(root.path()).arg("--json"));
    assert_eq!(run.event("done")["leftovers_removed"], 1);
    assert!(!theirs.exists());
}

#[test]
fn instances_share_the_work_instead_of_queueing() {
    let root = root(&["one", "two"]);
    let held = Flock::hold(&root.path().join("workspace/.sync_one.lock"));
    let mut child = workspace(root.path()).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    // The first item is being copied elsewhere: the second is published meanwhile, then the wait begins.
    let events = wait_for_message(&mut child, "waiting for another instance to copy `one`");
    assert_eq!(names_but_locks(&root.path().join("workspace")), ["two"]);
    fs::create_dir(root.path().join("workspace/one")).unwrap();
    held.release();
    let rest: Vec<String> = events.lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    let done: serde_json::Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!(done["items"][0]["outcome"], "published_elsewhere");
    assert_eq!(done["items"][1]["outcome"], "published");
    assert_eq!(fs::read_dir(root.path().join("workspace/one")).unwrap().count(), 0, "theirs is not touched");
}

#[test]
fn the_flock_command_of_deployed_images_and_this_one_exclude_each_other() {
    let root = root(&["one"]);
    let lock = root.path().join("workspace/.sync_one.lock");
    let held = Flock::hold(&lock);
    let mut child = workspace(root.path()).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    let events = wait_for_message(&mut child, "waiting for another instance to copy `one`");
    assert_eq!(names_but_locks(&root.path().join("workspace")), [""; 0]);
    held.release();
    drop(events);
    assert!(child.wait().unwrap().success());
    assert_eq!(names_but_locks(&root.path().join("workspace")), ["one"]);

    // And the other way round: while this program is at an item, `flock -n` does not get the lock.
    fs::remove_dir_all(root.path().join("workspace/one")).unwrap();
    let busy = Command::new("flock").arg("-n").arg(&lock).arg("true").status().unwrap();
    assert!(busy.success(), "nobody has it now");
    let probe = format!("flock -n '{}' true && echo free || echo held", lock.display());
    let during = with_hook(root.path(), &probe);
    assert_eq!(during.trim(), "held");
}

/// Runs a shell command while an instance is in the middle of an item, and returns what it printed.
fn with_hook(root: &Path, command: &str) -> String {
    // The instance stops itself where a test tells it to.
    let mut child = workspace(root).env(FAULT, "stop-before:publish.rename@1").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap().unwrap().1;
    assert!(status.stopped(), "{status:?}");
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_paused_owner_whose_copy_was_taken_away_begins_anew_and_publishes_nothing_partial() {
    let root = root(&["one"]);
    let target = root.path().join("workspace");
    let script = format!("cd '{}' && mv .sync_one.partial.* taken && rm -rf taken", target.display());
    with_hook(root.path(), &script);
    assert_alike(&root.path().join("internal/one"), &target.join("one"));
    assert_eq!(names_but_locks(&target), ["one"]);
}

#[test]
fn an_item_that_appears_while_it_is_being_copied_is_left_alone() {
    let root = root(&["one"]);
    let target = root.path().join("workspace");
    with_hook(root.path(), &format!("mkdir '{}'", target.join("one").display()));
    assert_eq!(fs::read_dir(target.join("one")).unwrap().count(), 0, "an empty directory is the user's too");
    assert_eq!(names_but_locks(&target), ["one"]);
}

#[test]
fn waiting_is_bounded() {
    let root = root(&["one"]);
    let held = Flock::hold(&root.path().join("workspace/.sync_one.lock"));
    let run = run(workspace(root.path()).args(["--lock-wait", "0"]));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains(".sync_one.lock` was held by another instance"), "{run:?}");
    assert!(run.stderr.contains("hint: see `vast-sync status`"), "{run:?}");
    held.release();
}

#[test]
fn a_lock_file_that_is_none_is_neither_followed_nor_waited_for() {
    let root = root(&["one"]);
    let target = root.path().join("workspace");
    fs::write(root.path().join("precious"), "theirs").unwrap();
    std::os::unix::fs::symlink("../precious", target.join(".sync_one.lock")).unwrap();
    let run = succeed(workspace(root.path()).arg("--json"));
    assert_eq!(run.outcome("one"), "published");
    assert!(run.event("done")["warnings"][0].as_str().unwrap().starts_with("no lock for `one`"), "{run:?}");
    assert_eq!(fs::read(root.path().join("precious")).unwrap(), b"theirs");
    assert!(fs::symlink_metadata(target.join(".sync_one.lock")).unwrap().is_symlink());
}

/// Reads events until that message, and returns where the rest is read from.
fn wait_for_message(child: &mut Child, message: &str) -> BufReader<std::process::ChildStdout> {
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(message) {
        line.clear();
        assert!(events.read_line(&mut line).unwrap() > 0, "it ended without `{message}`");
    }
    events
}

/// A lock held by the `flock` command.
struct Flock(Child);

impl Flock {
    fn hold(lock: &Path) -> Self {
        let mut child = Command::new("flock")
            .arg(lock)
            .args(["sh", "-c", "echo held; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn release(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}
