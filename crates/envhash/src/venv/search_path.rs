//! `sys.path` of an interpreter that runs `-c` code in `/`, without `PYTHON*` variables.
//!
//! Only the set of entries matters: the distributions are sorted in the end. But an entry that is on the path twice, by two
//! names, counts twice, so entries are kept apart by their text, as `site` does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::root::{Root, is_absent};

use super::layout::Layout;
use super::paths::absolute;
use super::pth::{self, Line};
use super::site;

/// How deep `.pth` files may add site directories whose `.pth` files add others. Python gives up somewhere below two hundred.
const NESTING_LIMIT: usize = 64;

/// Debian's `sitecustomize.py`, without blanks and comments: it installs a handler of crashes.
const CRASH_HANDLER: &str = "try:importapport_python_hookexceptImportError:passelse:apport_python_hook.install()";

/// The entries of the search path, and what could not be decided.
#[derive(Debug, Default)]
pub(super) struct SearchPath {
    /// Absolute paths; the empty path stands for the working directory.
    pub(super) entries: Vec<PathBuf>,
    /// Code that may add more.
    pub(super) uncertain: Vec<String>,
}

/// The entries that `site` knows to be on the path, by their texts: `Path` takes `//a` and `/a` for equal, Python does not.
type Known = BTreeSet<OsString>;

/// Computes the search path of a layout. `home` is the home directory of who runs the interpreter.
pub(super) fn compute(root: &Root, layout: &Layout, home: Option<&Path>) -> Result<SearchPath, Error> {
    let mut walk = Walk { root, layout, path: SearchPath::default() };
    let mut known = Known::new();
    // `-c` puts the working directory first, under no name that `site` knows.
    walk.path.entries.push(PathBuf::new());
    let zip = layout.names.python.trim_end_matches('t').replace('.', "") + ".zip";
    walk.add(layout.base.join(layout.names.platform_lib).join(zip), &mut known);
    walk.add(layout.library.clone(), &mut known);
    walk.add(layout.library.join("lib-dynload"), &mut known);

    let site_directories =
        |prefixes: &[&Path]| site::directories(layout.rules, &layout.names, prefixes, layout.venv.is_some());
    if layout.venv.is_some() {
        walk.add_all(site_directories(&[&layout.prefix]), &mut known)?;
    }
    // `site.main` goes on as if nothing had happened, so that code in the `.pth` files of an environment runs twice.
    let mut prefixes: Vec<&Path> = vec![&layout.prefix];
    let has_user_site = layout.venv.as_ref().is_none_or(|config| config.system_site);
    if has_user_site {
        let user = home.map(|home| home.join(".local/lib").join(&layout.names.python).join("site-packages"));
        walk.add_all(user.into_iter().collect(), &mut known)?;
        prefixes.push(&layout.base);
        if layout.rules.fedora {
            prefixes.push(Path::new("/usr/local"));
        }
    }
    walk.add_all(site_directories(&prefixes), &mut known)?;
    walk.customize("sitecustomize")?;
    if has_user_site {
        walk.customize("usercustomize")?;
    }
    Ok(walk.path)
}

/// What `site` does, step by step.
struct Walk<'a> {
    root: &'a Root,
    layout: &'a Layout,
    path: SearchPath,
}

impl Walk<'_> {
    fn add(&mut self, entry: PathBuf, known: &mut Known) {
        if known.insert(entry.clone().into_os_string()) {
            self.path.entries.push(entry);
        }
    }

    fn add_all(&mut self, directories: Vec<PathBuf>, known: &mut Known) -> Result<(), Error> {
        for directory in directories {
            if self.root.is_dir(&directory) {
                self.add_site(&absolute(&directory, ""), 0, known)?;
            }
        }
        Ok(())
    }

    /// `site.addsitedir`.
    fn add_site(&mut self, directory: &Path, depth: usize, known: &mut Known) -> Result<(), Error> {
        self.add(directory.to_path_buf(), known);
        let mut names = match self.root.list(directory) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(Error::read(directory, error)),
        };
        names.retain(|name| {
            let name = name.as_bytes();
            name.ends_with(b".pth") && !(self.layout.rules.skips_hidden && name.starts_with(b"."))
        });
        names.sort_unstable();
        for name in names {
            self.add_pth(directory, &directory.join(name), depth, known)?;
        }
        Ok(())
    }

    /// `site.addpackage`.
    fn add_pth(&mut self, directory: &Path, file: &Path, depth: usize, known: &mut Known) -> Result<(), Error> {
        let Some(bytes) = self.root.read_if_there(file)? else { return Ok(()) };
        let text = std::str::from_utf8(&bytes).map_err(|error| Error::not_utf8(file, error))?;
        for line in pth::parse(text, self.layout.rules) {
            match line {
                Line::Path(entry) => {
                    let entry = absolute(directory, &entry);
                    if self.root.exists(&entry) {
                        self.add(entry, known);
                    }
                }
                Line::SiteDirectory(entry) if depth < NESTING_LIMIT => {
                    // Code calls it without what its caller knows: it asks the path itself, and tells nobody.
                    let mut known = self.existing();
                    self.add_site(&absolute(Path::new("/"), &entry), depth + 1, &mut known)?;
                }
                // Nobody asks whether the path has it already.
                Line::Entry(entry) => self.path.entries.push(PathBuf::from(entry)),
                Line::Module { name, .. } if self.has_module(directory, &name) => {}
                Line::SiteDirectory(code) | Line::Module { code, .. } | Line::Uncertain(code) => {
                    self.path.uncertain.push(format!("`{}`: {code}", file.display()));
                }
            }
        }
        Ok(())
    }

    /// `site._init_pathinfo`: the entries that exist, by their normal names.
    fn existing(&self) -> Known {
        let entries = self.path.entries.iter().filter(|entry| !entry.as_os_str().is_empty());
        let there = entries.filter(|entry| self.root.exists(entry)).filter_map(|entry| entry.to_str());
        there.map(|entry| absolute(Path::new("/"), entry).into_os_string()).collect()
    }

    fn has_module(&self, directory: &Path, name: &str) -> bool {
        self.module(directory, name).is_some()
    }

    /// The file of a module or package in a directory.
    fn module(&self, directory: &Path, name: &str) -> Option<PathBuf> {
        let files = [directory.join(name).join("__init__.py"), directory.join(format!("{name}.py"))];
        files.into_iter().find(|file| self.root.is_file(file))
    }

    /// A module that `site` imports in the end, and that may do anything.
    fn customize(&mut self, name: &str) -> Result<(), Error> {
        let found = self.path.entries.iter().find_map(|entry| self.module(&Path::new("/").join(entry), name));
        let Some(file) = found else { return Ok(()) };
        let text = self.root.read_if_there(&file)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let code: String = code.flat_map(str::split_whitespace).collect();
        if !code.is_empty() && code != CRASH_HANDLER {
            self.path.uncertain.push(format!("`{}`", file.display()));
        }
        Ok(())
    }
}
