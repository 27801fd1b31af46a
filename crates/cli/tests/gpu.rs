//! `vast-gpu` on fake roots, with shared libraries that behave as drivers do: they answer, refuse, hang and crash.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;
use vast_gpu::runner::{ChildProcess, Runner};

const VAST_GPU: &str = env!("CARGO_BIN_EXE_vast-gpu");

/// A libcuda that supports CUDA 12.8 and starts.
const WORKS: &str = "int cuDriverGetVersion(int *v) { *v = 12080; return 0; } int cuInit(unsigned f) { return 0; }";
/// The toolkit's: newer than the driver, and the device does not let it start.
const REFUSES: &str = "int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return 804; }";
const HANGS: &str = "#include <unistd.h>\nint cuDriverGetVersion(int *v) { for (;;) pause(); }";
const HANGS_WHEN_LOADED: &str =
    "#include <unistd.h>\n__attribute__((constructor)) static void f(void) { for (;;) pause(); }";
const CRASHES: &str = "#include <stdlib.h>\nint cuDriverGetVersion(int *v) { abort(); }";
const FAILS: &str = "int cuDriverGetVersion(int *v) { return 3; }";
const TALKS: &str =
    "#include <stdio.h>\nint cuDriverGetVersion(int *v) { puts(\"12.9\"); fflush(stdout); *v = 12080; return 0; }";

/// Compiles a shared library.
fn library(path: &Path, code: &str, arguments: &[&str]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = path.with_extension("c");
    fs::write(&source, code).unwrap();
    let status = Process::new("cc").args(["-shared", "-fPIC", "-o"]).arg(path).arg(&source).args(arguments).status();
    assert!(status.unwrap().success());
    fs::remove_file(source).unwrap();
}

/// A container with driver 570.26, whose libcuda has this code.
fn container(code: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let driver = root.path().join("proc/driver/nvidia/version");
    fs::create_dir_all(driver.parent().unwrap()).unwrap();
    fs::write(driver, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.26  Wed Jan 1\n").unwrap();
    let libraries = root.path().join("usr/lib/x86_64-linux-gnu");
    library(&libraries.join("libcuda.so.570.26"), code, &[]);
    symlink("libcuda.so.570.26", libraries.join("libcuda.so.1")).unwrap();
    root
}

fn toolkit(root: &Path, version: &str, compat: Option<&str>) {
    let directory = root.join(format!("usr/local/cuda-{version}"));
    fs::create_dir_all(&directory).unwrap();
    if let Some(code) = compat {
        library(&directory.join("compat/libcuda.so.580.65.06"), code, &[]);
        symlink("libcuda.so.580.65.06", directory.join("compat/libcuda.so.1")).unwrap();
    }
}

/// The binary, seeing no NVML but the one in `libraries`.
fn gpu(root: &Path, subcommand: &str, libraries: Option<&Path>) -> Command {
    let mut command = Command::new(VAST_GPU);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).arg(subcommand).arg("--root").arg(root);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks through the real binary.
fn asker() -> ChildProcess {
    ChildProcess {
        program: PathBuf::from(VAST_GPU),
        arguments: vec![vast_gpu::driver::SUBCOMMAND.into()],
        limit: Duration::from_mins(1),
    }
}

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
    assert_eq!(asker().driver_version(&path).unwrap().to_string(), "12.8");
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
}

