//! Every file that `vast-envhash` opens, and why.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::process;

/// Why a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Loader,
    System,
    Packages,
    Interpreter,
    Paths,
    Listing,
    Distribution,
    None,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Loader => {
                "this program's own start: the loader's cache and libraries, and what the standard library and glibc look at"
            }
            Self::System => "the release lines",
            Self::Packages => "the package database: status, updates, architectures",
            Self::Interpreter => {
                "the interpreter: its program and library state the version, its `pyvenv.cfg`, `site.py` and `sitecustomize.py` the search path"
            }
            Self::Paths => "`.pth` files of the site directories, read as often as `site.py` does",
            Self::Listing => {
                "directories: the environments, and those of the search path, whose names tell the distributions"
            }
            Self::Distribution => "metadata, one file a distribution",
            Self::None => "no reason known",
        }
    }

    /// Why `path` was opened, as a directory or as a file.
    fn of(path: &str, directory: bool) -> Self {
        if directory { Self::of_directory(path) } else { Self::of_file(path) }
    }

    fn of_directory(path: &str) -> Self {
        let on_the_path = path == "/" || path.ends_with("-packages") || path.contains("/lib/python3.");
        match path {
            "/etc/ld.so.conf.d" => Self::Interpreter,
            "/var/lib/dpkg/updates" => Self::Packages,
            "/venv" => Self::Listing,
            _ if on_the_path && !path.contains("-packages/") => Self::Listing,
            _ => Self::None,
        }
    }

    fn of_file(path: &str) -> Self {
        const LIBRARIES: [&str; 5] = ["libc.so.", "libgcc_s.so.", "libm.so.", "libdl.so.", "libpthread.so."];
        const INSTALLATION: [&str; 5] = ["pyvenv.cfg", "site.py", "sitecustomize.py", "_adapters.py", "_policybase.py"];
        let name = path.rsplit('/').next().unwrap_or_default();
        let of_system = ["/lib/", "/usr/lib/", "/lib64/"].iter().any(|library| path.starts_with(library));
        match path {
            "/etc/ld.so.cache" | "/proc/self/maps" | "/sys/devices/system/cpu/online" => Self::Loader,
            _ if of_system && LIBRARIES.iter().any(|start| name.starts_with(start)) => Self::Loader,
            "/etc/os-release" => Self::System,
            _ if path.starts_with("/var/lib/dpkg/") => Self::Packages,
            "/etc/passwd" | "/etc/ld.so.conf" => Self::Interpreter,
            _ if path.starts_with("/etc/ld.so.conf.d/") => Self::Interpreter,
            _ if matches!(name, "METADATA" | "PKG-INFO") || name.ends_with(".egg-info") => Self::Distribution,
            _ if Path::new(name).extension().is_some_and(|suffix| suffix == "pth") => Self::Paths,
            _ if name.starts_with("python3") || name.starts_with("libpython3") => Self::Interpreter,
            _ if INSTALLATION.contains(&name) => Self::Interpreter,
            _ => Self::None,
        }
    }
}

/// An opened file or directory of a line of strace's output; `None` for what failed or only looks a path up.
fn opened(line: &str) -> Option<(&str, bool)> {
    let (call, result) = line.rsplit_once(" = ")?;
    if result.starts_with('-') || call.contains("O_PATH") || !call.contains("open") {
        return None;
    }
    Some((call.split('"').nth(1)?, call.contains("O_DIRECTORY")))
}

/// Runs the program under strace, which writes into `folder`, and prints what it opened; whether all of it has a reason, and
/// each distribution one file.
pub(super) fn report(program: &Path, folder: &Path, distributions: usize) -> Result<bool> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove `{}`", folder.display()));
        }
        _ => fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?,
    }
    let mut strace = Command::new("strace");
    // A file for each thread: strace makes every call slow, so metadata is read by many, and one file would have halves of lines.
    strace.args(["-ff", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2", "-o"]).arg(folder.join("thread"));
    process::run(strace.arg(program).stdout(Stdio::null()))?;
    let mut text = String::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let path = file.context("cannot list the trace")?.path();
        text += &fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    }
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for (path, directory) in text.lines().filter_map(opened) {
        let reason = Reason::of(path, directory);
        *counts.entry(reason).or_default() += 1;
        if reason == Reason::None {
            eprintln!("opened for no known reason: {path}");
        }
    }
    println!("\n| opened | why |\n|--:|---|");
    for (reason, count) in &counts {
        println!("| {count} | {} |", reason.text());
    }
    println!("| {} | in all |", counts.values().sum::<usize>());
    let fits = counts.get(&Reason::Distribution).is_some_and(|count| *count <= distributions + 2);
    Ok(fits && !counts.contains_key(&Reason::None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strace_prints_is_a_file_with_a_reason_or_none() {
        let table = [
            (
                "openat2(3, \"/venv/main/lib/python3.11/site-packages/a-1.dist-info/METADATA\", {flags=O_RDONLY}, 24) = 4",
                Some(Reason::Distribution),
            ),
            ("12 openat2(3, \"/venv\", {flags=O_RDONLY|O_DIRECTORY}, 24) = 4", Some(Reason::Listing)),
            ("openat2(3, \"/venv/main\", {flags=O_PATH}, 24) = 4", None),
            ("openat(AT_FDCWD, \"/etc/x\", O_RDONLY) = -1 ENOENT (No such file or directory)", None),
            ("openat(AT_FDCWD, \"/lib/x86_64-linux-gnu/libc.so.6\", O_RDONLY) = 3", Some(Reason::Loader)),
            (
                "openat2(3, \"/venv/main/lib/python3.11/site-packages/torch/__init__.py\", {}, 24) = 4",
                Some(Reason::None),
            ),
            (
                "openat2(3, \"/venv/main/lib/python3.11/site-packages/torch/lib/libtorch.so\", {}, 24) = 4",
                Some(Reason::None),
            ),
            ("openat2(3, \"/usr/bin/python3.11\", {flags=O_RDONLY}, 24) = 4", Some(Reason::Interpreter)),
            (
                "openat2(3, \"/venv/main/lib/python3.11/site-packages/torch\", {flags=O_DIRECTORY}, 24) = 4",
                Some(Reason::None),
            ),
            ("+++ exited with 0 +++", None),
        ];
        for (line, reason) in table {
            assert_eq!(opened(line).map(|(path, directory)| Reason::of(path, directory)), reason, "{line}");
        }
    }
}
