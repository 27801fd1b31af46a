//! What differs between the file systems of two images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Kind;
use crate::build::glob::Glob;
use crate::digest::Digest;
use crate::layer::path_text;
use crate::layer::{ContentDigest, LayerIndex, Metadata, Node, NodeKind, Tree};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// From the root, without a slash before it; empty for the root itself.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Whether it came, went or is another.
    pub kind: Kind,
    /// In which ways it is another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aspects: Vec<Aspect>,
    /// What it was.
    pub before: Option<FileState>,
    /// What it is.
    pub after: Option<FileState>,
}

/// In which way a path is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// It is a file and was a directory, or the like.
    Type,
    /// The content of a file.
    Content,
    /// Where a symbolic link points.
    Target,
    /// The numbers of a device.
    Device,
    /// The permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes.
    Attributes,
    /// The time of last change.
    Time,
}

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// `file`, `directory`, `symlink`, `pipe` or `device`.
    #[serde(rename = "type")]
    pub file_type: &'static str,
    /// The permission bits.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// The size of a file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The BLAKE3 digest of a file's content, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<ContentDigest>,
    /// Where a link points.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "target")]
    pub target: Option<PathBuf>,
    /// A device: `b` or `c`, major and minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Extended attributes, their values in hexadecimal digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The time of last change, in seconds since 1970.
    pub modified: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

#[allow(clippy::ref_option, reason = "as serde calls it")]
fn target<S: Serializer>(target: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path_text::serialize(target.as_deref().unwrap_or(Path::new("")), serializer)
}

impl FileChange {
    /// The bytes that a renter's disk holds for it before and after.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let bytes = |state: &Option<FileState>| state.as_ref().and_then(|state| state.size_bytes).unwrap_or_default();
        (bytes(&self.before), bytes(&self.after))
    }

    /// Whether it is a directory on the side where it is, or on both.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        [&self.before, &self.after].into_iter().flatten().all(|state| state.file_type == "directory")
    }
}

/// A pattern of paths: `*`, `?`, `[a-z]` within a name, `**` across names. With a slash it is matched from the root, without
/// one against names wherever they are; what is below a directory that it matches belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    glob: Glob,
    anywhere: bool,
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rooted, pattern) = match text.strip_prefix('/') {
            Some(rest) => (true, rest.trim_end_matches('/')),
            None => (false, text.trim_end_matches('/')),
        };
        // Paths are matched as they are, from the root: such a pattern would silently match nothing.
        let named = |name: &str| !matches!(name, "" | "." | "..");
        let is_root = rooted && pattern.is_empty();
        if !is_root && !pattern.split('/').all(named) {
            return Err(format!("`{text}` matches no path: give it from the root, without empty, `.` or `..` parts"));
        }
        let glob = Glob::with_double_star(pattern).map_err(|_| format!("`{text}` is not a pattern of paths"))?;
        Ok(Self { glob, anywhere: !rooted && !pattern.contains('/') })
    }
}

impl PathPattern {
    /// Whether `path`, relative to the root, is one of the pattern's.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        path.ancestors().any(|path| {
            let name = if self.anywhere { path.file_name() } else { Some(path.as_os_str()) };
            name.is_some_and(|name| self.glob.matches(&name.to_string_lossy()))
        })
    }
}

/// What the layers of an image amount to.
#[derive(Default)]
pub(super) struct Files {
    pub(super) tree: Tree,
    /// The layers from the bottom up: diff id and index.
    layers: Vec<(Digest, Arc<LayerIndex>)>,
}

impl Files {
    /// Puts a layer on top.
    pub(super) fn push(&mut self, diff_id: Digest, index: Arc<LayerIndex>) -> Result<(), crate::layer::LayerError> {
        self.tree.apply(self.layers.len(), &index)?;
        self.layers.push((diff_id, index));
        Ok(())
    }

    /// The digest of a file's content, where it is known.
    pub(super) fn digest(&self, node: &Node) -> Option<ContentDigest> {
        let NodeKind::File { content, .. } = &node.kind else { return None };
        self.layers.get(content.layer)?.1.content(content.entry)
    }

    /// Which entry of which layer a file's content is.
    fn place(&self, node: &Node) -> Option<(Digest, usize)> {
        let NodeKind::File { content, .. } = &node.kind else { return None };
        Some((self.layers.get(content.layer)?.0, content.entry))
    }

