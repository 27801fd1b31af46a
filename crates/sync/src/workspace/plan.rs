//! Looking, without touching: what is missing in the workspace, and what lies about in it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, open, statat};
use rustix::io::Errno;

use super::{Options, PLATFORM_FILES};
use crate::Error;
use crate::engine::facts::Facts;
use crate::engine::{self, Place, survey::Size};
use crate::staging::names::{Family, Stem, is_reserved};
use crate::staging::sweep;
use crate::volume::listing;
use crate::volume::space::Room;

/// How many names of the workspace are read to see what is there. It is the user's directory and may hold any number;
/// beyond this, the items are looked up one by one.
const LISTED_MOST: usize = 1 << 14;

/// The block size that sizes are rounded up to when there is no workspace to ask yet, in bytes.
const USUAL_BLOCK_BYTES: u64 = 4096;

/// What there is to do, as it was when [`plan`](super::plan()) looked.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Plan {
    /// Every item of the source, in the order of their names.
    pub items: Vec<Item>,
    /// Files of the platform that lie in the workspace and are to be removed.
    pub platform_files: Vec<OsString>,
    /// Items of the source that cannot be published, because their names are those of locks or unpublished copies.
    pub reserved: Vec<OsString>,
    /// Whether the workspace itself is missing.
    pub workspace_is_missing: bool,
    pub(super) leftovers: BTreeMap<Stem, Vec<OsString>>,
}

/// A top-level item of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, in the source and in the workspace.
    pub name: OsString,
    /// What it amounts to, if nothing of that name is in the workspace and it is to be copied.
    pub missing: Option<Size>,
}

impl Plan {
    /// Whether the workspace is as it should be already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.platform_files.is_empty() && self.missing().next().is_none()
    }

    /// The items that are to be copied, with what they amount to.
    pub fn missing(&self) -> impl Iterator<Item = (&OsStr, &Size)> {
        self.items.iter().filter_map(|item| Some((&*item.name, item.missing.as_ref()?)))
    }

    /// Names of unpublished copies in the workspace, of this item or another, whoever they belong to.
    pub fn leftovers(&self) -> impl Iterator<Item = &OsStr> {
        self.leftovers.values().flatten().map(OsString::as_os_str)
    }
}

/// See [`plan`](super::plan()).
pub(super) fn plan(options: &Options) -> Result<Plan, Error> {
    let workspace = open_directory(&options.workspace)?;
    let around = Surroundings::of(workspace.as_ref(), &options.workspace)?;
    let mut plan = Plan {
        workspace_is_missing: workspace.is_none(),
        leftovers: sweep::leftovers(Family::Sync, around.names.iter().map(OsString::as_os_str)),
        ..Plan::default()
    };
    for name in PLATFORM_FILES {
        if around.has(OsStr::new(name))? {
            plan.platform_files.push(name.into());
        }
    }
    let Some(source) = open_directory(&options.source)? else { return Ok(plan) };
    if let Some(workspace) = &workspace
        && id(&source, &options.source)? == id(workspace, &options.workspace)?
    {
        return Ok(plan);
    }
    let block_bytes = workspace.as_ref().and_then(|workspace| Room::of(workspace).ok()).map(|room| room.block_bytes);
    for name in items(&source, &options.source)? {
        if is_reserved(&name) {
            plan.reserved.push(name);
            continue;
        }
        let missing = if around.has(&name)? {
            None
        } else {
            let path = options.source.join(&name);
            let place = Place { directory: source.as_fd(), name: &name, path: &path };
            Some(engine::measure(place, block_bytes.unwrap_or(USUAL_BLOCK_BYTES))?)
        };
        plan.items.push(Item { name, missing });
    }
    Ok(plan)
}

/// The names of the items, in order. What is removed from the workspace in the end is none.
fn items(source: &File, path: &Path) -> Result<Vec<OsString>, Error> {
    let mut names = listing::names(source, usize::MAX).map_err(|errno| Error::io("list", path, errno))?.names;
    names.retain(|name| !PLATFORM_FILES.iter().any(|file| name == file));
    names.sort_unstable();
    Ok(names)
}

/// Opens a directory, following links: the user may have made it one. `None` if there is nothing of that name.
pub(super) fn open_directory(path: &Path) -> Result<Option<File>, Error> {
    match open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => Ok(Some(File::from(directory))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::io("open the directory", path, errno)),
    }
}

