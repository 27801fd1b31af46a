//! Where an interpreter finds its standard library and its prefixes, as CPython's `getpath` and `site.venv()` decide.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::elf::Elf;
use crate::error::Error;
use crate::root::Root;

use super::paths::upwards;
use super::program::Program;
use super::pyvenv::{self, Config};
use super::site::{Names, Rules};

/// The longest constant that is tried as a prefix.
const PREFIX_LIMIT: usize = 255;

/// The directories of an interpreter as it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// `sys.base_prefix`: the installation.
    pub(super) base: PathBuf,
    /// `sys.prefix`: the virtual environment, or the installation.
    pub(super) prefix: PathBuf,
    /// The directory of the standard library.
    pub(super) library: PathBuf,
    pub(super) names: Names,
    pub(super) rules: Rules,
    /// The `pyvenv.cfg`, in a virtual environment.
    pub(super) venv: Option<Config>,
}

impl Layout {
    /// Finds the layout of a program of the release `major.minor`.
    ///
    /// # Errors
    /// [`Error::Interpreter`] where no standard library is found: such an interpreter does not start.
    pub(super) fn find(root: &Root, program: &Program, (major, minor): (u8, u8)) -> Result<Self, Error> {
        for program in [&program.called, &program.real] {
            let mut isolated = program.clone().into_os_string();
            isolated.push("._pth");
            if minor > 10 && root.exists(Path::new(&isolated)) {
                return Err(Error::interpreter(program, "a `._pth` file beside it replaces its search path"));
            }
        }
        let venv = read_config(root, &program.called)?;
        let thread = if program.free_threaded { "t" } else { "" };
        let python = format!("python{major}.{minor}{thread}");
        let home = if minor > 10 {
            venv.as_ref().and_then(|(_, config)| config.home.clone())
        } else {
            // Before 3.11 links are resolved first: only a program that was copied into its environment finds the file.
            config_text(root, &program.real)?.and_then(|(_, text)| pyvenv::old_home(&text))
        };
        let starts = home.as_deref().map(Path::new).or_else(|| program.real.parent());
        let installation = |prefix: &Path| Some((prefix.to_path_buf(), platform_lib(root, prefix, &python)?));
        let found = starts.into_iter().flat_map(upwards).find_map(installation).or_else(|| {
            // A program that was copied out of its installation goes back to the prefix that was compiled in.
            let mut built_in: Vec<_> =
                absolute_constants(root, program).iter().filter_map(|path| installation(path)).collect();
            built_in.dedup();
            built_in.pop().filter(|_| built_in.is_empty())
        });
        let Some((base, platform_lib)) = found else {
            let reason = format!("no standard library `lib/{python}` at or above `{}`", program.real.display());
            return Err(Error::interpreter(&program.called, reason));
        };
        let library = base.join(platform_lib).join(&python);
        let source = root.read_if_there(&library.join("site.py"))?.unwrap_or_default();
        let rules = Rules::of(&String::from_utf8_lossy(&source));
        let (prefix, venv) = venv.map_or_else(|| (base.clone(), None), |(prefix, config)| (prefix, Some(config)));
        Ok(Self { base, prefix, library, names: Names { platform_lib, python }, rules, venv })
    }
}

/// The absolute paths among the string constants of the interpreter, sorted. The compiled-in prefix is one of them.
fn absolute_constants(root: &Root, program: &Program) -> Vec<PathBuf> {
    let path = program.library.as_ref().unwrap_or(&program.real);
    let constants = root.open_regular(path).ok().and_then(|(file, _)| Elf::read(&file)?.read_only_data());
    let constants = constants.unwrap_or_default();
    let texts = constants.split(|byte| *byte == 0).filter(|text| text.starts_with(b"/") && text.len() <= PREFIX_LIMIT);
    // The root itself is no prefix, although on a merged `/usr` it looks like one.
    let paths = texts.map(|text| PathBuf::from(OsStr::from_bytes(text))).filter(|path| path.parent().is_some());
    let mut paths: Vec<_> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The `pyvenv.cfg` beside the program or one directory up, and the prefix it makes.
fn read_config(root: &Root, called: &Path) -> Result<Option<(PathBuf, Config)>, Error> {
    Ok(config_text(root, called)?.map(|(prefix, text)| (prefix, pyvenv::parse(&text))))
}

/// The text of that file.
fn config_text(root: &Root, program: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    let Some(bin) = program.parent() else { return Ok(None) };
    let Some(prefix) = bin.parent() else { return Ok(None) };
    for directory in [bin, prefix] {
        let path = directory.join("pyvenv.cfg");
        let Some(bytes) = root.read_if_there(&path)? else { continue };
        let text = String::from_utf8(bytes).map_err(|error| Error::not_utf8(&path, error.utf8_error()))?;
        return Ok(Some((prefix.to_path_buf(), text)));
    }
    Ok(None)
}

/// `sys.platlibdir` of the installation at `prefix`, if it is one: the directory in which the landmark `os.py` lies.
fn platform_lib(root: &Root, prefix: &Path, python: &str) -> Option<&'static str> {
    let landmark = |library: &str| {
        let directory = prefix.join(library).join(python);
        root.is_file(&directory.join("os.py")) || root.is_file(&directory.join("os.pyc"))
    };
    match (landmark("lib"), landmark("lib64")) {
        (false, false) => None,
        (true, false) => Some("lib"),
        (false, true) => Some("lib64"),
        // One is a link to the other; the build's own record decides.
        (true, true) => Some(recorded_platform_lib(root, &prefix.join("lib").join(python)).unwrap_or("lib")),
    }
}

/// `'PLATLIBDIR': 'lib64'` in `_sysconfigdata_*.py`.
fn recorded_platform_lib(root: &Root, library: &Path) -> Option<&'static str> {
    let names = root.list(library).ok()?.into_iter().filter_map(|name| name.into_string().ok());
    let is_record = |name: &String| {
        name.starts_with("_sysconfigdata_") && Path::new(name).extension().is_some_and(|suffix| suffix == "py")
    };
    let texts = names.filter(is_record).filter_map(|name| root.read(&library.join(name)).ok());
    texts.into_iter().find_map(|text| {
        let after = &text[memchr::memmem::find(&text, b"'PLATLIBDIR': '")? + 15..];
        if after.starts_with(b"lib64'") { Some("lib64") } else { Some("lib") }
    })
}
