//! The facts under a root.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::loader::is_cuda_path;
use super::plan::{Driver, Facts, Maximum};
use super::{COMPAT_MARKER, PENDING_MARKER};
use crate::driver::LOADERS_CHOICE;
use crate::env_vars;
use crate::error::Error;
use crate::runner::Runner;
use crate::toolkit::{self, under};
use crate::version::{CudaVersion, DriverVersion};

/// What the kernel says of its driver.
const KERNEL_DRIVER: &str = "proc/driver/nvidia/version";

/// Present where the container was given NVIDIA's devices.
const CONTROL_DEVICE: &str = "dev/nvidiactl";

/// Where a container's runtime puts the driver's libraries: Debian's and Red Hat's directories, the old volume, and WSL.
const LIBRARY_DIRECTORIES: [&str; 7] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/nvidia/lib64",
    "usr/local/nvidia/lib",
    "usr/lib/wsl/lib",
];

/// The loader's main configuration file and the directory of the others.
const LOADER_FILES: (&str, &str) = ("/etc/ld.so.conf", "/etc/ld.so.conf.d");

/// Collects everything that [`plan`](super::plan::plan) decides from.
///
/// # Errors
/// [`Error::Read`].
pub fn gather(root: &Path, env: &BTreeMap<String, String>, runner: &dyn Runner) -> Result<Facts, Error> {
    let mut facts = Facts {
        toolkits: toolkit::list(root)?,
        current: toolkit::current(root),
        established: read_text(&under(root, Path::new(COMPAT_MARKER)))?.and_then(|text| text.trim().parse().ok()),
        compat_disabled: env
            .get(env_vars::DISABLE_FORWARD_COMPAT)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
        loader_files: loader_files(root)?,
        lacks_library_link: lacks_library_link(root),
        pending: under(root, Path::new(PENDING_MARKER)).exists(),
        search_path_has_libcuda: env.get("LD_LIBRARY_PATH").is_some_and(|path| has_libcuda(root, path)),
        ..Facts::default()
    };
    facts.driver = driver(root, env, runner, &mut facts.notes);
    Ok(facts)
}

fn driver(root: &Path, env: &BTreeMap<String, String>, runner: &dyn Runner, notes: &mut Vec<String>) -> Option<Driver> {
    let version = driver_version(root);
    let library = driver_library(root, version);
    // Where the kernel does not say, the file's name does.
    let version = version.or_else(|| library.as_deref().ok().and_then(library_version));
    // The kernel's files show through into containers without a GPU.
    if library.is_err() && !root.join(CONTROL_DEVICE).exists() {
        return None;
    }
    let (maximum, library) = match overridden(env, notes) {
        Some(version) => (Maximum::Override(version), None),
        None => match library.and_then(|library| runner.driver_version(&library)) {
            Ok(answer) => (Maximum::Driver(answer.version), Some(answer.library)),
            Err(reason) => (Maximum::Unknown(reason), None),
        },
    };
    Some(Driver { version, maximum, library })
}

/// The driver's version in the name of its library, `libcuda.so.570.26`.
fn library_version(library: &Path) -> Option<DriverVersion> {
    library.file_name()?.to_str()?.strip_prefix("libcuda.so.")?.parse().ok()
}

fn overridden(env: &BTreeMap<String, String>, notes: &mut Vec<String>) -> Option<CudaVersion> {
    let name = env_vars::VAST_CUDA_MAX_OVERRIDE;
    let text = env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(version) => {
            notes.push(format!("{name}={version} stands for the driver's newest CUDA version"));
            Some(version)
        }
        Err(error) => {
            notes.push(format!("{name} is ignored: {error}"));
            None
        }
    }
}

/// The version of the kernel's driver: `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.26  Release Build …`.
#[must_use]
pub fn driver_version(root: &Path) -> Option<DriverVersion> {
    let text = fs::read_to_string(root.join(KERNEL_DRIVER)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"))?;
    line.split_whitespace().find_map(|word| word.parse().ok())
}

/// The driver's own libcuda, as an absolute path: never one of a toolkit, and of the kernel's version where that is known.
///
/// # Errors
/// What was found instead.
pub fn driver_library(root: &Path, version: Option<DriverVersion>) -> Result<PathBuf, String> {
    let mut other = None;
    for directory in LIBRARY_DIRECTORIES.map(|directory| root.join(directory)) {
        if let Some(version) = version {
            let exact = directory.join(format!("libcuda.so.{version}"));
            if exact.is_file() {
                return Ok(exact);
            }
        }
        let Ok(found) = fs::canonicalize(directory.join("libcuda.so.1")) else { continue };
        let its_version = library_version(&found);
        let of_a_toolkit =
            found.starts_with(root.join("usr/local")) && found.components().any(|part| part.as_os_str() == "compat");
        match (version, its_version) {
            _ if of_a_toolkit => other = Some(found),
            // Left in the image by a package: its answer would be about another driver.
            (Some(kernel), Some(library)) if kernel != library => other = Some(found),
            _ => return Ok(found),
        }
    }
    Err(match (other, version) {
        (Some(other), Some(version)) => format!("`{}` is not the library of driver {version}", other.display()),
        (Some(other), None) => format!("`{}` is not the driver's library", other.display()),
        (None, _) => "the driver's libcuda.so.1 is not in the container".to_owned(),
    })
}

fn loader_files(root: &Path) -> Result<BTreeMap<PathBuf, String>, Error> {
    let (main, directory) = LOADER_FILES;
    let mut paths = vec![PathBuf::from(main)];
    if let Ok(entries) = fs::read_dir(under(root, Path::new(directory))) {
        let found = entries.filter_map(|entry| Some(Path::new(directory).join(entry.ok()?.file_name())));
        paths.extend(found.filter(|path| path.extension().is_some_and(|extension| extension == "conf")));
    }
    let mut files = BTreeMap::new();
    for path in paths {
        let file = under(root, &path);
        if !file.is_file() {
            continue;
        }
        if let Some(text) = read_text(&file)? {
            files.insert(path, text);
        }
    }
    Ok(files)
}

fn lacks_library_link(root: &Path) -> Option<PathBuf> {
    let directory = Path::new("/usr/lib/x86_64-linux-gnu");
    let has = |name: &str| under(root, &directory.join(name)).symlink_metadata().is_ok();
    (cfg!(target_arch = "x86_64") && has("libcuda.so.1") && !has("libcuda.so")).then(|| directory.to_owned())
}

/// Whether a directory of a search path has a libcuda, those of toolkits aside: NVIDIA's images name the driver's directories there, and on some
/// platforms the driver is in them.
fn has_libcuda(root: &Path, search_path: &str) -> bool {
    let directories = search_path.split(':').filter(|entry| entry.starts_with('/') && !is_cuda_path(entry));
    directories.map(|entry| under(root, &Path::new(entry).join(LOADERS_CHOICE))).any(|library| library.exists())
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::read(path)(error)),
    }
}
