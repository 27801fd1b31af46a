//! A folder of this machine as a build context.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::ignore::Ignore;
use super::origin::{Content, Item, ItemKind, Origin};
use super::problem::BuildProblem;
use crate::layer::Metadata;

/// The kernel gives up after as many.
const MAX_LINKS: usize = 40;

/// A build context. Nothing outside `root` is read through it, whatever links the folder holds.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    ignore: Ignore,
    name: String,
    epoch: i64,
}

impl Folder {
    /// The context in `root`, without what `ignore` keeps out. Files get `epoch` as their time.
    pub(super) fn new(root: &Path, ignore: Ignore, name: String, epoch: i64) -> Self {
        Self { root: root.to_owned(), ignore, name, epoch }
    }

    fn leaves(&self, path: &Path, link: &Path, target: &Path) -> BuildProblem {
        BuildProblem::LeavesContext {
            path: path.display().to_string(),
            context: self.name.clone(),
            link: self.root.join(link),
            target: target.to_owned(),
        }
    }
}

impl Origin for Folder {
    fn name(&self) -> String {
        self.name.clone()
    }

    /// Follows links inside the folder. One that leads out is an error, never followed: what the builder's machine has
    /// outside the folder is no input.
    fn resolve(&self, path: &Path) -> Result<PathBuf, BuildProblem> {
        let mut left: Vec<OsString> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let mut real = PathBuf::new();
        let mut last_link: Option<(PathBuf, PathBuf)> = None;
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                // `real` is free of links, so its parent is what the kernel would take.
                if let (false, Some((link, target))) = (real.pop(), &last_link) {
                    return Err(self.leaves(path, link, target));
                }
                continue;
            }
            let candidate = real.join(&part);
            let full = self.root.join(&candidate);
            let target = match fs::symlink_metadata(&full) {
                Ok(metadata) if metadata.is_symlink() => {
                    fs::read_link(&full).map_err(|source| unreadable(&full, source))?
                }
                Err(source) if !is_missing(&source) => return Err(unreadable(&full, source)),
                _ => {
                    real = candidate;
                    continue;
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(unreadable(&self.root.join(path), rustix::io::Errno::LOOP.into()));
            }
            if target.is_absolute() {
                return Err(self.leaves(path, &candidate, &target));
            }
            let steps = target.components().rev().filter(|step| *step != Component::CurDir);
            left.extend(steps.map(|step| step.as_os_str().to_owned()));
            last_link = Some((candidate, target));
        }
        Ok(real)
    }

    fn item(&self, path: &Path) -> Result<Option<Item>, BuildProblem> {
        let full = self.root.join(path);
        let found = match fs::symlink_metadata(&full) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(source) => return Err(unreadable(&full, source)),
        };
        let kind = found.file_type();
        let executable = found.mode() & 0o100 != 0;
        let (kind, mode) = if kind.is_dir() {
            (ItemKind::Directory, 0o755)
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(|source| unreadable(&full, source))?;
            (ItemKind::Symlink { target }, 0o777)
        } else if kind.is_file() {
            // As git: a file is executable or not, and what a umask adds or takes is nothing.
            let mode = if executable { 0o755 } else { 0o644 };
            (ItemKind::File { size: found.len(), content: Content::Disk(full) }, mode)
        } else if kind.is_fifo() {
            (ItemKind::Other("a named pipe"), 0)
        } else if kind.is_socket() {
            (ItemKind::Other("a socket"), 0)
        } else {
            (ItemKind::Other("a device"), 0)
        };
        Ok(Some(Item { kind, metadata: Metadata::root_owned(mode, self.epoch) }))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, BuildProblem> {
        let full = self.root.join(path);
        let entries = fs::read_dir(&full).map_err(|source| unreadable(&full, source))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| unreadable(&full, source))?;
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        Ok(names)
    }

    fn ignores(&self, path: &Path) -> bool {
        !self.ignore.is_empty() && self.ignore.ignores(path)
    }

    fn keeps_below(&self) -> bool {
        self.ignore.may_keep_below()
    }

    fn is_checkout(&self) -> bool {
        true
    }
}

fn unreadable(path: &Path, source: io::Error) -> BuildProblem {
    BuildProblem::Unreadable { path: path.to_owned(), source }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::origin::select;
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (name, mode) in [("a/one.txt", 0o600), ("a/two.txt", 0o775), ("a/b/one.txt", 0o644)] {
            fs::write(root.join(name), name).unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        for (link, target) in [
            ("inside", "a/b"),
            ("a/sideways", "../a/one.txt"),
            ("out", "/etc/passwd"),
            ("a/climbs", "../../x"),
            ("loop", "loop"),
            ("through", "inside/../one.txt"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let folder = Folder::new(root, Ignore::default(), "the build context".into(), 7);
        (directory, folder)
    }

    #[test]
    fn links_inside_are_followed_and_links_out_refused() {
        let (_directory, folder) = folder();
        let resolve = |path: &str| folder.resolve(Path::new(path)).map_err(|problem| problem.to_string());
        assert_eq!(resolve("inside/one.txt"), Ok("a/b/one.txt".into()));
        assert_eq!(resolve("a/sideways"), Ok("a/one.txt".into()));
        assert_eq!(resolve("through"), Ok("a/one.txt".into()));
        assert_eq!(resolve("missing/x"), Ok("missing/x".into()));
        for (path, expected) in
            [("out", "points to `/etc/passwd`"), ("a/climbs", "points to `../../x`"), ("loop", "loop")]
        {
            let said = resolve(path).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn modes_are_those_that_git_keeps() {
        let (_directory, folder) = folder();
        let mode = |path: &str| folder.item(Path::new(path)).unwrap().unwrap().metadata.mode;
        assert_eq!((mode("a/one.txt"), mode("a/two.txt"), mode("a")), (0o644, 0o755, 0o755));
    }

    #[test]
    fn patterns_select_names_in_order() {
        let (_directory, folder) = folder();
        let chosen = |pattern: &str| {
            select(&folder, pattern)
                .map(|paths| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
                .map_err(|problem| problem.to_string())
        };
        assert_eq!(chosen("a/*.txt").unwrap(), ["a/one.txt", "a/two.txt"]);
        assert_eq!(chosen("*/b/o*").unwrap(), ["a/b/one.txt"]);
        assert_eq!(chosen("./a/../a/").unwrap(), ["a"]);
        assert_eq!(chosen(".").unwrap(), [""]);
        assert_eq!(chosen("none*").unwrap(), [""; 0]);
        assert_eq!(chosen("none").unwrap(), ["none"]);
        assert!(chosen("../x").unwrap_err().contains("lies outside the build context"));
        assert!(chosen("[a").unwrap_err().contains("does not end"));
    }
}
