//! What `bin/python` really is: its program file, the library it runs, and what both state about themselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::elf::{Elf, Wanted};
use crate::error::Error;
use crate::root::Root;

use super::version::Version;

/// A Python program, symbolic links resolved.
#[derive(Debug)]
pub(super) struct Program {
    /// The environment's `bin/python`, as it is called.
    pub(super) called: PathBuf,
    /// The file behind it.
    pub(super) real: PathBuf,
    /// The `libpython` it loads, if it does not contain the interpreter itself.
    pub(super) library: Option<PathBuf>,
    /// CPython's exported `Py_Version` (3.11 and later): certain.
    pub(super) exported: Option<Version>,
    /// `3.10`, from the library or the file's name, where nothing is exported.
    pub(super) named: Option<(u8, u8)>,
    /// A free-threaded build, whose directories are named `python3.13t`.
    pub(super) free_threaded: bool,
}

impl Program {
    /// Looks at the program behind `called`, which exists.
    pub(super) fn examine(root: &Root, called: &Path) -> Result<Self, Error> {
        let real = root.canonical(called).map_err(|error| Error::read(called, error))?;
        let (file, _) = root.open_regular(&real).map_err(|error| Error::read(&real, error))?;
        let mut program = Self {
            called: called.to_path_buf(),
            real,
            library: None,
            exported: None,
            named: None,
            free_threaded: false,
        };
        let mut name = file_name(&program.real).to_owned();
        if let Some(elf) = Elf::read(&file) {
            program.exported = exported(&elf);
            let wanted = elf.wanted();
            if let Some(library) = wanted.libraries.iter().find(|name| name.starts_with("libpython3.")) {
                name.clone_from(library);
                program.library = find_library(root, library, &wanted, &program.real);
            }
        }
        if let Some(library) = &program.library {
            let (file, _) = root.open_regular(library).map_err(|error| Error::read(library, error))?;
            program.exported = program.exported.or_else(|| exported(&Elf::read(&file)?));
        }
        let (named, suffix) = version_in_name(&name);
        program.named = named;
        program.free_threaded = suffix.starts_with('t');
        Ok(program)
    }

    /// `major.minor`, where the program tells.
    pub(super) fn release(&self) -> Option<(u8, u8)> {
        self.exported.map(|version| (version.major, version.minor)).or(self.named)
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// `python3.10`, `libpython3.13t.so.1.0`: the release and what follows it.
fn version_in_name(name: &str) -> (Option<(u8, u8)>, &str) {
    let read = || {
        let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python3.")?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(((3, rest[..end].parse().ok()?), &rest[end..]))
    };
    read().map_or((None, ""), |(release, suffix)| (Some(release), suffix))
}

fn exported(elf: &Elf<'_>) -> Option<Version> {
    Version::from_hex(elf.exported_u64("Py_Version")?)
}

/// Looks a library up where the loader would: the program's own directories, the configured ones, the built-in ones.
fn find_library(root: &Root, name: &str, wanted: &Wanted, program: &Path) -> Option<PathBuf> {
    let origin = program.parent()?.to_str()?;
    let own = wanted.directories.iter().map(|path| path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin));
    let configured = own.collect::<Vec<_>>().into_iter().chain(loader_directories(root));
    configured.map(|directory| Path::new(&directory).join(name)).find_map(|path| {
        let real = root.canonical(&path).ok()?;
        root.is_file(&real).then_some(real)
    })
}

fn loader_directories(root: &Root) -> impl Iterator<Item = String> {
    let mut directories = Vec::new();
    let mut files = root.list(Path::new("/etc/ld.so.conf.d")).unwrap_or_default();
    files.sort_unstable();
    let files = files.into_iter().map(|name| Path::new("/etc/ld.so.conf.d").join(name));
    for file in files.chain([PathBuf::from("/etc/ld.so.conf")]) {
        let text = root.read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        directories.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(str::to_owned));
    }
    let built_in = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
        "/usr/local/lib",
    ];
    directories.into_iter().chain(built_in.into_iter().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_and_libraries_tell_the_release() {
        let table = [
            ("python3.12", Some((3, 12)), ""),
            ("libpython3.10.so.1.0", Some((3, 10)), ".so.1.0"),
            ("python3.13t", Some((3, 13)), "t"),
            ("python3", None, ""),
            ("pypy3.10", None, ""),
            ("python3.", None, ""),
        ];
        for (name, release, suffix) in table {
            assert_eq!(version_in_name(name), (release, suffix), "{name}");
        }
    }
}
