//! Volumes that answer late, fail, are short of inodes, or come late.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vast_testkit::volume::{Failing, Options, Volume};

use crate::command::{Run, run, succeed, tool, vast_sync, wait_until_stopped, workspace};
use crate::container::{self, Container, Kind, SHORT_LEASE, assert_login_works, assert_moved, assert_nothing_partial};
use crate::mount::{Memory, Mount};
use crate::tree::{assert_alike, assert_rsync_finds_no_difference, everything, listing, names, names_but_locks};

/// A source, and a volume made over a directory.
struct Scene {
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["from", "behind", "volume"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn volume(&self, options: &Options) -> Volume {
        Volume::mount(&self.at("behind"), &self.at("volume"), options)
    }

    fn copy(&self) -> Command {
        let mut command = vast_sync();
        command.arg("copy").arg(self.at("from")).arg(self.at("volume/to"));
        command
    }

    /// A small tree of every kind, since it is copied a hundred times.
    fn small(&self) {
        let from = self.at("from");
        fs::create_dir(from.join("inner")).unwrap();
        for index in 0..4 {
            fs::write(from.join(format!("inner/{index}")), format!("file {index}")).unwrap();
        }
        fs::write(from.join("large"), vec![7; 300_000]).unwrap();
        fs::hard_link(from.join("large"), from.join("inner/too")).unwrap();
        symlink("large", from.join("link")).unwrap();
    }
}

#[test]
fn a_volume_that_answers_late_gets_everything() {
    let scene = Scene::new();
    everything(&scene.at("from"));
    let volume = scene.volume(&Options::late(Duration::from_millis(1)));
    succeed(scene.copy().arg("--verify=checksum"));
    assert!(volume.operations() > 1000, "{}", volume.operations());
    drop(volume);
    assert_alike(&scene.at("from"), &scene.at("behind/to"));
    assert_rsync_finds_no_difference(&scene.at("from"), &scene.at("behind/to"));
}

#[test]
fn a_small_file_costs_a_late_volume_one_operation_for_each_thing_that_is_done() {
    const FILES: u64 = 50;
    let scene = Scene::new();
    for index in 0..FILES {
        fs::write(scene.at(&format!("from/{index}")), "small").unwrap();
    }
    let volume = scene.volume(&Options::default());
    succeed(&mut scene.copy());
    for kind in ["create", "write", "flush"] {
        assert_eq!(volume.operations_of(kind), FILES, "{kind}");
    }
    // The root's permissions and times besides, and its flush.
    for (kind, besides) in [("setattr", 2), ("fsync", 0)] {
        assert_eq!(volume.operations_of(kind), FILES + besides, "{kind}");
    }
    // What the kernel asks on its own account depends on its version: so much at most.
    assert!(volume.operations() < 9 * FILES, "{}", volume.operations());
}

/// Every operation of a move fails in turn, with EIO.
fn each_operation_of_a_move_fails(kind: Kind, part: Part) {
    each_operation_fails(
        part,
        |root| container::command(root, kind, SHORT_LEASE),
        |root, context| {
            assert_login_works(root, context);
            assert_nothing_partial(&root.join("behind").join(kind.directory()), kind, context);
        },
        |root| assert_moved(root, kind, "after EIO"),
    );
}

/// The longest of the sweeps by far.
mod whichever_operation_fails_an_environment_is_whole_and_another_run_finishes {
    use super::{Kind, Part, each_operation_of_a_move_fails};

    #[test]
    fn first_of_four() {
        each_operation_of_a_move_fails(Kind::Environment, Part { number: 1, of: 4 });
    }

    #[test]
    fn second_of_four() {
        each_operation_of_a_move_fails(Kind::Environment, Part { number: 2, of: 4 });
    }

    #[test]
    fn third_of_four() {
        each_operation_of_a_move_fails(Kind::Environment, Part { number: 3, of: 4 });
    }

