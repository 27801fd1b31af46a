//! The interpreter's version, from what its installation states.
//!
//! From Python 3.11 on the program exports it (`Py_Version`), and nothing else is asked. Older programs keep it in no place
//! that can be read for certain, so several witnesses are heard, and have to agree: the package database for a
//! distribution's Python, conda's records, the installed `patchlevel.h`, a version among the program's string
//! constants. The records of an installation speak of its own program: of one that lies elsewhere only if it is the same
//! to the byte. `pyvenv.cfg` is not asked: it is written once and stale after an upgrade.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crate::dpkg::Database;
use crate::elf::Elf;
use crate::root::Root;

use super::program::Program;

/// `major.minor.micro`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u8,
    pub(super) minor: u8,
    pub(super) micro: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl Version {
    /// From CPython's `PY_VERSION_HEX`: `0x030c01f0` is 3.12.1 final.
    pub(super) fn from_hex(hex: u64) -> Option<Self> {
        let [major, minor, micro, _] = u32::try_from(hex).ok()?.to_be_bytes();
        (major == 3).then_some(Self { major, minor, micro })
    }

    /// From a text that starts with three numbers, which may be followed by the mark of a pre-release: `3.12.0rc1+`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (major, minor, last) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = last.find(|c: char| !c.is_ascii_digit()).unwrap_or(last.len());
        let (micro, suffix) = last.split_at(digits);
        if !(suffix.is_empty() || suffix.starts_with(['a', 'b', 'r', '+', '~'])) {
            return None;
        }
        Some(Self { major: number(major)?, minor: number(minor)?, micro: number(micro)? })
    }
}

fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A version and who states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) version: Version,
    pub(super) by: String,
}

/// Settles the version of a program whose base prefix is known.
///
/// # Errors
/// In words, why it is not certain.
pub(super) fn settle(root: &Root, database: &Database, program: &Program, prefix: &Path) -> Result<Statement, String> {
    if let Some(version) = program.exported {
        let by = program.library.as_ref().unwrap_or(&program.real);
        return Ok(Statement { version, by: format!("`{}`", by.display()) });
    }
    let Some(release) = program.named else {
        return Err("neither the program nor its name tells a version".into());
    };
    let of_release = |statement: &Statement| (statement.version.major, statement.version.minor) == release;
    let own = is_of(root, program, prefix, release);
    let strong: Vec<_> = [
        by_package(database, program, release),
        own.then(|| by_conda(root, prefix)).flatten(),
        own.then(|| by_header(root, prefix, release)).flatten(),
        by_constants(root, program, release),
    ]
    .into_iter()
    .flatten()
    .filter(of_release)
    .collect();
    if let Some(other) = strong.iter().find(|statement| statement.version != strong[0].version) {
        let first = &strong[0];
        return Err(format!("{} says {}, {} says {}", first.by, first.version, other.by, other.version));
    }
    strong
        .into_iter()
        .next()
        .ok_or_else(|| format!("nothing in its installation below `{}` states its full version", prefix.display()))
}

/// Whether the code that runs is that of the installation at `prefix`.
fn is_of(root: &Root, program: &Program, prefix: &Path, (major, minor): (u8, u8)) -> bool {
    let code = program.library.as_ref().unwrap_or(&program.real);
    let prefix = root.canonical(prefix).unwrap_or_else(|_| prefix.to_path_buf());
    // A library is where its installation has it; a program may be a copy.
    if code.starts_with(&prefix) && !root.exists(&program.real.with_file_name("../pyvenv.cfg")) {
        return true;
    }
    let installed = prefix.join(format!("bin/python{major}.{minor}"));
    program.library.is_none() && same_content(root, code, &installed).unwrap_or(false)
}