    fn state(&self, node: &Node) -> FileState {
        let Metadata { mode, uid, gid, mtime, xattrs } = &node.metadata;
        let mut state = FileState {
            file_type: type_of(&node.kind),
            mode: *mode,
            uid: *uid,
            gid: *gid,
            size_bytes: None,
            digest: self.digest(node),
            target: None,
            device: None,
            attributes: xattrs.iter().map(|(name, value)| (name.clone(), hex::encode(value))).collect(),
            modified: *mtime,
        };
        match &node.kind {
            NodeKind::File { size, .. } => state.size_bytes = Some(*size),
            NodeKind::Symlink { target } => state.target = Some(target.clone()),
            NodeKind::Device { block, major, minor } => {
                state.device = Some(format!("{} {major}:{minor}", if *block { 'b' } else { 'c' }));
            }
            NodeKind::Directory | NodeKind::Fifo => {}
        }
        state
    }
}

fn type_of(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "directory",
        NodeKind::File { .. } => "file",
        NodeKind::Symlink { .. } => "symlink",
        NodeKind::Fifo => "pipe",
        NodeKind::Device { .. } => "device",
    }
}

/// All paths that differ, in the order of their names, each directory just before all that is in it. Time stamps count only
/// with `times`.
pub(super) fn compare(before: &Files, after: &Files, times: bool) -> Vec<FileChange> {
    // Where no layer mentions the root, it is as unpackers make it.
    let implied = Node { kind: NodeKind::Directory, metadata: Metadata::root_owned(0o755, 0) };
    let root = Path::new("");
    let in_root = |files: &Files| files.tree.get(root).cloned().unwrap_or_else(|| implied.clone());
    let (was, is) = (in_root(before), in_root(after));
    let mut changes = Vec::new();
    changes.extend(change(root, (before, Some(&was)), (after, Some(&is)), times));
    for (path, was) in before.tree.below(root) {
        changes.extend(change(&path, (before, Some(was)), (after, after.tree.get(&path)), times));
    }
    for (path, is) in after.tree.below(root).filter(|(path, _)| before.tree.get(path).is_none()) {
        changes.extend(change(&path, (before, None), (after, Some(is)), times));
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    changes
}

/// What became of a path, if anything.
fn change(
    path: &Path,
    (before, was): (&Files, Option<&Node>),
    (after, is): (&Files, Option<&Node>),
    times: bool,
) -> Option<FileChange> {
    let (kind, aspects) = match (was, is) {
        (None, None) => return None,
        (None, _) => (Kind::Added, Vec::new()),
        (_, None) => (Kind::Removed, Vec::new()),
        (Some(was), Some(is)) => (Kind::Changed, aspects((before, was), (after, is), times)),
    };
    if kind == Kind::Changed && aspects.is_empty() {
        return None;
    }
    let (before, after) = (was.map(|node| before.state(node)), is.map(|node| after.state(node)));
    Some(FileChange { path: path.to_owned(), kind, aspects, before, after })
}

fn aspects((before, was): (&Files, &Node), (after, is): (&Files, &Node), times: bool) -> Vec<Aspect> {
    let mut found = Vec::new();
    match (&was.kind, &is.kind) {
        (NodeKind::File { size: a, .. }, NodeKind::File { size: b, .. }) => {
            let (one, other) = (before.digest(was), after.digest(is));
            let same =
                if one.is_some() && other.is_some() { one == other } else { before.place(was) == after.place(is) };
            if a != b || !same {
                found.push(Aspect::Content);
            }
        }
        (NodeKind::Symlink { target: a }, NodeKind::Symlink { target: b }) if a != b => found.push(Aspect::Target),
        (NodeKind::Device { .. }, NodeKind::Device { .. }) if was.kind != is.kind => found.push(Aspect::Device),
        (a, b) if type_of(a) != type_of(b) => found.push(Aspect::Type),
        _ => {}
    }
    let (a, b) = (&was.metadata, &is.metadata);
    // Linux gives links no permissions of their own, and tools record what they please.
    let has_mode = |node: &Node| !matches!(node.kind, NodeKind::Symlink { .. });
    if a.mode != b.mode && has_mode(was) && has_mode(is) {
        found.push(Aspect::Mode);
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        found.push(Aspect::Owner);
    }
    if a.xattrs != b.xattrs {
        found.push(Aspect::Attributes);
    }
    if times && a.mtime != b.mtime {
        found.push(Aspect::Time);
    }
    found
}
