//! A directory of a tree, shared between trees for as long as it is the same in them.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ContentRef, Node, NodeKind, whiteout};
use crate::layer::{Entry, Kind, LayerIndex};

/// What is in a directory, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory(pub(super) BTreeMap<OsString, Child>);

#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) node: Node,
    /// What is in it; what is no directory has none, and a directory without anything in it need not have one.
    pub(super) below: Option<Arc<Directory>>,
}

impl Directory {
    /// A directory over a directory keeps what is in it.
    pub(super) fn put(&mut self, name: &OsStr, node: Node) {
        match self.0.get_mut(name) {
            Some(child) => {
                if node.kind != NodeKind::Directory {
                    child.below = None;
                }
                child.node = node;
            }
            None => drop(self.0.insert(name.to_owned(), Child { node, below: None })),
        }
    }

    /// Puts the entries from number `first` on that are beside the one before them, which is in this directory, up to one for
    /// which more than that has to be looked at; how many those are. Most entries of a layer are beside the one before.
    ///
    /// No link leads here: one might be among what is put here, and lead elsewhere afterwards.
    pub(super) fn put_neighbours<'a>(&mut self, layer: usize, first: usize, index: &'a LayerIndex) -> usize {
        let parent_of = |entry: &'a Entry| entry.path.parent().map(Path::as_os_str);
        let parent = parent_of(&index.entries[first - 1]);
        let mut count = 0;
        for (number, entry) in index.entries.iter().enumerate().skip(first) {
            let (true, Some(name)) = (parent_of(entry) == parent, entry.path.file_name()) else { break };
            let Ok(node) = node_of(entry, ContentRef { layer, entry: number }) else { break };
            if whiteout(&entry.path).is_some() {
                break;
            }
            self.put(name, node);
            count += 1;
        }
        count
    }
}

/// What an entry is, or what it is another name of.
pub(super) fn node_of(entry: &Entry, content: ContentRef) -> Result<Node, &Path> {
    let kind = match &entry.kind {
        Kind::Directory => NodeKind::Directory,
        Kind::File { size } => NodeKind::File { size: *size, content },
        Kind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
        Kind::Fifo => NodeKind::Fifo,
        Kind::CharacterDevice { major, minor } => NodeKind::Device { block: false, major: *major, minor: *minor },
        Kind::BlockDevice { major, minor } => NodeKind::Device { block: true, major: *major, minor: *minor },
        Kind::Hardlink { target } => return Err(target),
    };
    Ok(Node { kind, metadata: entry.metadata.clone() })
}

impl Drop for Directory {
    /// One after the other: a tree may be deeper than a stack.
    fn drop(&mut self) {
        let mut below: Vec<Arc<Self>> = self.0.values_mut().filter_map(|child| child.below.take()).collect();
        while let Some(directory) = below.pop() {
            if let Some(mut directory) = Arc::into_inner(directory) {
                below.extend(directory.0.values_mut().filter_map(|child| child.below.take()));
            }
        }
    }
}

/// A place in a tree on the way along a path: the root, a node, or nothing.
#[derive(Clone, Copy)]
pub(in crate::layer) struct Place<'a> {
    /// The node, unless it is the root or not there.
    pub(in crate::layer) node: Option<&'a Node>,
    pub(super) directory: Option<&'a Directory>,
}

impl Place<'_> {
    /// The place of this name in it.
    pub(in crate::layer) fn enter(self, name: &OsStr) -> Self {
        match self.directory.and_then(|directory| directory.0.get(name)) {
            Some(child) => Self { node: Some(&child.node), directory: child.below.as_deref() },
            None => Self { node: None, directory: None },
        }
    }
}

/// Everything below a directory.
pub(super) struct Below<'a> {
    open: Vec<btree_map::Iter<'a, OsString, Child>>,
    /// The directory of the innermost.
    path: PathBuf,
}

impl<'a> Below<'a> {
    pub(super) fn of(directory: &'a Directory, path: PathBuf) -> Self {
        Self { open: vec![directory.0.iter()], path }
    }
}

impl<'a> Iterator for Below<'a> {
    type Item = (PathBuf, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((name, child)) = self.open.last_mut()?.next() else {
                self.open.pop();
                self.path.pop();
                continue;
            };
            let path = self.path.join(name);
            if let Some(below) = &child.below {
                self.path.push(name);
                self.open.push(below.0.iter());
            }
            return Some((path, &child.node));
        }
    }
}
