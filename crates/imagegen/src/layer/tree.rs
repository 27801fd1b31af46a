//! What a stack of layers amounts to: one tree of nodes, each with the place of its content.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Entry, Kind, LayerError, LayerIndex, Metadata, Resolved};

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

/// What is in a directory, by name.
#[derive(Debug, Clone, Default)]
struct Directory(BTreeMap<OsString, Child>);

#[derive(Debug, Clone)]
struct Child {
    node: Node,
    /// What is in it; a directory without anything in it has none, like all that is no directory.
    below: Option<Arc<Directory>>,
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
        let directory = self.make_directory(parent);
        match directory.0.get_mut(name) {
            Some(child) => {
                if node.kind != NodeKind::Directory {
                    child.below = None;
                }
                child.node = node;
            }
            None => drop(directory.0.insert(name.to_owned(), Child { node, below: None })),
        }
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
    /// Entries that cannot be placed: below something that is no directory, in a loop of links, hard links to nothing.
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
        for (number, entry) in index.entries.iter().enumerate() {
            if whiteout(&entry.path).is_none() {
                let node = self.node(entry, ContentRef { layer, entry: number })?;
                let path = self.place(&entry.path)?;
                self.insert(&path, node);
                if self.implied > MAX_IMPLIED_DIRECTORIES {
                    let limit = MAX_IMPLIED_DIRECTORIES as u64;
                    return Err(LayerError::TooMuch { limit, what: "directories that no layer mentions" });
                }
            }
        }
        Ok(())
    }

    fn node(&self, entry: &Entry, content: ContentRef) -> Result<Node, LayerError> {
        let kind = match &entry.kind {
            Kind::Directory => NodeKind::Directory,
            Kind::File { size } => NodeKind::File { size: *size, content },
            Kind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
            Kind::Fifo => NodeKind::Fifo,
            Kind::CharacterDevice { major, minor } => NodeKind::Device { block: false, major: *major, minor: *minor },
            Kind::BlockDevice { major, minor } => NodeKind::Device { block: true, major: *major, minor: *minor },
            Kind::Hardlink { target } => {
                let node = self.get(&self.place(target)?).filter(|node| node.kind != NodeKind::Directory);
                let why = "is a hard link to something that is not there";
                return node.cloned().ok_or_else(|| LayerError::Unsafe { path: entry.path.clone(), why });
            }
        };
        Ok(Node { kind, metadata: entry.metadata.clone() })
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
                node: Node {
                    kind: NodeKind::Directory,
                    metadata: Metadata::root_owned(IMPLICIT_DIRECTORY_MODE, 0),
                },
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
pub(super) struct Place<'a> {
    /// The node, unless it is the root or not there.
    pub(super) node: Option<&'a Node>,
    directory: Option<&'a Directory>,
}

impl<'a> Place<'a> {
    /// The place of this name in it.
    pub(super) fn enter(self, name: &OsStr) -> Self {
        match self.directory.and_then(|directory| directory.0.get(name)) {
            Some(child) => Self { node: Some(&child.node), directory: child.below.as_deref() },
            None => Self { node: None, directory: None },
        }
    }
}

/// Everything below a directory.
struct Below<'a> {
    open: Vec<btree_map::Iter<'a, OsString, Child>>,
    /// The directory of the innermost.
    path: PathBuf,
}

