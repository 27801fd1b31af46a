//! A container's real root: an overlay without `redirect_dir`, whose lower layer has what moves. A directory of it can be
//! neither renamed nor exchanged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{Run, run, succeed, tool};
use crate::container::{
    Kind, SHORT_LEASE, assert_login_works, assert_moved, assert_nothing_partial, command, contents, fill, interpreter,
    leftovers,
};

const FAULT: &str = "VAST_SYNC_FAULT";
const LOG: &str = "VAST_SYNC_FAULT_LOG";

/// A container of an image, for as long as the value lives. The volume is mounted at its `/workspace`.
pub(crate) struct Overlay {
    directory: tempfile::TempDir,
    mounts: Vec<PathBuf>,
}

impl Overlay {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Of an image that is changed before it is used.
    pub(crate) fn with(change: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [lower, upper, work, root, volume] =
            ["image", "upper", "work", "root", "volume"].map(|name| directory.path().join(name));
        fill(&lower);
        change(&lower);
        for made in [&upper, &work, &root, &volume] {
            fs::create_dir(made).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,index=off,metacopy=off",
            lower.display(),
            upper.display(),
            work.display()
        );
        let mut overlay = Self { directory, mounts: Vec::new() };
        overlay.mount(&["-t", "overlay", "-o", &options, "overlay"], root.clone());
        overlay.mount(&["--bind", volume.to_str().unwrap()], root.join("workspace"));
        overlay
    }

    pub(crate) fn mount(&mut self, args: &[&str], at: PathBuf) {
        tool("mount", args.iter().map(AsRef::as_ref).chain([at.as_os_str()]));
        self.mounts.push(at);
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn run(&self, kind: Kind, fault: &str) -> Run {
        run(command(&self.root(), kind, SHORT_LEASE).env(FAULT, fault))
    }

    fn shared(&self, kind: Kind) -> PathBuf {
        self.root().join("workspace").join(kind.directory())
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            tool("umount", [mount]);
        }
    }
}

#[test]
fn a_directory_of_the_image_can_be_neither_renamed_nor_exchanged_here() {
    // What all of this is for: if it ever changes, these tests test nothing.
    let overlay = Overlay::new();
    let root = fs::File::open(overlay.root()).unwrap();
    std::os::unix::fs::symlink("x", overlay.root().join("link")).unwrap();
    for flags in [rustix::fs::RenameFlags::EXCHANGE, rustix::fs::RenameFlags::NOREPLACE] {
        let to = if flags == rustix::fs::RenameFlags::EXCHANGE { "link" } else { "new" };
        let refused = rustix::fs::renameat_with(&root, "root", &root, to, flags);
        assert_eq!(refused, Err(rustix::io::Errno::XDEV));
    }
}

#[test]
fn environments_and_homes_of_the_image_move() {
    for kind in Kind::BOTH {
        let overlay = Overlay::new();
        succeed(&mut command(&overlay.root(), kind, SHORT_LEASE));
        assert_moved(&overlay.root(), kind, "overlay");
        assert_eq!(leftovers(&overlay.shared(kind)), [""; 0]);
        let again = succeed(&mut command(&overlay.root(), kind, SHORT_LEASE));
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    }
}

/// Kills at every call of the swaps, and boots again.
fn die_in_the_swap(kind: Kind) {
    let calls: Vec<String> = {
        let overlay = Overlay::new();
        let log = overlay.directory.path().join("log");
        succeed(command(&overlay.root(), kind, SHORT_LEASE).env(LOG, &log));
        fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
    };
    let is_of_the_swap =
        |point: &str| ["relink.", "journal.", "ssh.", "platform."].iter().any(|of| point.starts_with(of));
    let points: BTreeSet<&String> = calls.iter().filter(|point| is_of_the_swap(point)).collect();
    let wanted = [
        "relink.exchange",
        "relink.symlink",
        "relink.remove",
        "relink.rmdir",
        "relink.rename",
        "journal.rename",
        "journal.unlink",
    ];
    for point in wanted {
        assert!(points.iter().any(|seen| *seen == point), "{point}: {points:?}");
    }
    for point in points {
        for nth in 1..=calls.iter().filter(|call| *call == point).count() {
            for when in ["kill-before", "kill-after"] {
                let fault = format!("{when}:{point}@{nth}");
                let overlay = Overlay::new();
                assert!(overlay.run(kind, &fault).killed, "{fault}");
                assert_nothing_partial(&overlay.shared(kind), kind, &fault);
                let root = overlay.root();
                // Between removing a home and linking it there is neither, for as long as two calls take.
                let in_between =
                    fault.contains("kill-after:relink.rmdir") || fault.contains("kill-before:relink.rename");
                let emptied = fault.contains("relink.remove") || fault.contains("kill-before:relink.rmdir");
                if kind == Kind::Home && !in_between && !emptied {
                    assert_login_works(&root, &fault);
                }
                let done = overlay.run(kind, "");
                assert_eq!(done.code, Some(0), "{fault}: {done:?}");
                assert_moved(&root, kind, &fault);
                let journal = root.join("var/lib/vast-sync/relink");
                let left = fs::read_dir(&journal).into_iter().flatten().count();
                assert_eq!(left, 0, "{fault}: the journal is empty");
            }
        }
    }
}

