//! Questions to the driver's libraries: what they answer, and what becomes of those that do not.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use assert_cmd::Command;
use vast_gpu::runner::{ChildProcess, Runner};

use crate::container::{LIBRARIES, VAST_GPU, asker, container};
use crate::libraries::{CRASHES, FAILS, HANGS, HANGS_WHEN_LOADED, MISMATCHES, REFUSES, TALKS, WORKS, library};

#[test]
fn a_driver_library_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libcuda.so.1");
    for code in [HANGS, HANGS_WHEN_LOADED] {
        library(&path, code, &[]);
        let impatient = ChildProcess { limit: Duration::from_millis(200), ..asker() };
        let error = impatient.driver_version(&path).unwrap_err();
        assert_eq!(error, "the driver's library did not answer within 0.2 s");
    }
}

#[test]
fn a_driver_library_that_gives_no_version_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libcuda.so.1");
    for (code, expected) in [
        (CRASHES, "crashed"),
        (FAILS, "cuDriverGetVersion returned 3"),
        ("int x;", "cuDriverGetVersion"),
        (TALKS, "is not a version"),
    ] {
        library(&path, code, &[]);
        let error = asker().driver_version(&path).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    fs::write(&path, "<html>").unwrap();
    assert!(asker().driver_version(&path).unwrap_err().contains("cannot load"));
    fs::remove_file(&path).unwrap();
    assert!(asker().driver_version(&path).unwrap_err().contains("cannot open"));

    library(&path, WORKS, &[]);
    let answer = asker().driver_version(&path).unwrap();
    assert_eq!((answer.version.to_string().as_str(), answer.library), ("12.8", path));
}

#[test]
fn a_library_that_brings_another_libcuda_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("compat/libcuda.so.2");
    library(&other, WORKS, &[]);
    let path = directory.path().join("libcuda.so.1");
    let other = other.display().to_string();
    library(
        &path,
        "int cuInit(unsigned); int f(void) { return cuInit(0); } int cuDriverGetVersion(int *v) { *v = 13000; return f(); }",
        &[&other],
    );
    let error = asker().driver_version(&path).unwrap_err();
    assert!(error.contains("was loaded instead of"), "{error}");

    // One that brings it only when it is asked.
    library(
        &path,
        &format!(
            "#include <dlfcn.h>\nint cuDriverGetVersion(int *v) {{ dlopen(\"{other}\", RTLD_NOW); *v = 13000; return 0; }}"
        ),
        &["-ldl"],
    );
    let error = asker().driver_version(&path).unwrap_err();
    assert!(error.contains("was loaded instead of"), "{error}");
}

#[test]
fn forward_compatibility_is_proved_by_starting_the_toolkits_library() {
    let directory = tempfile::tempdir().unwrap();
    for (code, expected) in [
        (WORKS, Ok(())),
        (REFUSES, Err("804: this device does not support forward compatibility")),
        (MISMATCHES, Err("803: the libraries do not match")),
        (CRASHES, Err("crashed")),
        (FAILS, Err("cuInit")),
    ] {
        library(&directory.path().join("libcuda.so.1"), code, &[]);
        match (asker().init_with_compat(directory.path()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn cuda_driver_version_is_a_command_by_its_name() {
    let root = container(WORKS);
    let bin = root.path().join("cuda-driver-version");
    symlink(VAST_GPU, &bin).unwrap();
    let version = |arguments: &[&str], library: &str| {
        let compat = root.path().join("compat");
        self::library(&compat.join("libcuda.so.1"), library, &[]);
        let mut command = Command::new(&bin);
        command.env_clear().env("LD_LIBRARY_PATH", compat).arg("--root").arg(root.path()).args(arguments);
        command.assert()
    };
    // The toolkit's library stands first for programs; the driver's own is another question.
    version(&[], REFUSES).success().stdout("13.0\n");
    let compat = root.path().join("compat/libcuda.so.1");
    version(&["--verbose"], REFUSES).success().stderr(format!("cuda-driver-version: says {}\n", compat.display()));
    version(&["--native"], REFUSES).success().stdout("12.8\n").stderr("");
    let own = root.path().join(LIBRARIES).join("libcuda.so.570.26");
    version(&["--native", "-v"], REFUSES).success().stderr(format!("cuda-driver-version: says {}\n", own.display()));
    // There is a driver, and it does not say.
    let silent = container(FAILS);
    let ask = |arguments: &[&str]| {
        Command::new(&bin).env_clear().arg("--root").arg(silent.path()).args(arguments).assert().code(2).stdout("");
    };
    ask(&["--native"]);
    ask(&[]);
    version(&["--frobnicate"], REFUSES).code(64);
    fs::remove_dir_all(root.path().join("usr")).unwrap();
    version(&["--native"], REFUSES).code(1).stdout("");
}
