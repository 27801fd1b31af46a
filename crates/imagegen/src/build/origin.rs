//! Where copied files come from: a folder of this machine, or the tree of an image. One view of both.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::glob::Glob;
use super::problem::BuildProblem;
use crate::layer::spool::Spool;
use crate::layer::{ContentRef, Metadata, NodeKind, Resolved, Tree};

/// The content of a file that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// A file on this machine.
    Disk(PathBuf),
    /// A file taken out of an archive, where it may have several names.
    Spooled(PathBuf),
    /// An entry of a layer.
    Layer(ContentRef),
    /// Bytes that a Dockerfile spells out.
    Bytes(Vec<u8>),
}

/// What can be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemKind {
    Directory,
    File {
        size: u64,
        content: Content,
    },
    Symlink {
        target: PathBuf,
    },
    /// Another name of a file of the same layer; only planned layers have them.
    Hardlink {
        target: PathBuf,
    },
    Fifo,
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    /// Something that no layer can hold, in words.
    Other(&'static str),
}

/// A file, directory or link at its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub kind: ItemKind,
    pub metadata: Metadata,
}

/// A tree to copy from. Paths are relative to its root and free of links, as [`Origin::resolve`] gives them.
pub(super) trait Origin {
    /// For messages: "the build context `images/x`".
    fn name(&self) -> String;

    /// Follows all links in `path`, which is relative to the root; what is missing stays as it is.
    fn resolve(&self, path: &Path) -> Result<PathBuf, BuildProblem>;

    /// What is at `path`, no links followed; `None` where there is nothing.
    fn item(&self, path: &Path) -> Result<Option<Item>, BuildProblem>;

    /// The names in the directory `path`, sorted.
    fn names(&self, path: &Path) -> Result<Vec<OsString>, BuildProblem>;

    /// Whether `path` is kept out.
    fn ignores(&self, path: &Path) -> bool;

    /// Whether something below a directory that is kept out may be taken back.
    fn keeps_below(&self) -> bool {
        false
    }

    /// Whether the directory `path` was listed with an owner and a mode that are meant for a directory that is there as well.
    fn lists_directory(&self, _: &Path) -> bool {
        false
    }

    /// Whether the files are those of a checkout, whose owners, times and umask mean nothing.
    fn is_checkout(&self) -> bool;
}

/// The paths that `pattern` names, as they are in the origin: at least one, unless it is a pattern.
pub(super) fn select(origin: &dyn Origin, pattern: &str) -> Result<Vec<PathBuf>, BuildProblem> {
    let outside = || BuildProblem::OutsideContext { path: pattern.to_owned(), context: origin.name() };
    let mut clean = PathBuf::new();
    for part in Path::new(pattern).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if !clean.pop() => return Err(outside()),
            _ => {}
        }
    }
    if !Glob::is_pattern(pattern) {
        return Ok(vec![clean]);
    }
    let mut found = vec![PathBuf::new()];
    for part in &clean {
        let text = part.to_string_lossy();
        let mut next = Vec::new();
        if !Glob::is_pattern(&text) {
            next.extend(found.into_iter().map(|path| path.join(part)));
            found = next;
            continue;
        }
        let glob = Glob::new(&text).map_err(|_| BuildProblem::BadPattern(pattern.to_owned()))?;
        for parent in found {
            // What a pattern matches on the way but cannot be entered holds nothing that it could match.
            let Ok(real) = origin.resolve(&parent) else { continue };
            if !matches!(origin.item(&real)?, Some(Item { kind: ItemKind::Directory, .. })) {
                continue;
            }
            for name in origin.names(&real)? {
                if name.to_str().is_some_and(|name| glob.matches(name)) {
                    next.push(parent.join(name));
                }
            }
        }
        found = next;
    }
    let mut kept = Vec::new();
    for path in found {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Ok(real) = origin.resolve(parent) else { continue };
        if origin.item(&real.join(name))?.is_some() {
            kept.push(path);
        }
    }
    Ok(kept)
}

impl Content {
    /// Opens the content; `spooled` finds that of layers.
    pub(super) fn open(&self, spooled: &dyn Fn(ContentRef) -> Option<PathBuf>) -> Result<Box<dyn Read>, BuildProblem> {
        let path = match self {
            Self::Bytes(bytes) => return Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Self::Disk(path) | Self::Spooled(path) => path.clone(),
            Self::Layer(content) => spooled(*content).ok_or_else(|| BuildProblem::Unreadable {
                path: PathBuf::from(format!("layer {} entry {}", content.layer, content.entry)),
                source: io::ErrorKind::NotFound.into(),
            })?,
        };
        match File::open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => Err(BuildProblem::Unreadable { path, source }),
        }
    }
}

/// An image's tree as an origin: links never leave it.
pub(super) struct TreeOrigin<'a> {
    pub tree: &'a Tree,
    pub name: String,
    /// Its contents, where they have been taken out already.
    pub spool: Option<&'a Spool>,
    /// The directories of an archive that are entries of it, not only parents of some.
    pub listed: Option<&'a BTreeSet<PathBuf>>,
}

impl Origin for TreeOrigin<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf, BuildProblem> {
        match self.tree.resolve(path, true) {
            Resolved::Path(path) => Ok(path),
            Resolved::NotADirectory(part) => Err(BuildProblem::Unreachable {
                path: path.to_owned(),
                why: format!("`{}` is no directory", part.display()),
            }),
            Resolved::Loop => {
                Err(BuildProblem::Unreachable { path: path.to_owned(), why: "its links form a loop".to_owned() })
            }
        }
    }

    fn item(&self, path: &Path) -> Result<Option<Item>, BuildProblem> {
        let root = || Item { kind: ItemKind::Directory, metadata: Metadata::root_owned(0o755, 0) };
        let Some(node) = self.tree.get(path) else { return Ok(path.as_os_str().is_empty().then(root)) };
        let kind = match &node.kind {
            NodeKind::Directory => ItemKind::Directory,
            NodeKind::File { size, content } => {
                let spooled = self.spool.and_then(|spool| spool.path(*content));
                let content = spooled.map_or(Content::Layer(*content), |path| Content::Spooled(path.to_owned()));
                ItemKind::File { size: *size, content }
            }
            NodeKind::Symlink { target } => ItemKind::Symlink { target: target.clone() },
            NodeKind::Fifo => ItemKind::Fifo,
            NodeKind::Device { block, major, minor } => {
                ItemKind::Device { block: *block, major: *major, minor: *minor }
            }
        };
        Ok(Some(Item { kind, metadata: node.metadata.clone() }))
    }

    fn names(&self, path: &Path) -> Result<Vec<OsString>, BuildProblem> {
        let names = self.tree.children(path).map(|(name, _)| name.to_owned()).collect();
        Ok(names)
    }

    fn ignores(&self, _: &Path) -> bool {
        false
    }

    fn lists_directory(&self, path: &Path) -> bool {
        self.listed.is_some_and(|listed| listed.contains(path))
    }

    fn is_checkout(&self) -> bool {
        false
    }
}