#[test]
fn a_death_at_any_step_of_the_swap_of_an_environment_is_made_good_by_the_next_boot() {
    die_in_the_swap(Kind::Environment);
}

#[test]
fn a_death_at_any_step_of_the_swap_of_a_home_is_made_good_by_the_next_boot() {
    die_in_the_swap(Kind::Home);
}

#[test]
fn the_keys_are_the_last_to_go_while_a_home_is_emptied() {
    let overlay = Overlay::new();
    let log = overlay.directory.path().join("log");
    // At the last removal but one, everything else is gone.
    succeed(command(&overlay.root(), Kind::Home, SHORT_LEASE).env(LOG, &log));
    let log = fs::read_to_string(log).unwrap();
    let of_user =
        log.lines().skip_while(|point| *point != "relink.remove").take_while(|point| *point != "relink.rmdir");
    let removals = of_user.filter(|point| *point == "relink.remove").count();
    for nth in 1..=removals {
        let overlay = Overlay::new();
        assert!(overlay.run(Kind::Home, &format!("kill-before:relink.remove@{nth}")).killed);
        assert_login_works(&overlay.root(), &format!("before removal {nth}"));
    }
}

#[test]
fn an_interrupted_swap_without_its_volume_is_said_and_touched_no_further() {
    for kind in Kind::BOTH {
        let mut overlay = Overlay::new();
        assert!(overlay.run(kind, "kill-before:relink.rmdir@1").killed);
        tool("umount", [overlay.mounts.pop().unwrap()]);
        let journal = overlay.root().join("var/lib/vast-sync/relink");
        let before = contents(&journal);
        let failed = overlay.run(kind, "");
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(
            failed.stderr.contains("was being moved to") && failed.stderr.contains("mount the volume"),
            "{failed:?}"
        );
        assert_eq!(contents(&journal), before);
        let volume = overlay.directory.path().join("volume");
        overlay.mount(&["--bind", volume.to_str().unwrap()], overlay.root().join("workspace"));
        assert_eq!(overlay.run(kind, "").code, Some(0));
        assert_moved(&overlay.root(), kind, "the volume is back");
    }
}

#[test]
fn a_home_that_is_neither_here_nor_there_because_its_volume_is_missing_still_has_its_keys() {
    for fault in ["kill-after:relink.rmdir@1", "kill-before:relink.rename@1", "kill-before:relink.remove@2"] {
        let mut overlay = Overlay::new();
        assert!(overlay.run(Kind::Home, fault).killed);
        tool("umount", [overlay.mounts.pop().unwrap()]);
        let failed = overlay.run(Kind::Home, "");
        assert_eq!(failed.code, Some(2), "{fault}: {failed:?}");
        assert_login_works(&overlay.root(), fault);
        let volume = overlay.directory.path().join("volume");
        overlay.mount(&["--bind", volume.to_str().unwrap()], overlay.root().join("workspace"));
        assert_eq!(overlay.run(Kind::Home, "").code, Some(0), "{fault}");
        assert_moved(&overlay.root(), Kind::Home, fault);
    }
}