/// Compares two files without holding either.
fn same_content(root: &Root, one: &Path, other: &Path) -> std::io::Result<bool> {
    let ((mut one, size), (mut other, other_size)) = (root.open_regular(one)?, root.open_regular(other)?);
    if size != other_size {
        return Ok(false);
    }
    let (mut ours, mut theirs) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let read = one.read(&mut ours)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut theirs[..read])?;
        if ours[..read] != theirs[..read] {
            return Ok(false);
        }
    }
}

/// Debian's package of the interpreter, where the program is the one that the package installs.
fn by_package(database: &Database, program: &Program, (major, minor): (u8, u8)) -> Option<Statement> {
    let installed = program.real.to_str() == Some(&format!("/usr/bin/python{major}.{minor}"));
    let package = format!("python{major}.{minor}-minimal");
    let version = database.upstream_version(&package).filter(|_| installed)?;
    Some(Statement { version: Version::parse(version)?, by: format!("the package `{package}`") })
}

/// Conda's record of the interpreter: `conda-meta/python-3.10.13-hd12c33a_0_cpython.json`.
fn by_conda(root: &Root, prefix: &Path) -> Option<Statement> {
    let directory = prefix.join("conda-meta");
    let is_record = |name: &String| {
        let version = name.strip_prefix("python-").and_then(|rest| rest.strip_suffix(".json"));
        version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    // After an upgrade that was cut off there may be two: then neither is a witness.
    let mut names =
        root.list(&directory).ok()?.into_iter().filter_map(|name| name.into_string().ok()).filter(is_record);
    let name = names.next().filter(|_| names.next().is_none())?;
    let path = directory.join(name);
    let record: serde_json::Value = serde_json::from_slice(&root.read(&path).ok()?).ok()?;
    Some(Statement { version: Version::parse(record.get("version")?.as_str()?)?, by: format!("`{}`", path.display()) })
}

/// The installed header: `#define PY_VERSION "3.10.13"`.
fn by_header(root: &Root, prefix: &Path, (major, minor): (u8, u8)) -> Option<Statement> {
    let path = prefix.join(format!("include/python{major}.{minor}/patchlevel.h"));
    let text = root.read(&path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let definition =
        text.lines().find_map(|line| line.strip_prefix("#define")?.trim_start().strip_prefix("PY_VERSION"))?;
    let version = definition.trim_start().strip_prefix('"')?.split('"').next()?;
    Some(Statement { version: Version::parse(version)?, by: format!("`{}`", path.display()) })
}

/// A version of the release that stands alone among the string constants, if exactly one does. (Compilers may put a
/// short constant into instructions instead; then there is none.)
fn by_constants(root: &Root, program: &Program, (major, minor): (u8, u8)) -> Option<Statement> {
    let path = program.library.as_ref().unwrap_or(&program.real);
    let (file, _) = root.open_regular(path).ok()?;
    let constants = Elf::read(&file)?.read_only_data()?;
    let start = format!("\0{major}.{minor}.");
    let mut versions: Vec<_> = memchr::memmem::find_iter(&constants, start.as_bytes())
        .filter_map(|at| {
            let text = constants[at + 1..].split(|byte| *byte == 0).next()?;
            Version::parse(std::str::from_utf8(text).ok()?)
        })
        .collect();
    versions.dedup();
    match versions[..] {
        [version] => Some(Statement { version, by: format!("a constant in `{}`", path.display()) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_from_what_installations_write() {
        let version = |major, minor, micro| Some(Version { major, minor, micro });
        let table = [
            ("3.12.1", version(3, 12, 1)),
            ("3.11.0rc1", version(3, 11, 0)),
            ("3.11.0~rc1", version(3, 11, 0)),
            ("3.10.13+", version(3, 10, 13)),
            ("3.10", None),
            ("3.10.", None),
            ("3.10.x", None),
            ("3.10.1.2", None),
            ("3.10.300", None),
        ];
        for (text, expected) in table {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert_eq!(Version::from_hex(0x030c_01f0), version(3, 12, 1));
        assert_eq!(Version::from_hex(0x0001_030c_01f0), None);
    }
}