impl<'a> Below<'a> {
    fn of(directory: &'a Directory, path: PathBuf) -> Self {
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
mod tests {
    use super::*;

    fn layer(entries: &[(&str, Kind)]) -> LayerIndex {
        let entry = |(path, kind): &(&str, Kind)| Entry {
            path: path.into(),
            kind: kind.clone(),
            metadata: Metadata::root_owned(0o700, 1),
        };
        LayerIndex { entries: entries.iter().map(entry).collect(), ..LayerIndex::default() }
    }

    fn file(size: u64) -> Kind {
        Kind::File { size }
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    fn tree(layers: &[&[(&str, Kind)]]) -> Tree {
        let mut tree = Tree::default();
        for (number, entries) in layers.iter().enumerate() {
            tree.apply(number, &layer(entries)).unwrap();
        }
        tree
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn whiteouts_hide_only_what_is_below_their_layer() {
        let tree = tree(&[
            &[
                ("d", Kind::Directory),
                ("d/old", file(1)),
                ("d/kept", file(1)),
                ("gone", Kind::Directory),
                ("gone/x", file(1)),
            ],
            &[("d/.wh.old", file(0)), (".wh.gone", file(0)), ("d/new", file(1)), ("d/.wh..wh.plnk", file(0))],
        ]);
        assert_eq!(paths(&tree), ["d", "d/kept", "d/new"]);
    }

    #[test]
    fn what_is_below_a_directory_is_neither_it_nor_its_neighbours() {
        let tree = tree(&[&[
            ("a", Kind::Directory),
            ("a-b", file(1)),
            ("a/b", file(1)),
            ("a/b.c", Kind::Directory),
            ("a/b.c/d", file(1)),
            ("a0", file(1)),
        ]]);
        let below =
            |path: &str| tree.below(Path::new(path)).map(|(path, _)| path.display().to_string()).collect::<Vec<_>>();
        for written in ["a", "a/"] {
            assert_eq!(below(written), ["a/b", "a/b.c", "a/b.c/d"]);
            assert!(tree.is_directory(Path::new(written)));
        }
        assert_eq!(below("a/b"), [""; 0]);
        assert_eq!(below("").len(), 6);
        assert_eq!(paths(&tree), ["a", "a/b", "a/b.c", "a/b.c/d", "a-b", "a0"]);
        let names: Vec<_> = tree.children(Path::new("a")).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["b", "b.c"]);
        assert_eq!(tree.children(Path::new("a0")).count(), 0);
    }

    #[test]
    fn an_opaque_directory_starts_empty_wherever_its_mark_stands() {
        let tree = tree(&[
            &[("d", Kind::Directory), ("d/old", file(1)), ("e", file(1))],
            &[("d/new", file(1)), ("d/.wh..wh..opq", file(0))],
        ]);
        assert_eq!(paths(&tree), ["d", "d/new", "e"]);
    }

    #[test]
    fn a_file_replaces_a_directory_and_a_directory_a_link() {
        let tree = tree(&[
            &[("d", Kind::Directory), ("d/x", file(1)), ("l", link("d")), ("dd", file(1))],
            &[("d", file(2)), ("l", Kind::Directory), ("l/y", file(1))],
        ]);
        assert_eq!(paths(&tree), ["d", "dd", "l", "l/y"]);
    }

    #[test]
    fn entries_below_a_linked_directory_go_where_it_points() {
        let tree = tree(&[
            &[("usr", Kind::Directory), ("usr/lib", Kind::Directory), ("lib", link("usr/lib"))],
            &[("lib/a", file(1)), ("lib/.wh.b", file(0))],
        ]);
        assert_eq!(paths(&tree), ["lib", "usr", "usr/lib", "usr/lib/a"]);
    }

    #[test]
    fn missing_parents_are_plain_directories_and_known_ones_keep_their_metadata() {
        let tree = tree(&[&[("root", Kind::Directory)], &[("root/a/b", file(1))]]);
        assert_eq!(tree.get(Path::new("root")).unwrap().metadata.mode, 0o700);
        assert_eq!(tree.get(Path::new("root/a")).unwrap().metadata.mode, 0o755);
    }

    #[test]
    fn hard_links_share_their_content_across_layers() {
        let tree = tree(&[
            &[("a", file(3))],
            &[("b", Kind::Hardlink { target: "a".into() }), ("c", Kind::Hardlink { target: "b".into() })],
        ]);
        let content = ContentRef { layer: 0, entry: 0 };
        for path in ["a", "b", "c"] {
            assert_eq!(tree.get(Path::new(path)).unwrap().kind, NodeKind::File { size: 3, content });
        }
    }

    #[test]
    fn entries_that_cannot_be_placed_are_refused() {
        for (entries, why) in [
            (layer(&[("f", file(1)), ("f/x", file(1))]), "no directory"),
            (layer(&[("a", link("a")), ("a/x", file(1))]), "no directory"),
            (layer(&[("h", Kind::Hardlink { target: "none".into() })]), "hard link"),
        ] {
            let error = Tree::default().apply(0, &entries).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn directories_that_are_only_implied_are_bounded() {
        let deep = |number: usize| (format!("{number}/{}f", "d/".repeat(2000)), file(0));
        let entries: Vec<(String, Kind)> = (0..251).map(deep).collect();
        let entries: Vec<(&str, Kind)> = entries.iter().map(|(path, kind)| (path.as_str(), kind.clone())).collect();
        assert!(Tree::default().apply(0, &layer(&entries[..10])).is_ok());
        let said = Tree::default().apply(0, &layer(&entries)).unwrap_err().to_string();
        assert!(said.ends_with("directories that no layer mentions"), "{said}");
    }

    #[test]
    fn a_copy_is_a_tree_of_its_own() {
        let before = tree(&[&[("d", Kind::Directory), ("d/e", Kind::Directory), ("d/e/f", file(1)), ("g", file(1))]]);
        let mut after = before.clone();
        after
            .apply(1, &layer(&[("d/e/f", file(2)), ("d/e/new", file(1)), (".wh.g", file(0)), ("h/.wh.none", file(0))]))
            .unwrap();
        after.apply(2, &layer(&[("d/.wh..wh..opq", file(0))])).unwrap();
        assert_eq!(paths(&before), ["d", "d/e", "d/e/f", "g"]);
        let content = ContentRef { layer: 0, entry: 2 };
        assert_eq!(before.get(Path::new("d/e/f")).unwrap().kind, NodeKind::File { size: 1, content });
        assert_eq!(paths(&after), ["d"]);
    }

    #[test]
    fn what_does_not_change_stays_shared() {
        let before = tree(&[&[("a/x", file(1)), ("b/x", file(1))]]);
        let mut after = before.clone();
        // Of what is not there nothing is removed.
        after.apply(1, &layer(&[("a/y", file(1)), ("b/.wh.none", file(0)), ("b/none/.wh..wh..opq", file(0))])).unwrap();
        let same = |name: &str| {
            let below = |tree: &Tree| tree.child(Path::new(name)).and_then(|child| child.below.clone()).unwrap();
            Arc::ptr_eq(&below(&before), &below(&after))
        };
        assert!(!same("a") && same("b"));
    }

    #[test]
    fn links_do_not_lead_to_longer_paths_than_there_are() {
        let long = "d/".repeat(1500);
        let target = long.trim_end_matches('/');
        let once = [("far", link(target)), ("far/f", file(1))];
        assert_eq!(tree(&[&once]).iter().count(), 1502);
        let further = format!("{target}/further");
        let twice = [once.as_slice(), &[(&*further, link(target)), ("far/further/f", file(1))]].concat();
        let said = Tree::default().apply(0, &layer(&twice)).unwrap_err().to_string();
        assert!(said.contains("longer path than Linux takes"), "{said}");
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let tree = tree(&[&[("etc", Kind::Directory), ("up", link("../../../etc")), ("up/x", file(1))]]);
        assert_eq!(paths(&tree), ["etc", "etc/x", "up"]);
    }
}
