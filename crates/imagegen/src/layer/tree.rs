//! What a stack of layers amounts to: one tree of nodes, each with the place of its content.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// By path, in the order of its bytes: comparing paths part by part takes several times as long, and is what building
    /// a tree of a hundred thousand files consists of.
    nodes: BTreeMap<OsString, Node>,
}

/// Directories that one layer implies without mentioning them may have names of this many bytes together: one path of 4 KiB
/// implies 2000 of them, with names of 4 MiB.
const MAX_IMPLIED_BYTES: usize = 256 << 20;

/// What directories get that no layer mentions.
const IMPLICIT_DIRECTORY_MODE: u32 = 0o755;

impl Tree {
    /// The node at exactly `path`, relative to the root; no links are followed. The root itself is there only if a layer
    /// says something about it.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(key(path))
    }

    /// Whether `path` is a directory. The root always is.
    #[must_use]
    pub fn is_directory(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.get(path).is_some_and(|node| node.kind == NodeKind::Directory)
    }

    /// Everything, in the order of the bytes of its path: parents before children.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (Path::new(path), node))
    }

    /// Everything below `path`, not itself, in the order of the bytes of its path: parents before children.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = (&Path, &Node)> + use<'_> {
        let mut prefix = key(path).to_owned();
        let mut first = Bound::Excluded(OsString::new());
        if !prefix.is_empty() {
            prefix.push("/");
            first = Bound::Included(prefix.clone());
        }
        self.nodes
            .range((first, Bound::Unbounded))
            .take_while(move |(below, _)| below.as_bytes().starts_with(prefix.as_bytes()))
            .map(|(below, node)| (Path::new(below), node))
    }

    /// Puts a node at exactly `path`, whose parent is a directory. A directory over a directory keeps what is below it;
    /// anything else replaces all that was there.
    pub fn insert(&mut self, path: &Path, node: Node) {
        // Only a directory has something below it.
        if node.kind != NodeKind::Directory && self.is_directory(path) {
            self.remove_below(path);
        }
        self.nodes.insert(key(path).to_owned(), node);
    }

    /// Removes the node at `path` and all below it.
    pub fn remove(&mut self, path: &Path) {
        self.remove_below(path);
        self.nodes.remove(key(path));
    }

    fn remove_below(&mut self, path: &Path) {
        let doomed: Vec<PathBuf> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in doomed {
            self.nodes.remove(path.as_os_str());
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
        let mut implied_bytes = 0;
        for (number, entry) in index.entries.iter().enumerate() {
            if whiteout(&entry.path).is_none() {
                let node = self.node(entry, ContentRef { layer, entry: number })?;
                let path = self.place(&entry.path)?;
                implied_bytes += self.make_parents(&path);
                if implied_bytes > MAX_IMPLIED_BYTES {
                    let limit = MAX_IMPLIED_BYTES as u64;
                    return Err(LayerError::TooMuch { limit, what: "bytes in the names of directories it implies" });
                }
                self.insert(&path, node);
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
            Resolved::Path(real) => Ok(real),
            _ => Err(misplaced(path)),
        }
    }

    /// Makes the directories above `path` that are missing; the bytes of their names.
    fn make_parents(&mut self, path: &Path) -> usize {
        let mut bytes = 0;
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            if self.get(parent).is_some() {
                break;
            }
            let metadata = Metadata::root_owned(IMPLICIT_DIRECTORY_MODE, 0);
            self.nodes.insert(parent.into(), Node { kind: NodeKind::Directory, metadata });
            bytes += parent.as_os_str().len();
        }
        bytes
    }
}

/// A path as the nodes are kept by: without the slash that joining with nothing leaves at the end.
fn key(path: &Path) -> &OsStr {
    let path = path.as_os_str();
    if path.as_bytes().last() == Some(&b'/') { Path::new(path).components().as_path().as_os_str() } else { path }
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

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.iter().map(|(path, _)| path.to_str().unwrap()).collect()
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
            |path: &str| tree.below(Path::new(path)).map(|(path, _)| path.to_str().unwrap()).collect::<Vec<_>>();
        for written in ["a", "a/"] {
            assert_eq!(below(written), ["a/b", "a/b.c", "a/b.c/d"]);
            assert!(tree.is_directory(Path::new(written)));
        }
        assert_eq!(below("a/b"), [""; 0]);
        assert_eq!(below("").len(), 6);
        assert_eq!(paths(&tree), ["a", "a-b", "a/b", "a/b.c", "a/b.c/d", "a0"]);
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
        let entries: Vec<(String, Kind)> = (0..100).map(deep).collect();
        let entries: Vec<(&str, Kind)> = entries.iter().map(|(path, kind)| (path.as_str(), kind.clone())).collect();
        assert!(Tree::default().apply(0, &layer(&entries[..10])).is_ok());
        let said = Tree::default().apply(0, &layer(&entries)).unwrap_err().to_string();
        assert!(said.ends_with("bytes in the names of directories it implies"), "{said}");
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let tree = tree(&[&[("etc", Kind::Directory), ("up", link("../../../etc")), ("up/x", file(1))]]);
        assert_eq!(paths(&tree), ["etc", "etc/x", "up"]);
    }
}
