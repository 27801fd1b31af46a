//! `vast-gpu apply` while every one of its steps fails in turn, or is the last one that it takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::container::{VAST_GPU, container, toolkit};
use crate::libraries::{REFUSES, STARTS, WORKS, library};

/// An installed image, and the set-up that changes it.
struct Scenario {
    image: TempDir,
    tools: TempDir,
    /// More of the environment.
    variables: &'static [(&'static str, &'static str)],
    /// What an undisturbed `apply` exits with.
    code: i32,
}

impl Scenario {
    /// An image with CUDA 12.4 in use, 12.8 and 13.0, whose compat library has this code.
    fn new(compat: &str, code: i32) -> Self {
        let image = container(WORKS);
        let root = image.path();
        for (version, compat) in [("12.4", None), ("12.8", None), ("13.0", Some(compat))] {
            toolkit(root, version, compat);
        }
        symlink("/usr/local/cuda-12.4", root.join("usr/local/cuda")).unwrap();
        let loader = root.join("etc/ld.so.conf.d");
        fs::create_dir_all(&loader).unwrap();
        fs::write(root.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/usr/local/cuda/lib64\n").unwrap();
        fs::write(loader.join("988_cuda-12.conf"), "/usr/local/cuda-12/lib64\n/opt/lib\n").unwrap();
        let tools = tempfile::tempdir().unwrap();
        library(&tools.path().join("faults.so"), include_str!("faults.c"), &["-ldl"]);
        let scenario = Self { image, tools, variables: &[], code };
        cache(scenario.image.path());
        scenario
    }

    /// The image as an earlier boot, with forward compatibility, left it; its compat library now has this code.
    fn after_compat(compat: &str, code: i32) -> Self {
        let mut scenario = Self::new(STARTS, 0);
        let applied = scenario.apply(scenario.image.path(), &[]);
        assert_eq!(applied.status.code(), Some(0), "{applied:?}");
        library(&scenario.image.path().join("usr/local/cuda-13.0/compat/libcuda.so.580.65.06"), compat, &[]);
        scenario.code = code;
        scenario
    }

    /// A copy of the image.
    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.image.path().join(".")).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        copy
    }

    fn apply(&self, root: &Path, more: &[(&str, &str)]) -> Output {
        Command::new(VAST_GPU)
            .args(["apply", "--root"])
            .arg(root)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LD_PRELOAD", self.tools.path().join("faults.so"))
            .envs(self.variables.iter().copied())
            .envs(more.iter().copied())
            .output()
            .unwrap()
    }

    /// How many calls of an undisturbed run change files, and the state that it leaves.
    fn undisturbed(&self) -> (usize, Vec<(String, String)>) {
        let (copy, log) = (self.copy(), self.tools.path().join("log"));
        let applied = self.apply(copy.path(), &[("FAULT_LOG", log.to_str().unwrap())]);
        assert_eq!(applied.status.code(), Some(self.code), "{applied:?}");
        let calls = fs::read_to_string(&log).unwrap().lines().count();
        assert!(calls >= 8, "only {calls} calls were counted");
        (calls, state(copy.path()))
    }
}

/// Makes the loader's cache, by the real `ldconfig`.
fn cache(root: &Path) {
    assert!(Command::new("/usr/sbin/ldconfig").arg("-r").arg(root).status().unwrap().success());
}

