//! Asking an interpreter itself, where the files leave something uncertain and the root is the running system.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::version::Version;

/// What an interpreter says about itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) version: Version,
    /// `sys.path`, as it is.
    pub(super) path: Vec<PathBuf>,
    /// The directory of the standard library.
    pub(super) library: PathBuf,
}

/// Prints the version, the directory of `os.py`, and the path, each ended by a NUL.
const QUESTION: &str = "import os, sys
parts = ['%d.%d.%d' % sys.version_info[:3], os.path.dirname(os.__file__), *sys.path]
sys.stdout.buffer.write(b''.join(os.fsencode(part) + b'\\0' for part in parts))";

/// Runs the interpreter at `program` (a path of the running system) as the recipe does: in `/`, without `PYTHON*` variables.
///
/// # Errors
/// In words, why there is no answer.
pub(super) fn ask(program: &Path) -> Result<Answer, String> {
    let mut command = Command::new(program);
    command.args(["-c", QUESTION]).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C.UTF-8");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"PYTHON")) {
        command.env_remove(name);
    }
    let output = command.output().map_err(|error| format!("it cannot be asked: {error}"))?;
    if !output.status.success() {
        return Err(format!("it cannot be asked: {}", output.status));
    }
    parse(&output.stdout).ok_or_else(|| "its answer makes no sense".into())
}

fn parse(output: &[u8]) -> Option<Answer> {
    let mut parts = output.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let version = Version::parse(std::str::from_utf8(parts.next()?).ok()?)?;
    let mut paths = parts.map(|part| PathBuf::from(std::ffi::OsStr::from_bytes(part)));
    Some(Answer { version, library: paths.next()?, path: paths.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_nonsense_is_not() {
        let answer = parse(b"3.12.1\0/usr/lib/python3.12\0\0/usr/lib/python312.zip\0").unwrap();
        assert_eq!(answer.version.to_string(), "3.12.1");
        assert_eq!(answer.library, Path::new("/usr/lib/python3.12"));
        assert_eq!(answer.path, [Path::new(""), Path::new("/usr/lib/python312.zip")]);
        for nonsense in [&b""[..], b"3.12.1", b"3.12.1\0", b"hello\0/\0"] {
            assert!(parse(nonsense).is_none(), "{}", nonsense.escape_ascii());
        }
    }
}
