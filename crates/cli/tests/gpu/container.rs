//! Fake containers with an NVIDIA driver, and the binary on them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;
use vast_gpu::runner::ChildProcess;

use crate::libraries::library;

pub(crate) const VAST_GPU: &str = env!("CARGO_BIN_EXE_vast-gpu");

/// Where Debian has libraries.
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A container with driver 570.26, whose libcuda has this code.
pub(crate) fn container(code: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    kernel_driver(root.path(), "NVIDIA UNIX x86_64 Kernel Module  570.26  Wed Jan 1");
    let libraries = root.path().join(LIBRARIES);
    library(&libraries.join("libcuda.so.570.26"), code, &[]);
    symlink("libcuda.so.570.26", libraries.join("libcuda.so.1")).unwrap();
    root
}

/// What the kernel says of its driver.
pub(crate) fn kernel_driver(root: &Path, says: &str) {
    let driver = root.join("proc/driver/nvidia/version");
    fs::create_dir_all(driver.parent().unwrap()).unwrap();
    fs::write(driver, format!("NVRM version: {says}\nGCC version:  gcc version 12.3.0\n")).unwrap();
}

/// A toolkit, and the code of its compat library if it has one.
pub(crate) fn toolkit(root: &Path, version: &str, compat: Option<&str>) {
    let directory = root.join(format!("usr/local/cuda-{version}"));
    fs::create_dir_all(&directory).unwrap();
    if let Some(code) = compat {
        library(&directory.join("compat/libcuda.so.580.65.06"), code, &[]);
        symlink("libcuda.so.580.65.06", directory.join("compat/libcuda.so.1")).unwrap();
    }
}

/// The binary, seeing no NVML but the one in `libraries`.
pub(crate) fn gpu(root: &Path, subcommand: &str, libraries: Option<&Path>) -> Command {
    let mut command = Command::new(VAST_GPU);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).arg(subcommand).arg("--root").arg(root);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

/// A directory whose NVML the loader cannot load: as none at all, on machines that have one too.
pub(crate) fn no_nvml() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("libnvidia-ml.so.1"), "no library").unwrap();
    directory
}

pub(crate) fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the binary printed: its output and what it told on standard error.
pub(crate) fn said(assert: &assert_cmd::assert::Assert) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&assert.get_output().stdout), text(&assert.get_output().stderr))
}

/// Asks through the real binary.
pub(crate) fn asker() -> ChildProcess {
    ChildProcess {
        program: PathBuf::from(VAST_GPU),
        arguments: vec![vast_gpu::driver::SUBCOMMAND.into()],
        limit: Duration::from_mins(1),
    }
}

/// A file of the container, if it is there.
pub(crate) fn text(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

/// Where `/usr/local/cuda` leads.
pub(crate) fn current(root: &Path) -> Option<String> {
    fs::read_link(root.join("usr/local/cuda")).ok().map(|target| target.display().to_string())
}
