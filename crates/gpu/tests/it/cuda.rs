//! Stage 05: which toolkit, which changes, and all of them or none.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vast_gpu::cuda::{Choice, Maximum, Patience, Plan, configure, gather, prepare};
use vast_gpu::runner::{Answer, Runner};
use vast_gpu::{CudaVersion, Error};

use crate::{env, root};

const DRIVER: (&str, &str) = (
    "proc/driver/nvidia/version",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.26  Release Build\nGCC version: x\n",
);
const LIBRARY: (&str, &str) = ("usr/lib/x86_64-linux-gnu/libcuda.so.570.26", "");

/// A machine whose driver supports CUDA `maximum`.
struct Machine {
    maximum: Result<CudaVersion, String>,
    /// The answers of forward compatibility, one per try; the last one repeats.
    compat: Vec<Result<(), String>>,
    tries: Cell<usize>,
    asked: RefCell<Vec<PathBuf>>,
    ldconfig_runs: Cell<u32>,
    ldconfig_works: bool,
}

impl Machine {
    fn new(maximum: &str) -> Self {
        Self {
            maximum: Ok(maximum.parse().unwrap()),
            compat: vec![Err("cuInit returned 804".to_owned())],
            tries: Cell::new(0),
            asked: RefCell::default(),
            ldconfig_runs: Cell::new(0),
            ldconfig_works: true,
        }
    }

    fn with_compat(maximum: &str) -> Self {
        Self { compat: vec![Ok(())], ..Self::new(maximum) }
    }

    fn configure(&self, root: &Path, variables: &[(&str, &str)]) -> Result<Plan, Error> {
        configure(root, &env(variables), self, Patience { tries: 3, pause: Duration::ZERO })
    }
}

impl Runner for Machine {
    fn driver_version(&self, library: &Path) -> Result<Answer, String> {
        self.asked.borrow_mut().push(library.to_owned());
        self.maximum.clone().map(|version| Answer { version, library: library.to_owned() })
    }

    fn init_with_compat(&self, directory: &Path) -> Result<(), String> {
        self.asked.borrow_mut().push(directory.to_owned());
        let tried = self.tries.replace(self.tries.get() + 1);
        self.compat[tried.min(self.compat.len() - 1)].clone()
    }

    fn ldconfig(&self, _: &Path) -> Result<(), Error> {
        self.ldconfig_runs.set(self.ldconfig_runs.get() + 1);
        let source = std::io::Error::other("no room");
        if self.ldconfig_works { Ok(()) } else { Err(Error::Run { program: "ldconfig".to_owned(), source }) }
    }
}