#[test]
fn keys_are_found_without_the_volume_and_the_volume_finds_the_homes_as_they_were() {
    let mut overlay = Overlay::new();
    let root = overlay.root();
    assert_eq!(overlay.run(Kind::Home, "").code, Some(0));
    tool("umount", [overlay.mounts.pop().unwrap()]);
    let said = overlay.run(Kind::Home, "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("which is not there"), "{said:?}");
    assert_login_works(&root, "without its volume");
    assert_eq!(overlay.run(Kind::Home, "").code, Some(0));
    let volume = overlay.directory.path().join("volume");
    overlay.mount(&["--bind", volume.to_str().unwrap()], root.join("workspace"));
    assert_eq!(overlay.run(Kind::Home, "").code, Some(0));
    assert_moved(&root, Kind::Home, "the volume is back");
}

#[test]
fn what_was_moved_can_be_brought_back_whatever_dies() {
    for kind in Kind::BOTH {
        let undo = |root: &Path, fault: &str| run(command(root, kind, SHORT_LEASE).arg("--undo").env(FAULT, fault));
        for fault in [
            "",
            "kill-after:journal.rename@1",
            "kill-before:flush.syncfs@1",
            "kill-before:restore.exchange@1",
            "kill-after:restore.exchange@1",
            "kill-before:journal.unlink@1",
            "kill-before:restore.rename@1,fail:restore.exchange=18",
            "kill-after:restore.rename@1,fail:restore.exchange=18",
            "fail:restore.exchange=18",
        ] {
            let overlay = Overlay::new();
            let root = overlay.root();
            assert_eq!(overlay.run(kind, "").code, Some(0));
            let died = undo(&root, fault);
            assert_eq!(died.killed, fault.contains("kill"), "{fault}: {died:?}");
            let finished = undo(&root, "");
            assert_eq!(finished.code, Some(0), "{fault}: {finished:?}");
            for (path, to) in kind.trees() {
                assert!(root.join(path).symlink_metadata().unwrap().is_dir(), "{fault}: {path}");
                assert_eq!(contents(&root.join(path)), contents(&overlay.shared(kind).join(to)), "{fault}: {path}");
            }
            if kind == Kind::Home {
                assert_login_works(&root, fault);
            }
            assert_eq!(overlay.run(kind, "").code, Some(0), "{fault}");
            assert_moved(&root, kind, fault);
        }
    }
}

/// Runs inside the container: its paths are the machine's, so links can be followed.
fn inside(overlay: &Overlay, fault: &str) -> Run {
    let root = overlay.root();
    let program = root.join("vast-sync");
    fs::copy(env!("CARGO_BIN_EXE_vast-sync"), &program).unwrap();
    let script = r#"
        cd "$ROOT"
        mkdir -p usr proc dev; for link in bin lib lib64; do [ -e $link ] || ln -s usr/$link $link; done
        mount --bind /usr usr; mount --bind /proc proc; mount --bind /dev dev
        exec chroot . /vast-sync environment --json
    "#;
    let mut shell = std::process::Command::new("unshare");
    shell.args(["--mount", "sh", "-euc", script]).env("ROOT", &root).env(FAULT, fault);
    run(&mut shell)
}

#[test]
fn an_interpreter_that_does_not_start_through_the_link_comes_back_as_it_was() {
    // In a lower layer the original is gone by then and comes back from the volume; in the upper one it is exchanged.
    for of_the_image in [true, false] {
        let overlay = Overlay::new();
        let python = overlay.root().join("venv/main/bin/python");
        if !of_the_image {
            let copy = overlay.root().join("venv/copy");
            tool("cp", ["-a", overlay.root().join("venv/main").to_str().unwrap(), copy.to_str().unwrap()]);
            tool("rm", ["-r", overlay.root().join("venv/main").to_str().unwrap()]);
            fs::rename(&copy, overlay.root().join("venv/main")).unwrap();
        }
        interpreter(&python, 0);
        // It works where it is called by its path on the volume, and not by the old one once that is a link.
        fs::write(&python, "#!/bin/sh\n[ ! -L /venv/main ] || { echo moved >&2; exit 3; }\n").unwrap();
        let before = contents(&overlay.root().join("venv/main"));
        let run = inside(&overlay, "");
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("`/venv/main` stays in the container") && run.stderr.contains("moved"), "{run:?}");
        assert_eq!(contents(&overlay.root().join("venv/main")), before, "of the image: {of_the_image}");
        assert!(overlay.root().join("venv/conda").is_symlink());
        let journal = fs::read_dir(overlay.root().join("var/lib/vast-sync/relink")).into_iter().flatten().count();
        assert_eq!(journal, 0);
    }
}
