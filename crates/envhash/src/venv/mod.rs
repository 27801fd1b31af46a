//! The Python environments of a root: which interpreter, which distributions.
//!
//! One environment is read in steps, each a module: [`program`] (what `bin/python` is), [`layout`] (where its
//! library and prefixes are), [`version`] (what its installation states), [`search_path`] (`sys.path`),
//! [`distributions`] (what lies there). Where a step is uncertain and the root is the running system, [`ask`] ends it.

mod archive;
mod ask;
mod crew;
mod distributions;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod layout;
mod metadata;
mod paths;
mod program;
mod pth;
mod pyvenv;
mod search_path;
mod site;
mod version;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::dpkg::Database;
use crate::error::Error;
use crate::inventory::{Interpreter, Venv};
use crate::root::{Root, is_absent};

use self::distributions::Finder;
use self::layout::Layout;
use self::program::Program;
use self::version::Statement;

const ENVIRONMENTS: &str = "/venv";

/// What reading an environment needs besides the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) root: &'a Root,
    pub(crate) database: &'a Database,
    /// The root is the running system.
    pub(crate) live: bool,
    pub(crate) home: Option<&'a Path>,
}

/// Reads all environments, in the order of the glob `/venv/*/`, and adds to `notes` what stayed uncertain.
pub(crate) fn read_all(context: Context<'_>, notes: &mut Vec<String>) -> Result<Vec<Venv>, Error> {
    directories(context.root)?.into_iter().map(|name| read(context, &name, notes)).collect()
}

/// The names of the environments: directories and links to such, hidden ones left out.
///
/// The shell sorts the matches of `/venv/*/` as they are printed, with the slash at the end: `a-b/` comes before `a/`.
fn directories(root: &Root) -> Result<Vec<OsString>, Error> {
    let top = Path::new(ENVIRONMENTS);
    let mut names = match root.list(top) {
        Ok(names) => names,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(top, error)),
    };
    names.retain(|name| !name.as_bytes().starts_with(b".") && root.is_dir(&top.join(name)));
    names.sort_by_cached_key(|name| [name.as_bytes(), b"/"].concat());
    Ok(names)
}

fn read(context: Context<'_>, name: &OsString, notes: &mut Vec<String>) -> Result<Venv, Error> {
    // Two names that are no text stay two.
    let shown = name.to_str().map_or_else(|| name.as_bytes().escape_ascii().to_string(), str::to_owned);
    let called = Path::new(ENVIRONMENTS).join(name).join("bin/python");
    if !is_executable(context, &called)? {
        return Ok(Venv::new(shown, None, Vec::new()));
    }
    let found = match examine(context, &called) {
        Ok(found) if found.uncertain.is_empty() || !context.live => found,
        Ok(_) | Err(Error::Interpreter { .. }) if context.live => asked(context.root, &called)?,
        Ok(found) => found,
        Err(error) => return Err(error),
    };
    notes.extend(found.uncertain.iter().map(|line| format!("{shown}: not run, may add to the search path: {line}")));
    let mut finder = Finder::new(context.root, &found.library, found.statement.version.minor);
    let mut packages = Vec::new();
    for entry in &found.path {
        packages.extend(finder.find(entry)?);
    }
    let interpreter = Interpreter {
        path: found.real.to_string_lossy().into_owned(),
        version: found.statement.version.to_string(),
        stated_by: found.statement.by,
    };
    Ok(Venv::new(shown, Some(interpreter), packages))
}

/// What decides an environment's component.
struct Found {
    real: PathBuf,
    statement: Statement,
    library: PathBuf,
    path: Vec<PathBuf>,
    uncertain: Vec<String>,
}

fn examine(context: Context<'_>, called: &Path) -> Result<Found, Error> {
    let Context { root, database, home, .. } = context;
    let program = Program::examine(root, called)?;
    let release = program.release().ok_or_else(|| {
        let reason = format!("`{}` is no CPython program that states its version", program.real.display());
        Error::interpreter(called, reason)
    })?;
    if release < (3, 8) {
        let reason = format!("Python {}.{} has no `importlib.metadata`", release.0, release.1);
        return Err(Error::interpreter(called, reason));
    }
    let layout = Layout::find(root, &program, release)?;
    let statement =
        version::settle(root, database, &program, &layout.base).map_err(|reason| Error::interpreter(called, reason))?;
    let path = search_path::compute(root, &layout, home)?;
    Ok(Found { real: program.real, statement, library: layout.library, path: path.entries, uncertain: path.uncertain })
}

fn asked(root: &Root, called: &Path) -> Result<Found, Error> {
    let real = root.canonical(called).map_err(|error| Error::read(called, error))?;
    let outside = called.strip_prefix("/").map_or_else(|_| called.to_path_buf(), |inside| root.dir().join(inside));
    let answer = ask::ask(&outside).map_err(|reason| Error::interpreter(called, reason))?;
    let ask::Answer { version, library, path } = answer;
    let statement = Statement { version, by: "the interpreter, when asked".into() };
    Ok(Found { real, statement, library, path, uncertain: Vec::new() })
}

/// The shell's `[ -f bin/python ] && [ -x bin/python ]`, links followed: on the running system for whoever asks, else for
/// root, for whom one execute bit suffices.
fn is_executable(Context { root, live, .. }: Context<'_>, path: &Path) -> Result<bool, Error> {
    match root.stat(path) {
        Ok(stat) => {
            let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
            let mine = || {
                !live
                    || rustix::fs::access(
                        root.dir().join(path.strip_prefix("/").unwrap_or(path)),
                        rustix::fs::Access::EXEC_OK,
                    )
                    .is_ok()
            };
            Ok(is_file && stat.st_mode & 0o111 != 0 && mine())
        }
        Err(error) if is_absent(&error) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Ok(false)
        }
        Err(error) => Err(Error::read(path, error)),
    }
}