    #[test]
    fn fourth_of_four() {
        each_operation_of_a_move_fails(Kind::Environment, Part { number: 4, of: 4 });
    }
}

#[test]
fn whichever_operation_fails_homes_can_be_logged_into_and_another_run_finishes() {
    each_operation_of_a_move_fails(Kind::Home, Part::WHOLE);
}

#[test]
fn whichever_operation_fails_an_item_is_whole_or_absent_and_another_run_finishes() {
    each_operation_fails(
        Part::WHOLE,
        |root| {
            let app = root.join("internal/app/inner");
            if !app.exists() {
                fs::create_dir_all(&app).unwrap();
                (0..6).for_each(|index| fs::write(app.join(index.to_string()), format!("file {index}")).unwrap());
            }
            workspace(root)
        },
        |root, context| {
            assert_eq!(names(&root.join("internal/app/inner")).len(), 6, "{context}");
            if root.join("behind/app").exists() {
                assert_alike(&root.join("internal/app"), &root.join("behind/app"));
            }
        },
        |root| assert_alike(&root.join("internal/app"), &root.join("workspace/app")),
    );
}

/// Which of the operations fail: every so many, from the one with this number.
#[derive(Clone, Copy)]
struct Part {
    number: u64,
    of: usize,
}

impl Part {
    const WHOLE: Self = Self { number: 1, of: 1 };
}

fn each_operation_fails(
    part: Part,
    command: impl Fn(&Path) -> Command,
    nothing_is_lost: impl Fn(&Path, &str),
    all_is_there: impl Fn(&Path),
) {
    let memory = Memory::new();
    let fresh = || {
        let container = Container::within(memory.path());
        fs::create_dir(container.path("behind")).unwrap();
        container
    };
    let mount = |container: &Container, options: &Options| {
        Volume::mount(&container.path("behind"), &container.path("workspace"), options)
    };
    let container = fresh();
    let healthy = mount(&container, &Options::default());
    succeed(&mut command(container.root()));
    let all = healthy.operations();
    all_is_there(container.root());
    drop(healthy);
    let (mut tried, mut failures) = (0, 0);
    for nth in (part.number..=all).step_by(part.of) {
        tried += 1;
        let container = fresh();
        let volume = mount(&container, &Options::failing(nth, 5));
        let run = run(&mut command(container.root()));
        if run.code != Some(0) {
            failures += 1;
            assert_eq!(run.code, Some(2), "operation {nth}: {run:?}");
            assert!(run.stderr.contains("nput/output error"), "operation {nth}: {run:?}");
        }
        // A run of fewer operations leaves the failure to whoever asks next: not to the test.
        drop(volume);
        let volume = mount(&container, &Options::default());
        nothing_is_lost(container.root(), &format!("operation {nth}: {run:?}"));
        succeed(&mut command(container.root()));
        all_is_there(container.root());
        drop(volume);
    }
    assert!(failures > tried / 4, "{failures} of {tried}");
}

/// Every operation of a copy fails in turn, with EIO. Some failures do not matter, such as that of a question whose
/// answer is not needed; all others stop the copy.
#[test]
fn whichever_operation_fails_nothing_partial_is_published_and_another_run_finishes() {
    let scene = Scene::new();
    scene.small();
    let before = listing(&scene.at("from"));
    let healthy = scene.volume(&Options::default());
    succeed(&mut scene.copy());
    let all = healthy.operations();
    drop(healthy);
    tool("rm", ["-r", scene.at("behind/to").to_str().unwrap()]);

    let mut failures = 0;
    for nth in 1..=all {
        let volume = scene.volume(&Options::failing(nth, 5));
        let run = run(&mut scene.copy());
        drop(volume);
        if run.code == Some(0) {
            assert_alike(&scene.at("from"), &scene.at("behind/to"));
        } else {
            failures += 1;
            assert_eq!(run.code, Some(2), "operation {nth}: {run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "operation {nth}, one message: {run:?}");
            assert!(run.stderr.contains("nput/output error") && run.stderr.contains("volume"), "{nth}: {run:?}");
            // A failed answer to the last rename may come too late to undo it, but what is there is whole.
            if fs::symlink_metadata(scene.at("behind/to")).is_ok() {
                assert_alike(&scene.at("from"), &scene.at("behind/to"));
            } else {
                let volume = scene.volume(&Options::default());
                succeed(&mut scene.copy());
                drop(volume);
                assert_alike(&scene.at("from"), &scene.at("behind/to"));
            }
        }
        tool("sh", ["-ec", &format!("cd '{}'; rm -rf to .copy_*", scene.at("behind").display())]);
    }
    assert!(failures > all / 2, "{failures} of {all}");
    assert_eq!(listing(&scene.at("from")), before, "the source is as it was");
}

#[track_caller]
fn assert_refused(run: &Run, says: &[&str]) {
    assert_eq!(run.code, Some(2), "{run:?}");
    for says in says {
        assert!(run.stderr.contains(says), "{says}: {run:?}");
    }
}

#[test]
fn a_volume_that_fills_up_or_hits_its_quota_says_so_with_numbers() {
    for errno in [28, 122] {
        let scene = Scene::new();
        everything(&scene.at("from"));
        let before = listing(&scene.at("from"));
        let failing = Failing { nth: 20, operation: Some("write"), errno, lasts: true };
        let volume = scene.volume(&Options { failing: Some(failing), ..Options::default() });
        let run = run(&mut scene.copy());
        drop(volume);
        assert_refused(
            &run,
            &["no room for `", "/volume/.copy_to.partial.", " bytes needed, ", " available", "hint: "],
        );
        assert_eq!(names(&scene.at("behind")), [""; 0], "nothing is left");
        assert_eq!(listing(&scene.at("from")), before, "the source is as it was");
    }
}

#[test]
fn a_disk_that_runs_out_of_inodes_meanwhile_says_so_with_numbers() {
    let scene = Scene::new();
    for index in 0..100 {
        fs::write(scene.at(&format!("from/{index}")), "small").unwrap();
    }
    let disk = Mount::ext4_with(&scene.at("volume"), 8, &["-N", "64"]);
    assert_refused(&run(&mut scene.copy()), &["101 inodes needed, ", "hint: delete small files"]);
    assert_eq!(names(&disk.at), [""; 0], "it was known beforehand");
    // What is to be merged may be there already, so nothing is known beforehand.
    fs::create_dir(disk.at.join("to")).unwrap();
    let run = run(scene.copy().arg("--merge"));
    assert_refused(&run, &["no room for `", "101 inodes needed, 0 available"]);
    let there = names(&disk.at.join("to"));
    assert!(there.len() > 10 && there.len() < 64, "{there:?}");
    for name in there {
        assert_eq!(fs::read(disk.at.join("to").join(&name)).unwrap(), b"small", "{name}");
    }
    assert_eq!(names(&scene.at("from")).len(), 100);
}

#[test]
fn a_disk_that_is_read_only_is_refused_in_one_sentence() {
    let scene = Scene::new();
    scene.small();
    let disk = Mount::ext4(&scene.at("volume"), 8, 4096);
    disk.remount("ro");
    let run = run(&mut scene.copy());
    assert_refused(&run, &["is read-only", "hint: mount the volume writable"]);
}

#[test]
fn a_volume_that_comes_late_gets_everything_at_the_next_run_and_loses_nothing() {
    let scene = Scene::new();
    fs::rename(scene.at("from"), scene.at("internal")).unwrap();
    everything(&scene.at("internal/app"));
    let before = listing(&scene.at("internal"));
    // The instance is about to publish into the directory when the volume is mounted over it.
    let mut early =
        workspace(scene.root.path()).env("VAST_SYNC_FAULT", "stop-before:publish.rename@1").spawn().unwrap();
    let pid = wait_until_stopped(&early);
    let volume = Mount::tmpfs(&scene.at("workspace"), "size=200m");
    fs::write(volume.at.join("user"), "theirs").unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(early.wait().unwrap().success());
    assert_eq!(names(&volume.at), ["user"], "it went where it began");

    succeed(&mut workspace(scene.root.path()));
    assert_alike(&scene.at("internal/app"), &volume.at.join("app"));
    assert_eq!(names_but_locks(&volume.at), ["app", "user"]);
    assert_eq!(listing(&scene.at("internal")), before, "the source is as it was");
    drop(volume);
    assert_alike(&scene.at("internal/app"), &scene.at("workspace/app"));
}

/// Each mount keeps locks of its own, as hosts do that share a volume on which locks reach no further: whoever asks gets them.
#[test]
fn a_volume_whose_locks_always_succeed_gets_every_item_once_and_whole() {
    for point in ["stage.create@3", "stage.create@40", "publish.rename@1"] {
        let scene = Scene::new();
        fs::rename(scene.at("from"), scene.at("internal")).unwrap();
        everything(&scene.at("internal/app"));
        fs::create_dir(scene.at("elsewhere")).unwrap();
        let here = scene.volume(&Options::default());
        let elsewhere = Volume::mount(&scene.at("behind"), &scene.at("elsewhere"), &Options::default());
        let instance = |volume: &Volume| {
            let mut command = vast_sync();
            command.arg("workspace").arg("--source").arg(scene.at("internal"));
            command.arg("--workspace").arg(volume.path()).arg("--json").stdout(std::process::Stdio::piped());
            command
        };
        let paused = instance(&here).env("VAST_SYNC_FAULT", format!("stop-before:{point}")).spawn().unwrap();
        let pid = wait_until_stopped(&paused);
        let lock = elsewhere.path().join(".sync_app.lock");
        tool("flock", ["--nonblock", lock.to_str().unwrap(), "true"]);
        let other = succeed(&mut instance(&elsewhere));
        assert_eq!(other.outcome("app"), "published", "{point}");
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        let went_on: Run = paused.wait_with_output().unwrap().into();
        assert_eq!(went_on.code, Some(0), "{point}: {went_on:?}");
        assert_ne!(went_on.outcome("app"), "published", "{point}: {went_on:?}");
        drop((here, elsewhere));
        assert_alike(&scene.at("internal/app"), &scene.at("behind/app"));
        assert_eq!(names_but_locks(&scene.at("behind")), ["app"], "{point}");
    }
}

#[test]
fn a_network_volume_whose_locks_are_refused_gets_every_item_once() {
    let scene = Scene::new();
    fs::rename(scene.at("from"), scene.at("internal")).unwrap();
    everything(&scene.at("internal/app"));
    let volume = Volume::mount(&scene.at("behind"), &scene.at("volume"), &Options::default());
    let started = |_| {
        let mut command = vast_sync();
        command.arg("workspace").arg("--source").arg(scene.at("internal"));
        command.arg("--workspace").arg(volume.path()).arg("--json").env("VAST_SYNC_FAULT", "fail:lock.flock=37");
        command.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let instances: Vec<_> = (0..4).map(started).collect();
    let runs: Vec<Run> = instances.into_iter().map(|instance| instance.wait_with_output().unwrap().into()).collect();
    for run in &runs {
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    let published = runs.iter().filter(|run| run.outcome("app") == "published").count();
    assert_eq!(published, 1, "{runs:?}");
    drop(volume);
    assert_alike(&scene.at("internal/app"), &scene.at("behind/app"));
}
