//! What a stack of layers amounts to: one tree of nodes, each with the place of its content.

mod directory;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::directory::{Below, Child, Directory, Place, node_of};
use super::{Entry, LayerError, LayerIndex, Metadata, Resolved};

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file. Hard links are files with one content.
    File {
        /// Its size in bytes.
        size: u64,
        /// Where its content is.
        content: ContentRef,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A device.
    Device {
        /// Whether it is a block device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// The place of a file's content: an entry of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentRef {
    /// The layer's number in its image, from 0.
    pub layer: usize,
    /// The entry's number in the layer's archive, from 0.
    pub entry: usize,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its metadata.
    pub metadata: Metadata,
}

/// A file system as an image's layers make it. Parents of every node are directories.
///
/// A clone costs nothing and shares what neither changes afterwards: the tree after each of an image's layers, and those of
/// images that have layers in common, are together hardly larger than one.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    root: Option<Node>,
    top: Arc<Directory>,
    /// How many directories no layer mentions.
    implied: usize,
}

/// One path of 4 KiB implies 2000 directories, and a layer of a few kilobytes may have thousands of such paths.
const MAX_IMPLIED_DIRECTORIES: usize = 500_000;

/// What directories get that no layer mentions.
const IMPLICIT_DIRECTORY_MODE: u32 = 0o755;

/// Linux takes no longer path. Links can lead an entry below a longer one than any name in a layer is.
const MAX_PATH_BYTES: usize = 4096;