/// Every file and link of `/etc` and `/usr`, with its mode and content: the loader's cache too.
fn state(root: &Path) -> Vec<(String, String)> {
    let listed = Command::new("find")
        .args(["etc", "usr", "-type", "f", "-printf", "%p %m ", "-exec", "sha256sum", "{}", ";", "-o", "-type", "l", "-printf", "%p -> %l\n"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(listed.status.success());
    let text = String::from_utf8(listed.stdout).unwrap();
    let mut lines: Vec<(String, String)> =
        text.lines().map(|line| line.split_once(' ').map(|(path, rest)| (path.to_owned(), rest.to_owned())).unwrap()).collect();
    lines.sort();
    lines
}

fn scenarios() -> [(&'static str, Scenario); 3] {
    let mut forgotten = Scenario::after_compat(STARTS, 0);
    forgotten.variables = &[("VAST_CUDA_MAX_OVERRIDE", "13.0")];
    [
        ("forward compatibility is set up", Scenario::new(STARTS, 0)),
        ("forward compatibility is lost", Scenario::after_compat(REFUSES, 1)),
        ("forward compatibility is no longer needed", forgotten),
    ]
}

#[test]
fn every_step_that_fails_leaves_what_was_there_or_costs_nothing() {
    for (name, scenario) in scenarios() {
        let before = state(scenario.image.path());
        let (calls, after) = scenario.undisturbed();
        assert_ne!(before, after, "{name}");
        let mut failed = 0;
        for at in 1..=calls {
            let copy = scenario.copy();
            let applied = scenario.apply(copy.path(), &[("FAULT_AT", &at.to_string())]);
            let said = String::from_utf8_lossy(&applied.stderr);
            match applied.status.code() {
                Some(2) => {
                    failed += 1;
                    assert_eq!(state(copy.path()), before, "{name}, call {at}: {said}");
                    assert!(said.contains("No space left on device"), "{name}, call {at}: {said}");
                }
                code => {
                    assert_eq!(code, Some(scenario.code), "{name}, call {at}: {said}");
                    assert_eq!(state(copy.path()), after, "{name}, call {at}");
                }
            }
            // The next boot does it all.
            let again = scenario.apply(copy.path(), &[]);
            assert_eq!(again.status.code(), Some(scenario.code), "{name}, after call {at}: {again:?}");
            assert_eq!(state(copy.path()), after, "{name}, after call {at}");
        }
        assert!(failed * 2 > calls, "{name}: {failed} of {calls} calls made it fail");
    }
}

#[test]
fn a_kill_at_every_step_leaves_nothing_that_the_next_boot_does_not_put_right() {
    for (name, scenario) in scenarios() {
        let (calls, after) = scenario.undisturbed();
        for at in 1..=calls {
            let copy = scenario.copy();
            let applied = scenario.apply(copy.path(), &[("FAULT_AT", &at.to_string()), ("FAULT_KILLS", "1")]);
            assert_eq!(applied.status.signal(), Some(Signal::KILL.as_raw()), "{name}, call {at}");
            let again = scenario.apply(copy.path(), &[]);
            assert_eq!(again.status.code(), Some(scenario.code), "{name}, killed at call {at}: {again:?}");
            assert_eq!(state(copy.path()), after, "{name}, killed at call {at}");
        }
    }
}

#[test]
fn a_cache_that_cannot_be_made_takes_the_changes_back() {
    for (name, scenario) in scenarios() {
        let before = state(scenario.image.path());
        let copy = scenario.copy();
        // The cache's directory cannot be written by `ldconfig`, which replaces the file by a rename.
        let tools = tempfile::tempdir().unwrap();
        fs::write(tools.path().join("ldconfig"), "#!/bin/sh\necho 'cannot rename: no room' >&2\nexit 1\n").unwrap();
        fs::set_permissions(tools.path().join("ldconfig"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", tools.path().display());
        let applied = scenario.apply(copy.path(), &[("PATH", &path)]);
        let said = String::from_utf8_lossy(&applied.stderr);
        assert_eq!(applied.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("`ldconfig` failed: cannot rename: no room"), "{name}: {said}");
        let marker = fs::read_to_string(copy.path().join("run/vast-cuda-config-failed")).unwrap();
        assert!(marker.contains("no room"), "{marker}");
        // That the cache is still to be made is all that is left.
        let mut left = state(copy.path());
        left.retain(|(path, _)| path != "etc/.vast-cuda-pending");
        assert_eq!(left, before, "{name}");
        let (_, after) = scenario.undisturbed();
        assert_eq!(scenario.apply(copy.path(), &[]).status.code(), Some(scenario.code), "{name}");
        assert_eq!(state(copy.path()), after, "{name}");
    }
}