#[test]
fn forward_compatibility_is_proved_by_starting_the_toolkits_library() {
    let directory = tempfile::tempdir().unwrap();
    for (code, expected) in [
        (WORKS, Ok(())),
        (REFUSES, Err("804: this device does not support forward compatibility")),
        ("int cuInit(unsigned f) { return 803; }", Err("803: the libraries do not match")),
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
fn plan_tells_what_boot_will_do_and_does_nothing() {
    let root = container(WORKS);
    toolkit(root.path(), "12.4", None);
    toolkit(root.path(), "12.8", None);
    let plan = gpu(root.path(), "plan", None).assert().success();
    let text = String::from_utf8_lossy(&plan.get_output().stdout).into_owned();
    assert!(text.starts_with("CUDA 12.8\n  link /usr/local/cuda to /usr/local/cuda-12.8\n"), "{text}");
    assert!(text.contains("  set CUDA_HOME=/usr/local/cuda\n") && text.ends_with("  run ldconfig\n"), "{text}");
    assert!(!root.path().join("usr/local/cuda").exists() && !root.path().join("run").exists());

    let plan = json(&mut gpu(root.path(), "plan", None));
    assert_eq!(plan["choice"]["native"], "12.8");
    assert_eq!(plan["environment"]["set"]["CUDA_HOME"], "/usr/local/cuda");
}

#[test]
fn plan_tries_forward_compatibility_with_the_real_loader() {
    let root = container(WORKS);
    toolkit(root.path(), "13.0", Some(WORKS));
    assert_eq!(json(&mut gpu(root.path(), "plan", None))["choice"]["forward-compat"], "13.0");
}

#[test]
fn a_container_without_a_gpu_is_healthy() {
    let root = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    gpu(root.path(), "plan", None).assert().success().stdout("no NVIDIA driver: nothing to set up\n").stderr("");
    gpu(root.path(), "torch-backend", Some(empty.path())).assert().success().stdout("cpu\n");
    gpu(root.path(), "check", Some(empty.path())).assert().success().stderr("");
    gpu(root.path(), "apply", Some(empty.path())).assert().success();
}

#[test]
fn an_unknown_version_is_told_and_never_guessed() {
    let root = container(CRASHES);
    toolkit(root.path(), "12.8", None);
    let applied = gpu(root.path(), "apply", None).assert().code(1).stdout("CUDA stays as it is\n");
    assert!(String::from_utf8_lossy(&applied.get_output().stderr).contains("crashed"));
    assert!(fs::read_to_string(root.path().join("run/vast-cuda-config-failed")).unwrap().contains("crashed"));
    gpu(root.path(), "check", None).assert().code(1);
    gpu(root.path(), "torch-backend", None).assert().code(2);
}

#[test]
fn the_toolkit_in_use_names_the_torch_backend() {
    let root = container(WORKS);
    toolkit(root.path(), "12.6", None);
    symlink("/usr/local/cuda-12.6", root.path().join("usr/local/cuda")).unwrap();
    gpu(root.path(), "torch-backend", None).assert().success().stdout("cu126\n");
    fs::remove_file(root.path().join("usr/local/cuda")).unwrap();
    gpu(root.path(), "torch-backend", None).assert().success().stdout("cu128\n");
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
    version(&["--native"], REFUSES).success().stdout("12.8\n");
    // There is a driver, and it does not say.
    let own = container(FAILS);
    let ask = |arguments: &[&str]| {
        Command::new(&bin).env_clear().arg("--root").arg(own.path()).args(arguments).assert().code(2).stdout("");
    };
    ask(&["--native"]);
    ask(&[]);
    version(&["--frobnicate"], REFUSES).code(64);
    fs::remove_dir_all(root.path().join("usr")).unwrap();
    version(&["--native"], REFUSES).code(1).stdout("");
}

/// An NVML with two devices, the second of which has fallen off the bus.
const NVML: &str = r#"
#include <string.h>
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } mem;
typedef struct { unsigned gpu, memory; } util;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } proc;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strcpy(s, "570.26"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)1; return i == 0 ? 0 : 15; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strcpy(s, "NVIDIA H200"); return 0; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) { strcpy(s, "GPU-1234"); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) { *a = 9; *b = 0; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *d, mem *m) { m->total = 150754820096ULL; m->used = 1073741824ULL; m->free = 0; m->reserved = 0; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, util *u) { u->gpu = 37; u->memory = 5; return 0; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { *mw = 75500; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *mw) { *mw = 700000; return 0; }
int nvmlDeviceGetTemperature(void *d, unsigned k, unsigned *t) { *t = 32; return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *c, unsigned *p) { *c = 0; *p = 0; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, proc *p) {
  if (*n < 1) { *n = 1; return 7; }
  *n = 1; p[0].pid = 4242; p[0].used = 1048576; p[0].gi = 0xFFFFFFFF; p[0].ci = 0xFFFFFFFF; return 0;
}
"#;

#[test]
fn probe_shows_what_nvml_says() {
    let root = container(WORKS);
    toolkit(root.path(), "12.8", None);
    symlink("cuda-12.8", root.path().join("usr/local/cuda")).unwrap();
    let nvml = tempfile::tempdir().unwrap();
    library(&nvml.path().join("libnvidia-ml.so.1"), NVML, &[]);

    let shown = gpu(root.path(), "probe", Some(nvml.path())).assert().success();
    let text = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
    let expected = "\
Driver:   NVIDIA 570.26, up to CUDA 12.8
Toolkits: 12.8 (in use)

GPU  NAME         ARCH  MEMORY           USE  POWER       TEMP   MIG
0    NVIDIA H200  9.0   1.0 / 140.4 GiB  37%  76 / 700 W  32 °C  off
1    -            -     -                -    -           -      -
";
    assert_eq!(text, expected);
    assert!(String::from_utf8_lossy(&shown.get_output().stderr).contains("NVIDIA device 1 cannot be asked"));

    let shown = json(&mut gpu(root.path(), "probe", Some(nvml.path())));
    assert_eq!(shown["driver"]["version"], "570.26");
    assert_eq!(shown["driver"]["maximum"]["driver"], "12.8");
    let device = &shown["devices"][0];
    assert_eq!(device["memory_total_bytes"], 150_754_820_096_u64);
    assert_eq!(device["power_watts"], 75.5);
    assert_eq!(device["processes"][0]["pid"], 4242);
    assert_eq!(shown["devices"][1]["name"], Value::Null);
    gpu(root.path(), "check", Some(nvml.path())).assert().code(1);
}