fn id(file: &File, path: &Path) -> Result<(u64, u64), Error> {
    fstat(file).map(|stat| stat.id()).map_err(|errno| Error::io("read", path, errno))
}

/// Whether something in a directory has the name, a dangling link included.
pub(super) fn is_there(directory: impl AsFd, path: &Path, name: &OsStr) -> Result<bool, Error> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::io("look at", path.join(name), errno)),
    }
}

/// What is in the workspace: read at once, which on a network is one request instead of one for each item.
struct Surroundings<'a> {
    workspace: Option<&'a File>,
    path: &'a Path,
    names: HashSet<OsString>,
    complete: bool,
}

impl<'a> Surroundings<'a> {
    fn of(workspace: Option<&'a File>, path: &'a Path) -> Result<Self, Error> {
        let listing = match workspace {
            Some(workspace) => {
                listing::names(workspace, LISTED_MOST).map_err(|errno| Error::io("list", path, errno))?
            }
            None => listing::Listing { complete: true, ..Default::default() },
        };
        Ok(Self { workspace, path, names: listing.names.into_iter().collect(), complete: listing.complete })
    }

    fn has(&self, name: &OsStr) -> Result<bool, Error> {
        match self.workspace {
            Some(workspace) if !self.complete && !self.names.contains(name) => is_there(workspace, self.path, name),
            _ => Ok(self.names.contains(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn options(root: &tempfile::TempDir) -> Options {
        Options::new(root.path().join("internal"), root.path().join("workspace"))
    }

    fn missing(plan: &Plan) -> Vec<&OsStr> {
        plan.missing().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_has_the_name_of_an_item_counts_as_there_whatever_it_is() {
        let root = tempfile::tempdir().unwrap();
        let options = options(&root);
        for item in ["dir", "file", "link", "gone", "new"] {
            fs::create_dir_all(options.source.join(item)).unwrap();
        }
        fs::create_dir_all(options.workspace.join("dir")).unwrap();
        fs::write(options.workspace.join("file"), "").unwrap();
        symlink("file", options.workspace.join("link")).unwrap();
        symlink("nowhere", options.workspace.join("gone")).unwrap();
        assert_eq!(missing(&plan(&options).unwrap()), ["new"]);
    }

    #[test]
    fn a_missing_source_or_one_that_is_the_workspace_leaves_nothing_to_do() {
        let root = tempfile::tempdir().unwrap();
        let mut options = options(&root);
        assert!(plan(&options).unwrap().is_empty());
        fs::create_dir_all(options.workspace.join("app")).unwrap();
        assert!(plan(&options).unwrap().is_empty());
        symlink("workspace", &options.source).unwrap();
        let plan = plan(&options).unwrap();
        assert!(plan.is_empty() && plan.items.is_empty());
        options.workspace = root.path().join("other");
        assert_eq!(missing(&super::plan(&options).unwrap()), ["app"], "a link to a source is a source");
    }

    #[test]
    fn files_of_the_platform_are_no_items_and_go() {
        let root = tempfile::tempdir().unwrap();
        let options = options(&root);
        fs::create_dir_all(&options.source).unwrap();
        fs::create_dir_all(&options.workspace).unwrap();
        fs::write(options.source.join("onstart.sh"), "").unwrap();
        fs::write(options.workspace.join("ports.log"), "").unwrap();
        let plan = plan(&options).unwrap();
        assert!(plan.items.is_empty());
        assert_eq!(plan.platform_files, ["ports.log"]);
    }

    #[test]
    fn names_of_locks_and_unpublished_copies_are_no_items() {
        let root = tempfile::tempdir().unwrap();
        let options = options(&root);
        fs::create_dir_all(options.source.join(".sync_a.lock")).unwrap();
        fs::create_dir_all(options.source.join(".sync_a.partial.b")).unwrap();
        let plan = plan(&options).unwrap();
        assert!(plan.items.is_empty());
        assert_eq!(plan.reserved, [".sync_a.lock", ".sync_a.partial.b"]);
    }

    #[test]
    fn a_workspace_with_more_names_than_are_read_is_asked_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("there"), "").unwrap();
        let workspace = File::open(root.path()).unwrap();
        let names = HashSet::new();
        let around = Surroundings { workspace: Some(&workspace), path: root.path(), names, complete: false };
        assert!(around.has(OsStr::new("there")).unwrap());
        assert!(!around.has(OsStr::new("missing")).unwrap());
    }
}
