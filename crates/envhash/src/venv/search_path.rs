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

/// How deep `.pth` files may add site directories whose `.pth` files add others.
const NESTING_LIMIT: usize = 16;

/// The entries of the search path, and what could not be decided.
#[derive(Debug, Default)]
pub(super) struct SearchPath {
    /// Absolute paths; the empty path stands for the working directory.
    pub(super) entries: Vec<PathBuf>,
    /// Lines of `.pth` files that may add more.
    pub(super) uncertain: Vec<String>,
    /// The entries' texts: `Path` takes `//a` and `/a` for equal, Python does not.
    known: BTreeSet<OsString>,
}

/// Computes the search path of a layout. `home` is the home directory of who runs the interpreter.
pub(super) fn compute(root: &Root, layout: &Layout, home: Option<&Path>) -> Result<SearchPath, Error> {
    let mut path = SearchPath::default();
    // `-c` puts the working directory first, under no name that `site` knows.
    path.entries.push(PathBuf::new());
    let zip = layout.names.python.trim_end_matches('t').replace('.', "") + ".zip";
    path.add(layout.base.join(layout.names.platform_lib).join(zip));
    path.add(layout.library.clone());
    path.add(layout.library.join("lib-dynload"));

    let site_directories =
        |prefixes: &[&Path]| site::directories(layout.rules, &layout.names, prefixes, layout.venv.is_some());
    if layout.venv.is_some() {
        path.add_all(root, layout, site_directories(&[&layout.prefix]))?;
    }
    // `site.main` goes on as if nothing had happened, so that code in the `.pth` files of an environment runs twice.
    let mut prefixes: Vec<&Path> = vec![&layout.prefix];
    if layout.venv.as_ref().is_none_or(|config| config.system_site) {
        let user = home.map(|home| home.join(".local/lib").join(&layout.names.python).join("site-packages"));
        path.add_all(root, layout, user.into_iter().collect())?;
        prefixes.push(&layout.base);
        if layout.rules.fedora {
            prefixes.push(Path::new("/usr/local"));
        }
    }
    path.add_all(root, layout, site_directories(&prefixes))?;
    Ok(path)
}

impl SearchPath {
    fn add(&mut self, entry: PathBuf) {
        if self.known.insert(entry.clone().into_os_string()) {
            self.entries.push(entry);
        }
    }

    fn add_all(&mut self, root: &Root, layout: &Layout, directories: Vec<PathBuf>) -> Result<(), Error> {
        for directory in directories {
            if root.is_dir(&directory) {
                self.add_site(root, layout, &absolute(&directory, ""), 0)?;
            }
        }
        Ok(())
    }

    /// `site.addsitedir`.
    fn add_site(&mut self, root: &Root, layout: &Layout, directory: &Path, depth: usize) -> Result<(), Error> {
        self.add(directory.to_path_buf());
        let mut names = match root.list(directory) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(Error::read(directory, error)),
        };
        names.retain(|name| {
            let name = name.as_bytes();
            name.ends_with(b".pth") && !(layout.rules.skips_hidden && name.starts_with(b"."))
        });
        names.sort_unstable();
        for name in names {
            self.add_pth(root, layout, directory, &directory.join(name), depth)?;
        }
        Ok(())
    }

    /// `site.addpackage`.
    fn add_pth(
        &mut self,
        root: &Root,
        layout: &Layout,
        directory: &Path,
        file: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let Some(bytes) = root.read_if_there(file)? else { return Ok(()) };
        let text = std::str::from_utf8(&bytes).map_err(|error| Error::not_utf8(file, error))?;
        for line in pth::parse(text, layout.rules) {
            match line {
                Line::Path(entry) => {
                    let entry = absolute(directory, &entry);
                    if root.exists(&entry) {
                        self.add(entry);
                    }
                }
                Line::SiteDirectory(entry) if depth < NESTING_LIMIT => {
                    self.add_site(root, layout, &absolute(Path::new("/"), &entry), depth + 1)?;
                }
                Line::SiteDirectory(_) => {}
                // Nobody asks whether the path has it already.
                Line::Entry(entry) => self.entries.push(PathBuf::from(entry)),
                Line::Uncertain(code) => self.uncertain.push(format!("`{}`: {code}", file.display())),
            }
        }
        Ok(())
    }
}