/// A container with this driver and these toolkits; a `+` behind a version brings compat libraries of driver 580.65.06.
fn container(toolkits: &[&str]) -> TempDir {
    let root = root(&[
        DRIVER,
        LIBRARY,
        ("usr/lib/x86_64-linux-gnu/libcuda.so", ""),
        ("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
        ("etc/ld.so.conf.d/988_cuda-12.conf", "/usr/local/cuda-12/lib64\n"),
        ("usr/local/share/x", ""),
    ]);
    symlink("libcuda.so.570.26", root.path().join("usr/lib/x86_64-linux-gnu/libcuda.so.1")).unwrap();
    for toolkit in toolkits {
        let directory = root.path().join(format!("usr/local/cuda-{}", toolkit.trim_end_matches('+')));
        fs::create_dir_all(directory.join("compat")).unwrap();
        if toolkit.ends_with('+') {
            fs::write(directory.join("compat/libcuda.so.580.65.06"), "").unwrap();
        }
    }
    root
}

fn link(root: &Path) -> Option<String> {
    fs::read_link(root.join("usr/local/cuda")).ok().map(|target| target.display().to_string())
}

fn text(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

fn failure(root: &Path) -> Option<String> {
    text(root, "run/vast-cuda-config-failed")
}

/// Every file and link under `etc` and `usr`, with its content.
fn snapshot(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![root.join("etc"), root.join("usr")];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_symlink() {
            found.push((path.clone(), format!("-> {}", fs::read_link(&path).unwrap().display())));
        } else {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_toolkit_follows_from_the_driver() {
    let version = CudaVersion::new;
    for (name, toolkits, machine, variables, expected) in [
        (
            "newest not above",
            &["12.4", "12.8", "13.0"][..],
            Machine::new("12.8"),
            &[][..],
            Choice::Native(version(12, 8)),
        ),
        ("by component", &["12.9", "12.10"], Machine::new("12.11"), &[], Choice::Native(version(12, 10))),
        ("compat", &["12.8", "13.0+"], Machine::with_compat("12.8"), &[], Choice::ForwardCompat(version(13, 0))),
        ("compat fails", &["12.8", "13.0+"], Machine::new("12.8"), &[], Choice::Native(version(12, 8))),
        (
            "compat disabled",
            &["12.8", "13.0+"],
            Machine::with_compat("12.8"),
            &[("DISABLE_FORWARD_COMPAT", "true")],
            Choice::Native(version(12, 8)),
        ),
        ("no compat needed", &["12.8+"], Machine::with_compat("13.0"), &[], Choice::Native(version(12, 8))),
        (
            "only the newest's compat counts",
            &["12.9+", "13.0"],
            Machine::with_compat("12.8"),
            &[],
            Choice::MinorVersion(version(12, 9)),
        ),
        (
            "minor version: the oldest of the major",
            &["12.8", "12.9"],
            Machine::new("12.4"),
            &[],
            Choice::MinorVersion(version(12, 8)),
        ),
        ("another major", &["13.0"], Machine::new("12.8"), &[], Choice::Keep),
        (
            "override",
            &["12.4", "12.8"],
            Machine::new("12.8"),
            &[("VAST_CUDA_MAX_OVERRIDE", "12.5")],
            Choice::Native(version(12, 4)),
        ),
        (
            "bad override",
            &["12.4", "12.8"],
            Machine::new("12.8"),
            &[("VAST_CUDA_MAX_OVERRIDE", "high")],
            Choice::Native(version(12, 8)),
        ),
        ("no toolkit", &[], Machine::new("12.8"), &[], Choice::NoToolkit),
    ] {
        let root = container(toolkits);
        let plan = machine.configure(root.path(), variables).unwrap();
        assert_eq!(plan.choice, expected, "{name}: {plan:?}");
        assert_eq!(link(root.path()), expected.toolkit().map(|version| format!("/usr/local/cuda-{version}")), "{name}");
        assert_eq!(plan.failure.is_some(), expected == Choice::Keep, "{name}");
        assert_eq!(failure(root.path()).is_some(), plan.failure.is_some(), "{name}");
        let conf = text(root.path(), "etc/ld.so.conf.d/0-compat-cuda.conf");
        let marker = text(root.path(), "etc/vast-cuda-compat-established");
        let compat = matches!(expected, Choice::ForwardCompat(_));
        assert_eq!(conf.as_deref(), compat.then_some("/usr/local/cuda-13.0/compat\n"), "{name}");
        assert_eq!(marker.as_deref(), compat.then_some("13.0\n"), "{name}");
    }
}

#[test]
fn without_a_driver_there_is_nothing_to_do_and_old_marks_go() {
    for files in [&[][..], &[DRIVER]] {
        let root = root(files);
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::create_dir_all(root.path().join("usr/local/cuda-12.8")).unwrap();
        fs::write(root.path().join("run/vast-cuda-config-failed"), "old\n").unwrap();
        let machine = Machine::new("12.8");
        let plan = machine.configure(root.path(), &[]).unwrap();
        assert_eq!((plan.choice, plan.changes.len(), failure(root.path())), (Choice::NoDriver, 0, None));
        assert_eq!(machine.ldconfig_runs.get(), 0);
    }
}

#[test]
fn an_unknown_maximum_changes_nothing_and_is_recorded() {
    let root = container(&["12.8"]);
    let before = snapshot(root.path());
    let machine = Machine { maximum: Err("it did not answer within 15 s".to_owned()), ..Machine::new("1.0") };
    let plan = machine.configure(root.path(), &[]).unwrap();
    assert_eq!((plan.choice, snapshot(root.path())), (Choice::Keep, before));
    assert!(failure(root.path()).unwrap().contains("did not answer within 15 s"));
}

#[test]
fn devices_without_the_drivers_library_are_a_driver_of_unknown_maximum() {
    let root = root(&[DRIVER, ("dev/nvidiactl", "")]);
    let facts = gather(root.path(), &env(&[]), &Machine::new("12.8")).unwrap();
    assert!(
        matches!(facts.driver.unwrap().maximum, Maximum::Unknown(reason) if reason.contains("libcuda.so.1 is not"))
    );
}

#[test]
fn the_drivers_own_library_is_asked_and_no_other() {
    for (name, links, asked) in [
        ("the kernel's version", &[][..], Some("usr/lib/x86_64-linux-gnu/libcuda.so.570.26")),
        (
            "a stale one is first",
            &[("libcuda.so.535.54.03", "usr/lib/x86_64-linux-gnu/libcuda.so.1")],
            Some("usr/lib/x86_64-linux-gnu/libcuda.so.570.26"),
        ),
    ] {
        let root = root(&[DRIVER, LIBRARY, ("usr/lib/x86_64-linux-gnu/libcuda.so.535.54.03", "")]);
        for (target, link) in links {
            symlink(target, root.path().join(link)).unwrap();
        }
        let machine = Machine::new("12.8");
        gather(root.path(), &env(&[]), &machine).unwrap();
        let expected: Vec<PathBuf> = asked.iter().map(|path| root.path().join(path)).collect();
        assert_eq!(*machine.asked.borrow(), expected, "{name}");
    }
    // Only libraries of others: no answer rather than theirs.
    for target in ["libcuda.so.535.54.03", "/usr/local/cuda-13.0/compat/libcuda.so.1"] {
        let root = root(&[
            DRIVER,
            ("dev/nvidiactl", ""),
            ("usr/lib/x86_64-linux-gnu/libcuda.so.535.54.03", ""),
            ("usr/local/cuda-13.0/compat/libcuda.so.1", ""),
        ]);
        let target = target.strip_prefix('/').map_or(PathBuf::from(target), |target| root.path().join(target));
        symlink(target, root.path().join("usr/lib/x86_64-linux-gnu/libcuda.so.1")).unwrap();
        let machine = Machine::new("12.8");
        let facts = gather(root.path(), &env(&[]), &machine).unwrap();
        assert!(
            matches!(facts.driver.unwrap().maximum, Maximum::Unknown(reason) if reason.contains("is not the library of driver 570.26"))
        );
        assert!(machine.asked.borrow().is_empty());
    }
}

#[test]
fn forward_compatibility_is_tried_three_times() {
    let root = container(&["13.0+"]);
    let not_yet = || Err("cuInit returned 3".to_owned());
    let machine = Machine { compat: vec![not_yet(), not_yet(), Ok(())], ..Machine::new("12.8") };
    let plan = machine.configure(root.path(), &[]).unwrap();
    assert_eq!((plan.choice, machine.tries.get()), (Choice::ForwardCompat(CudaVersion::new(13, 0)), 3));

    let machine = Machine { compat: vec![not_yet(), not_yet(), not_yet(), Ok(())], ..Machine::new("12.8") };
    assert_eq!(
        machine.configure(container(&["12.8", "13.0+"]).path(), &[]).unwrap().choice,
        Choice::Native(CudaVersion::new(12, 8))
    );
    assert_eq!(machine.tries.get(), 3);
}

#[test]
fn a_boot_tries_three_times_two_seconds_apart() {
    let patience = Patience::default();
    assert_eq!((patience.tries, patience.pause), (3, Duration::from_secs(2)));
}

#[test]
fn where_the_kernel_does_not_say_its_version_the_library_does() {
    let root = container(&["12.8", "13.0"]);
    fs::remove_file(root.path().join(DRIVER.0)).unwrap();
    fs::write(root.path().join("usr/local/cuda-13.0/compat/libcuda.so.565.10"), "").unwrap();
    let machine = Machine::with_compat("12.8");
    let facts = gather(root.path(), &env(&[]), &machine).unwrap();
    assert_eq!(facts.driver.unwrap().version, Some("570.26".parse().unwrap()));
    machine.configure(root.path(), &[]).unwrap();
    assert_eq!(machine.tries.get(), 0, "an older library was loaded");
}

#[test]
fn libraries_older_than_the_driver_are_never_loaded() {
    let root = container(&["12.8", "13.0"]);
    fs::write(root.path().join("usr/local/cuda-13.0/compat/libcuda.so.565.10"), "").unwrap();
    let machine = Machine::with_compat("12.8");
    let plan = machine.configure(root.path(), &[]).unwrap();
    assert_eq!((plan.choice, machine.tries.get()), (Choice::Native(CudaVersion::new(12, 8)), 0));
    assert!(
        plan.messages.iter().any(|message| message.contains("565.10 are older than the driver, 570.26")),
        "{plan:?}"
    );
}

#[test]
fn the_second_boot_changes_nothing() {
    for (toolkits, machine) in
        [(&["12.8"][..], Machine::new("12.8")), (&["12.8", "13.0+"], Machine::with_compat("12.8"))]
    {
        let root = container(toolkits);
        machine.configure(root.path(), &[]).unwrap();
        assert_eq!(machine.ldconfig_runs.get(), 1);
        let before = snapshot(root.path());
        let second = machine.configure(root.path(), &[]).unwrap();
        assert_eq!((second.changes.len(), machine.ldconfig_runs.get()), (0, 1), "{second:?}");
        assert_eq!(snapshot(root.path()), before);
        assert_eq!(text(root.path(), "etc/ld.so.conf.d/988_cuda-12.conf").as_deref(), Some(""));
        assert_eq!(text(root.path(), "etc/ld.so.conf.d/10-cuda.conf").as_deref(), Some("/usr/local/cuda/lib64\n"));
    }
}

#[test]
fn lost_compatibility_is_recorded_at_every_boot() {
    let root = container(&["12.8", "13.0+"]);
    Machine::with_compat("12.8").configure(root.path(), &[]).unwrap();
    for _ in 0..2 {
        let plan = Machine::new("12.8").configure(root.path(), &[]).unwrap();
        assert_eq!(plan.choice, Choice::Native(CudaVersion::new(12, 8)));
        let failure = failure(root.path()).unwrap();
        assert!(failure.contains("CUDA 13.0 through forward compatibility, this one uses 12.8"), "{failure}");
        assert!(failure.contains("cuInit returned 804"), "{failure}");
        assert_eq!(text(root.path(), "etc/ld.so.conf.d/0-compat-cuda.conf"), None);
    }
    // Asked for: no record.
    Machine::new("12.8").configure(root.path(), &[("DISABLE_FORWARD_COMPAT", "TRUE")]).unwrap();
    assert_eq!(failure(root.path()), None);
    // Back again: no record, and no trace of the loss.
    Machine::with_compat("12.8").configure(root.path(), &[]).unwrap();
    assert_eq!((failure(root.path()), link(root.path()).as_deref()), (None, Some("/usr/local/cuda-13.0")));
    // A newer driver needs none of it, and what was established is forgotten.
    Machine::new("13.0").configure(root.path(), &[]).unwrap();
    assert_eq!((failure(root.path()), text(root.path(), "etc/vast-cuda-compat-established")), (None, None));
}

#[test]
fn a_failure_half_way_restores_what_was_there() {
    // The loader's cache cannot be made.
    let root = container(&["12.4", "12.8"]);
    symlink("/usr/local/cuda-12.4", root.path().join("usr/local/cuda")).unwrap();
    let before = snapshot(root.path());
    let machine = Machine { ldconfig_works: false, ..Machine::new("12.8") };
    let error = machine.configure(root.path(), &[]).unwrap_err();
    assert_eq!(error.to_string(), "`ldconfig` failed");
    let mut after = snapshot(root.path());
    // The cache is still to be made.
    after.retain(|(path, _)| !path.ends_with(".vast-cuda-pending"));
    assert_eq!(after, before);
    assert!(failure(root.path()).unwrap().contains("`ldconfig` failed: no room"));
    // With a working one, the next boot does it all.
    let machine = Machine::new("12.8");
    machine.configure(root.path(), &[]).unwrap();
    assert_eq!((failure(root.path()), link(root.path()).as_deref()), (None, Some("/usr/local/cuda-12.8")));
    assert_eq!((machine.ldconfig_runs.get(), text(root.path(), "etc/.vast-cuda-pending")), (1, None));

    // A change in the middle cannot be made: there is a directory in its place.
    let root = container(&["12.8", "13.0+"]);
    fs::create_dir(root.path().join("etc/ld.so.conf.d/0-compat-cuda.conf")).unwrap();
    let before = snapshot(root.path());
    let machine = Machine::with_compat("12.8");
    let error = machine.configure(root.path(), &[]).unwrap_err();
    assert!(error.to_string().ends_with("etc/ld.so.conf.d/0-compat-cuda.conf`"), "{error}");
    assert_eq!((snapshot(root.path()), link(root.path())), (before, None));
    assert!(failure(root.path()).unwrap().contains("0-compat-cuda.conf"));
}

#[test]
fn facts_that_cannot_be_read_are_recorded() {
    let root = container(&["12.8"]);
    fs::create_dir(root.path().join("etc/vast-cuda-compat-established")).unwrap();
    let before = snapshot(root.path());
    Machine::new("12.8").configure(root.path(), &[]).unwrap_err();
    assert_eq!(snapshot(root.path()), before);
    assert!(failure(root.path()).unwrap().contains("cannot read"));
}

#[test]
fn a_set_up_that_was_cut_short_makes_the_cache_at_the_next_boot() {
    let root = container(&["12.8"]);
    let machine = Machine::new("12.8");
    machine.configure(root.path(), &[]).unwrap();
    fs::write(root.path().join("etc/.vast-cuda-pending"), "").unwrap();
    let plan = machine.configure(root.path(), &[]).unwrap();
    assert_eq!((plan.changes.len(), machine.ldconfig_runs.get()), (0, 2));
    assert!(!root.path().join("etc/.vast-cuda-pending").exists());
}

#[test]
fn planning_changes_nothing() {
    let root = container(&["12.8", "13.0+"]);
    let before = snapshot(root.path());
    let plan = prepare(root.path(), &env(&[]), &Machine::with_compat("12.8"), Patience::default()).unwrap();
    assert!(!plan.changes.is_empty());
    assert_eq!(snapshot(root.path()), before);
    assert!(!root.path().join("run").exists());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_unversioned_name_of_the_drivers_library_is_added() {
    let root = container(&[]);
    fs::remove_file(root.path().join("usr/lib/x86_64-linux-gnu/libcuda.so")).unwrap();
    Machine::new("12.8").configure(root.path(), &[]).unwrap();
    let link = fs::read_link(root.path().join("usr/lib/x86_64-linux-gnu/libcuda.so")).unwrap();
    assert_eq!(link, Path::new("libcuda.so.1"));
}

#[test]
fn later_stages_find_the_toolkit_and_no_other() {
    let root = container(&["12.8"]);
    let plan = Machine::new("12.8").configure(root.path(), &[]).unwrap();
    let before = env(&[
        ("PATH", "/opt/instance-tools/bin:/usr/local/cuda-12.4/bin:/usr/bin"),
        ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64:/usr/local/nvidia/lib64:/usr/local/cuda-12.4/compat"),
    ]);
    let changes = plan.environment(&before);
    let set: Vec<_> = changes.set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        set,
        [
            ("CUDA_HOME", "/usr/local/cuda"),
            ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64"),
            ("PATH", "/opt/instance-tools/bin:/usr/local/cuda/bin:/usr/bin"),
        ]
    );
    let changes = plan.environment(&env(&[("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")]));
    assert!(changes.unset.contains("LD_LIBRARY_PATH"));
    let none = Machine::new("12.8").configure(container(&[]).path(), &[]).unwrap().environment(&before);
    assert!(none.set.is_empty() && none.unset.is_empty());
}

#[test]
fn the_drivers_libraries_in_the_search_path_do_not_come_before_forward_compatibility() {
    let search = [("LD_LIBRARY_PATH", "/usr/local/nvidia/lib:/usr/local/nvidia/lib64:/usr/local/cuda-12.8/lib64")];
    let root = container(&["12.8", "13.0+"]);
    let search_path = |plan: &Plan| plan.environment(&env(&search)).set["LD_LIBRARY_PATH"].clone();
    // NVIDIA's images name these directories; most platforms leave them empty.
    let plan = Machine::with_compat("12.8").configure(root.path(), &search).unwrap();
    assert_eq!(plan.choice, Choice::ForwardCompat("13.0".parse().unwrap()));
    assert_eq!(search_path(&plan), "/usr/local/nvidia/lib:/usr/local/nvidia/lib64");
    let directory = root.path().join("usr/local/nvidia/lib64");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("libcuda.so.570.26"), "").unwrap();
    symlink("libcuda.so.570.26", directory.join("libcuda.so.1")).unwrap();
    let plan = Machine::with_compat("12.8").configure(root.path(), &search).unwrap();
    let with_compat = "/usr/local/cuda-13.0/compat:/usr/local/nvidia/lib:/usr/local/nvidia/lib64";
    assert_eq!(search_path(&plan), with_compat);
    // The next boot finds it there, and a boot that does not use it takes it away.
    let search = [("LD_LIBRARY_PATH", with_compat)];
    let plan = Machine::with_compat("12.8").configure(root.path(), &search).unwrap();
    assert_eq!(plan.environment(&env(&search)).set.get("LD_LIBRARY_PATH"), None);
    let plan = Machine::new("12.8").configure(root.path(), &search).unwrap();
    assert_eq!(plan.environment(&env(&search)).set["LD_LIBRARY_PATH"], "/usr/local/nvidia/lib:/usr/local/nvidia/lib64");
}
