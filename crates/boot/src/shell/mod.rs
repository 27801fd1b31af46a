//! Shell stages: sourced by bash, with what they export taken over.
//!
//! Each stage has a shell of its own, so that its functions, options and `exit` end with it. The wrapper (`source.bash`) writes the
//! environment down in a handler of EXIT, whichever way the stage ends, and keeps the stage's own handler working.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::environment::Environment;
use crate::error::Error;
use crate::files;
use crate::process::{Invocation, Output, Runner, Wait};

mod in_memory;

pub(crate) use in_memory::InMemory;

const WRAPPER: &str = include_str!("source.bash");

/// Variables that belong to one shell, not to the environment: they stay as they were.
const OF_THE_SHELL: [&str; 5] = ["_", "OLDPWD", "POSIXLY_CORRECT", "PWD", "SHLVL"];

/// Names the wrapper uses for itself; `set -a` in a stage exports them.
const WRAPPER_PREFIX: &[u8] = b"__vast_boot_";

/// What to source, and in what.
#[derive(Debug)]
pub struct Request<'a> {
    /// The stage.
    pub file: &'a Path,
    /// The environment of all earlier stages.
    pub env: &'a Environment,
    /// What the stage sees without exporting it.
    pub variables: &'a [(&'static str, String)],
    /// The working directory.
    pub directory: &'a Path,
    /// A directory for what lives as long as the stage.
    pub scratch: &'a Path,
    /// How long it may take.
    pub limit: Option<Duration>,
    /// Where what it says goes.
    pub output: Output,
}

/// What a stage left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The exported environment.
    pub env: Environment,
    /// The unexported variables of the request, as they are now.
    pub variables: Vec<(String, String)>,
}

/// A sourced stage.
#[derive(Debug)]
pub struct Sourced {
    /// How its shell ended.
    pub ended: Wait,
    /// What it left; nothing when the shell was replaced (`exec`) or killed.
    pub left: Option<Left>,
}

/// Sources a stage.
///
/// # Errors
/// When the stage cannot be read, or bash cannot be started.
pub fn source(request: &Request<'_>, runner: &dyn Runner) -> Result<Sourced, Error> {
    let text = fs::read(request.file).map_err(|source| Error::Read { path: request.file.to_owned(), source })?;
    let in_scratch = |source| Error::Write { path: request.scratch.to_owned(), source };
    files::directory(request.scratch)?;
    let scratch = tempfile::Builder::new().prefix("stage.").tempdir_in(request.scratch).map_err(in_scratch)?;
    let file = match files::mend_line_ends(&text) {
        None => request.file.to_owned(),
        Some(mended) => {
            let file = scratch.path().join(request.file.file_name().unwrap_or(OsStr::new("stage")));
            fs::write(&file, mended).map_err(in_scratch)?;
            file
        }
    };
    // In memory: the environment holds secrets, and a boot that is killed here must not leave them in a file.
    let in_memory = |source| Error::Write { path: PathBuf::from("the stage's record"), source };
    let mut record = InMemory::holding(&[]).map_err(in_memory)?;
    let mut invocation = Invocation::new(bash(), request.env.clone())
        .argument("-c")
        .argument(WRAPPER)
        .argument("vast-boot")
        .argument(file)
        .argument(record.path())
        .argument(first_of(&["/usr/bin/env", "/bin/env"], "env"))
        .directory(request.directory);
    for (name, value) in request.variables {
        invocation = invocation.argument(format!("{name}={value}"));
    }
    invocation.limit = request.limit;
    invocation.output = request.output.clone();
    let ended = runner.run(&invocation)?;
    let left = parse_record(&record.read().map_err(in_memory)?, request.env);
    Ok(Sourced { ended, left })
}

/// The bash that sources stages.
#[must_use]
pub fn bash() -> PathBuf {
    first_of(&["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"], "bash")
}

fn first_of(candidates: &[&str], otherwise: &str) -> PathBuf {
    let found = candidates.iter().find(|candidate| Path::new(candidate).exists());
    PathBuf::from(found.copied().unwrap_or(otherwise))
}

/// Takes a record apart; nothing when it was cut short.
fn parse_record(record: &[u8], before: &Environment) -> Option<Left> {
    let record = record.strip_suffix(b"\0\0")?;
    // The variables end with the first empty record; a value of the environment is never preceded by one.
    let cut = match record.strip_prefix(b"\0") {
        Some(_) => 0,
        None => record.windows(2).position(|pair| pair == b"\0\0")? + 1,
    };
    let (variables, exported) = (record.get(..cut)?, record.get(cut + 1..)?);
    let variables = Environment::from_nul_separated(variables).to_map().into_iter().collect();
    let mut env: Environment = Environment::from_nul_separated(exported)
        .iter()
        .filter(|(name, _)| !name.as_bytes().starts_with(WRAPPER_PREFIX))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for name in OF_THE_SHELL {
        match before.get_os(name) {
            Some(value) => env.set(name, OsString::from(value)),
            None => env.remove(name),
        }
    }
    Some(Left { env, variables })
}

/// The first line of a script, when it names an interpreter.
#[must_use]
pub fn has_shebang(script: &[u8]) -> bool {
    script.starts_with(b"#!")
}

/// Runs a script by its first line, with bash when that names no interpreter.
pub fn script(path: &Path, env: &Environment) -> Result<Invocation, Error> {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, 4), &mut start));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(if has_shebang(&start) || start == b"\x7fELF" {
        Invocation::new(path, env.clone())
    } else {
        Invocation::new(bash(), env.clone()).argument(path)
    })
}

#[cfg(test)]
mod tests;
