//! Questions to the driver's libraries, answered in the process that asks.
//!
//! Loading such a library can hang or crash, so this runs in a process of its own: [`ChildProcess`](crate::runner::ChildProcess) starts it. Once
//! forward compatibility is set up, the loader finds the toolkit's libcuda instead of the driver's, and its answers are about itself. Therefore a
//! library is opened by its absolute path, and the answer counts only if `/proc/self/maps` shows that this file, and no other libcuda, was mapped.
//! The answer names that file.

use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};

use libloading::{Library, Symbol};

use crate::version::CudaVersion;

/// The hidden subcommand by which `vast-gpu` calls [`answer`].
pub const SUBCOMMAND: &str = "ask-driver";

/// The question for the newest CUDA version that a libcuda supports.
pub const VERSION: &str = "version";

/// The question whether a libcuda starts.
pub const INIT: &str = "init";

/// The library as the loader finds it, driver's or toolkit's.
pub const LOADERS_CHOICE: &str = "libcuda.so.1";

/// Answers one question about a library. The answer is one line: to [`VERSION`], the version, a space, and the libcuda that was mapped.
///
/// # Errors
/// Why there is none, in one line.
pub fn answer(question: &str, library: &Path) -> Result<String, String> {
    let (loaded, path) = load(library)?;
    match question {
        VERSION => {
            let version = version(&loaded)?;
            // Once more: a library may bring another one when it is called.
            let mapped = confirm(&path, &maps())?;
            Ok(format!("{version} {}", mapped.display()))
        }
        INIT => init(&loaded).map(|()| "it starts".to_owned()),
        other => Err(format!("`{other}` is no question")),
    }
}

/// Loads the library, and gives the path that it was asked for by: an absolute one without links, or the bare name.
fn load(library: &Path) -> Result<(Library, PathBuf), String> {
    let path = if library.is_absolute() {
        fs::canonicalize(library).map_err(|error| format!("cannot open `{}`: {error}", library.display()))?
    } else {
        library.to_owned()
    };
    #[allow(unsafe_code, reason = "asking a library means running it")]
    // SAFETY: the initialisers of a driver's libcuda have no preconditions, and this process exists to run them.
    let loaded =
        unsafe { Library::new(&path) }.map_err(|error| format!("cannot load `{}`: {error}", path.display()))?;
    confirm(&path, &maps())?;
    Ok((loaded, path))
}

fn maps() -> String {
    fs::read_to_string("/proc/self/maps").unwrap_or_default()
}

/// The one libcuda that is mapped, which must be `path` unless that is a bare name for the loader to find.
fn confirm(path: &Path, maps: &str) -> Result<PathBuf, String> {
    let mut mapped: Vec<PathBuf> = maps.lines().filter_map(mapped_file).filter(|file| is_libcuda(file)).collect();
    mapped.sort();
    mapped.dedup();
    let other = mapped.iter().find(|file| path.is_absolute() && *file != path);
    match (&mapped[..], other) {
        (_, Some(other)) => Err(format!("`{}` was loaded instead of `{}`", other.display(), path.display())),
        ([one], None) => Ok(one.clone()),
        ([], None) => Err(format!("`{}` is not what was loaded", path.display())),
        ([one, more, ..], None) => Err(format!("both `{}` and `{}` were loaded", one.display(), more.display())),
    }
}

/// The path in `7f…-7f… r-xp 00000000 08:01 42  /usr/lib/x86_64-linux-gnu/libcuda.so.570.26`.
fn mapped_file(line: &str) -> Option<PathBuf> {
    line.find('/').map(|start| PathBuf::from(&line[start..]))
}

fn is_libcuda(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libcuda.so"))
}

fn version(library: &Library) -> Result<CudaVersion, String> {
    let mut number: c_int = 0;
    #[allow(unsafe_code, reason = "a C function of the driver")]
    // SAFETY: `CUresult cuDriverGetVersion(int *)` writes one int and needs no initialisation (CUDA Driver API, "Version Management").
    let code = unsafe {
        let ask: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> c_int> =
            library.get(b"cuDriverGetVersion\0").map_err(|error| error.to_string())?;
        ask(&raw mut number)
    };
    match CudaVersion::from_driver_number(number) {
        Some(version) if code == 0 => Ok(version),
        _ => Err(format!("cuDriverGetVersion returned {code} and the version {number}")),
    }
}

fn init(library: &Library) -> Result<(), String> {
    #[allow(unsafe_code, reason = "a C function of the driver")]
    // SAFETY: `CUresult cuInit(unsigned int)` takes 0 and may be called at any time (CUDA Driver API, "Initialization").
    let code = unsafe {
        let start: Symbol<'_, unsafe extern "C" fn(u32) -> c_int> =
            library.get(b"cuInit\0").map_err(|error| error.to_string())?;
        start(0)
    };
    match code {
        0 => Ok(()),
        803 => Err("cuInit returned 803: the libraries do not match the kernel's driver".to_owned()),
        804 => Err("cuInit returned 804: this device does not support forward compatibility".to_owned()),
        code => Err(format!("cuInit returned {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55d1 r--p 00000000 08:01 1    /opt/instance-tools/bin/vast-gpu
7f00-7f01 rw-p 00000000 00:00 0
7f10-7f20 r--p 00000000 08:01 42   /usr/lib/x86_64-linux-gnu/libcuda.so.570.26
7f20-7f30 r-xp 00010000 08:01 42   /usr/lib/x86_64-linux-gnu/libcuda.so.570.26
7f40-7f50 r-xp 00000000 08:01 43   /usr/lib/x86_64-linux-gnu/libcudart.so.12
";

    #[test]
    fn the_answer_counts_only_if_this_library_and_no_other_was_mapped() {
        let driver = Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so.570.26");
        let compat = Path::new("/usr/local/cuda-13.0/compat/libcuda.so.580.65.06");
        assert_eq!(confirm(driver, MAPS).as_deref(), Ok(driver));
        assert_eq!(confirm(Path::new(LOADERS_CHOICE), MAPS).as_deref(), Ok(driver));
        assert!(confirm(compat, MAPS).unwrap_err().contains("was loaded instead"));
        let both = format!("{MAPS}7f60-7f70 r-xp 00000000 08:01 44   {}\n", compat.display());
        for path in [driver, compat, Path::new(LOADERS_CHOICE)] {
            assert!(confirm(path, &both).is_err(), "{}", path.display());
        }
        assert!(confirm(driver, "").unwrap_err().contains("is not what was loaded"));
    }
}