impl Tree {
    /// The node at exactly `path`, relative to the root; no links are followed. The root itself is there only if a layer
    /// says something about it.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Node> {
        if names(path).next().is_none() { self.root.as_ref() } else { Some(&self.child(path)?.node) }
    }

    /// Whether `path` is a directory. The root always is.
    #[must_use]
    pub fn is_directory(&self, path: &Path) -> bool {
        names(path).next().is_none() || self.child(path).is_some_and(|child| child.node.kind == NodeKind::Directory)
    }

    /// Everything, the root included where it is there: parents before what is in them, and that by the bytes of its names.
    pub fn iter(&self) -> impl Iterator<Item = (PathBuf, &Node)> {
        self.root.iter().map(|root| (PathBuf::new(), root)).chain(Below::of(&self.top, PathBuf::new()))
    }

    /// Everything below `path`, not itself, in the same order.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = (PathBuf, &Node)> + use<'_> {
        let above: PathBuf = names(path).collect();
        self.directory(path).into_iter().flat_map(move |directory| Below::of(directory, above.clone()))
    }

    /// What is in the directory `path`, by the bytes of its names.
    pub fn children(&self, path: &Path) -> impl Iterator<Item = (&OsStr, &Node)> + use<'_> {
        let directory = self.directory(path).into_iter();
        directory.flat_map(|directory| directory.0.iter().map(|(name, child)| (&**name, &child.node)))
    }

    /// Puts a node at exactly `path`. A directory over a directory keeps what is below it; anything else replaces all that was
    /// there. Parents that are missing are made.
    pub fn insert(&mut self, path: &Path, node: Node) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            self.root = Some(node);
            return;
        };
        self.make_directory(parent).put(name, node);
    }

    /// Removes the node at `path` and all below it.
    pub fn remove(&mut self, path: &Path) {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if self.child(path).is_some() => {
                self.make_directory(parent).0.remove(name);
            }
            (Some(_), Some(_)) => {}
            _ => (self.root, self.top) = (None, Arc::default()),
        }
    }

    fn remove_below(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            self.top = Arc::default();
            return;
        };
        // A tree that others share is copied only where something changes.
        if self.directory(path).is_some()
            && let Some(child) = self.make_directory(parent).0.get_mut(name)
        {
            child.below = None;
        }
    }

    /// Puts layer number `layer` on top, in the order that the OCI image spec gives: first what it deletes, then what it adds.
    ///
    /// Entries below a link to a directory go where it points, as containerd and the kernel treat them.
    ///
    /// # Errors
    /// Entries that cannot be placed: below something that is no directory, in a loop of links, hard links to nothing, paths
    /// that are longer than Linux takes. More directories than anybody needs that no layer mentions. The tree is then in between.
    pub fn apply(&mut self, layer: usize, index: &LayerIndex) -> Result<(), LayerError> {
        for entry in &index.entries {
            match whiteout(&entry.path) {
                Some(Whiteout::Path(path)) => {
                    let path = self.place(&path)?;
                    self.remove(&path);
                }
                Some(Whiteout::Opaque(directory)) => match self.resolve(&directory, true) {
                    Resolved::Path(path) => self.remove_below(&path),
                    _ => return Err(misplaced(&entry.path)),
                },
                _ => {}
            }
        }
        let mut number = 0;
        while let Some(entry) = index.entries.get(number) {
            if whiteout(&entry.path).is_some() {
                number += 1;
                continue;
            }
            let node = self.node(entry, ContentRef { layer, entry: number })?;
            let path = self.place(&entry.path)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                self.root = Some(node);
                number += 1;
                continue;
            };
            let directory = self.make_directory(parent);
            directory.put(name, node);
            number += 1;
            if path == entry.path {
                number += directory.put_neighbours(layer, number, index);
            }
            if self.implied > MAX_IMPLIED_DIRECTORIES {
                let limit = MAX_IMPLIED_DIRECTORIES as u64;
                return Err(LayerError::TooMuch { limit, what: "directories that no layer mentions" });
            }
        }
        Ok(())
    }

    fn node(&self, entry: &Entry, content: ContentRef) -> Result<Node, LayerError> {
        node_of(entry, content).or_else(|target| {
            let node = self.get(&self.place(target)?).filter(|node| node.kind != NodeKind::Directory);
            let why = "is a hard link to something that is not there";
            node.cloned().ok_or_else(|| LayerError::Unsafe { path: entry.path.clone(), why })
        })
    }

    /// Where an entry named `path` belongs: links in its parents are followed, its own name is not.
    fn place(&self, path: &Path) -> Result<PathBuf, LayerError> {
        match self.resolve(path, false) {
            Resolved::Path(real) if real.as_os_str().len() > MAX_PATH_BYTES => {
                Err(LayerError::Unsafe { path: path.to_owned(), why: "leads to a longer path than Linux takes" })
            }
            Resolved::Path(real) => Ok(real),
            _ => Err(misplaced(path)),
        }
    }

    pub(super) fn top(&self) -> Place<'_> {
        Place { node: None, directory: Some(&self.top) }
    }

    fn child(&self, path: &Path) -> Option<&Child> {
        let mut names = names(path);
        let mut child = self.top.0.get(names.next()?)?;
        for name in names {
            child = child.below.as_ref()?.0.get(name)?;
        }
        Some(child)
    }

    /// The directory at `path`, if it is one and has anything in it.
    fn directory(&self, path: &Path) -> Option<&Directory> {
        if names(path).next().is_none() { Some(&self.top) } else { self.child(path)?.below.as_deref() }
    }

    /// The directory at `path`, alone this tree's. What is not there is made; what is no directory is replaced.
    fn make_directory(&mut self, path: &Path) -> &mut Directory {
        let mut directory = Arc::make_mut(&mut self.top);
        for name in names(path) {
            let implied = || Child {
                node: Node { kind: NodeKind::Directory, metadata: Metadata::root_owned(IMPLICIT_DIRECTORY_MODE, 0) },
                below: None,
            };
            let child = directory.0.entry(name.to_owned()).or_insert_with(|| {
                self.implied += 1;
                implied()
            });
            if child.node.kind != NodeKind::Directory {
                *child = implied();
            }
            directory = Arc::make_mut(child.below.get_or_insert_default());
        }
        directory
    }
}

/// The names along a path, without the empty ones that slashes at its ends leave.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes)
}

fn misplaced(path: &Path) -> LayerError {
    LayerError::Unsafe { path: path.to_owned(), why: "lies below something that is no directory" }
}

pub(crate) enum Whiteout {
    /// This path of the layers below is gone.
    Path(PathBuf),
    /// All that the layers below have in this directory is gone.
    Opaque(PathBuf),
    /// Bookkeeping of the file system that made the layer.
    Other,
}

/// What an entry's name deletes (OCI image spec, "Whiteouts").
pub(crate) fn whiteout(path: &Path) -> Option<Whiteout> {
    let name = path.file_name()?.as_bytes().strip_prefix(b".wh.")?;
    let parent = path.parent().unwrap_or(Path::new(""));
    Some(match name {
        b".wh..opq" => Whiteout::Opaque(parent.to_owned()),
        b"" => Whiteout::Other,
        _ if name.starts_with(b".wh.") => Whiteout::Other,
        _ => Whiteout::Path(parent.join(std::ffi::OsStr::from_bytes(name))),
    })
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
