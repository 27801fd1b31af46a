//! `vast-gpu apply` while every one of its steps fails in turn, or is the last one that it takes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::container::{VAST_GPU, container, toolkit};
use crate::libraries::{STARTS, WORKS, library};

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
    /// An image with CUDA 12.4 in use, 12.8 and 13.0, whose compat library starts.
    fn new(code: i32) -> Self {
        let image = container(WORKS);
        let root = image.path();
        for (version, compat) in [("12.4", None), ("12.8", None), ("13.0", Some(STARTS))] {
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

    /// The image as an earlier boot, with forward compatibility, left it.
    fn after_compat(code: i32) -> Self {
        let mut scenario = Self::new(0);
        let applied = scenario.apply(scenario.image.path(), &[]);
        assert_eq!(applied.status.code(), Some(0), "{applied:?}");
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
    fn undisturbed(&self) -> (usize, BTreeMap<PathBuf, (u32, Vec<u8>)>) {
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
fn state(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::from("etc"), PathBuf::from("usr")];
    while let Some(path) = left.pop() {
        let at = root.join(&path);
        let facts = fs::symlink_metadata(&at).unwrap();
        if facts.is_dir() {
            left.extend(fs::read_dir(&at).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if facts.is_symlink() {
            found.insert(path, (0, fs::read_link(&at).unwrap().into_os_string().into_vec()));
        } else {
            found.insert(path, (facts.mode(), fs::read(&at).unwrap()));
        }
    }
    found
}

/// Fails with the names of what differs, not with all that is in it.
#[track_caller]
fn assert_same(state: &BTreeMap<PathBuf, (u32, Vec<u8>)>, expected: &BTreeMap<PathBuf, (u32, Vec<u8>)>, when: &str) {
    let differs: Vec<&PathBuf> =
        state.keys().chain(expected.keys()).filter(|path| state.get(*path) != expected.get(*path)).collect();
    assert!(differs.is_empty(), "{when}: {differs:?}");
}

fn set_up() -> Scenario {
    Scenario::new(0)
}

/// The driver was updated: the compat library is older than it now.
fn lost() -> Scenario {
    let scenario = Scenario::after_compat(1);
    let compat = scenario.image.path().join("usr/local/cuda-13.0/compat");
    fs::rename(compat.join("libcuda.so.580.65.06"), compat.join("libcuda.so.565.10")).unwrap();
    cache(scenario.image.path());
    scenario
}

fn no_longer_needed() -> Scenario {
    let mut scenario = Scenario::after_compat(0);
    scenario.variables = &[("VAST_CUDA_MAX_OVERRIDE", "13.0")];
    scenario
}

#[test]
fn every_step_of_a_set_up_that_fails_leaves_what_was_there_or_costs_nothing() {
    each_step_fails(&set_up());
}

#[test]
fn every_step_after_a_loss_that_fails_leaves_what_was_there_or_costs_nothing() {
    each_step_fails(&lost());
}

#[test]
fn every_step_back_that_fails_leaves_what_was_there_or_costs_nothing() {
    each_step_fails(&no_longer_needed());
}

#[test]
fn a_set_up_killed_at_any_step_is_completed_by_the_next_boot() {
    each_step_is_the_last(&set_up());
}

#[test]
fn a_loss_killed_at_any_step_is_completed_by_the_next_boot() {
    each_step_is_the_last(&lost());
}

#[test]
fn a_way_back_killed_at_any_step_is_completed_by_the_next_boot() {
    each_step_is_the_last(&no_longer_needed());
}

fn each_step_fails(scenario: &Scenario) {
    let before = state(scenario.image.path());
    let (calls, after) = scenario.undisturbed();
    assert_ne!(before, after);
    let (mut failed, mut kept) = (0, 0);
    for at in 1..=calls {
        let copy = scenario.copy();
        let applied = scenario.apply(copy.path(), &[("FAULT_AT", &at.to_string())]);
        let said = String::from_utf8_lossy(&applied.stderr);
        let when = format!("call {at}: {said}");
        match applied.status.code() {
            Some(2) => {
                failed += 1;
                assert_same(&state(copy.path()), &before, &when);
                assert!(said.contains("No space left on device"), "{when}");
            }
            code => {
                assert_eq!(code, Some(scenario.code), "{when}");
                let mut state = state(copy.path());
                // A mark that could not be removed costs the next boot another cache, and no more.
                kept += usize::from(state.remove(Path::new("etc/.vast-cuda-pending")).is_some());
                assert_same(&state, &after, &when);
            }
        }
        // The next boot does it all.
        let again = scenario.apply(copy.path(), &[]);
        assert_eq!(again.status.code(), Some(scenario.code), "after call {at}: {again:?}");
        assert_same(&state(copy.path()), &after, &format!("after call {at}"));
    }
    assert!(failed * 2 > calls, "{failed} of {calls} calls made it fail");
    assert!(kept <= 1, "{kept} calls left the mark, and one removes it");
}

fn each_step_is_the_last(scenario: &Scenario) {
    let (calls, after) = scenario.undisturbed();
    for at in 1..=calls {
        let copy = scenario.copy();
        let applied = scenario.apply(copy.path(), &[("FAULT_AT", &at.to_string()), ("FAULT_KILLS", "1")]);
        assert_eq!(applied.status.signal(), Some(Signal::KILL.as_raw()), "call {at}");
        let again = scenario.apply(copy.path(), &[]);
        assert_eq!(again.status.code(), Some(scenario.code), "killed at call {at}: {again:?}");
        assert_same(&state(copy.path()), &after, &format!("killed at call {at}"));
    }
}

#[test]
fn a_cache_that_cannot_be_made_takes_the_changes_back() {
    for (name, scenario) in [("set-up", set_up()), ("loss", lost()), ("way back", no_longer_needed())] {
        let before = state(scenario.image.path());
        let copy = scenario.copy();
        let tools = tempfile::tempdir().unwrap();
        fs::write(tools.path().join("ldconfig"), "#!/bin/sh\necho 'cannot rename: no room' >&2\nexit 1\n").unwrap();
        fs::set_permissions(tools.path().join("ldconfig"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let path = format!("{}:/usr/bin:/bin", tools.path().display());
        let applied = scenario.apply(copy.path(), &[("PATH", &path)]);
        let said = String::from_utf8_lossy(&applied.stderr);
        assert_eq!(applied.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("`ldconfig` failed: cannot rename: no room"), "{name}: {said}");
        let marker = fs::read_to_string(copy.path().join("run/vast-cuda-config-failed")).unwrap();
        assert!(marker.contains("no room"), "{marker}");
        // That the cache is still to be made is all that is left.
        let mut left = state(copy.path());
        left.remove(Path::new("etc/.vast-cuda-pending"));
        assert_same(&left, &before, name);
        let (_, after) = scenario.undisturbed();
        assert_eq!(scenario.apply(copy.path(), &[]).status.code(), Some(scenario.code), "{name}");
        assert_same(&state(copy.path()), &after, name);
    }
}
