//! What a decision about a rebase is made from. No layer is among it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use vast_envhash::Inventory;

use crate::build::stack::Lower;
use crate::digest::Digest;
use crate::layer::{ContentDigest, LayerIndex, NodeKind, Tree};

/// One of the three images, for one platform.
#[derive(Clone)]
pub(super) struct Side {
    /// The configuration, as a document.
    pub(super) config: Map<String, Value>,
    pub(super) diff_ids: Vec<Digest>,
    /// The layers' indexes, from the bottom up. Of the old base they are the image's.
    pub(super) indexes: Vec<Arc<LayerIndex>>,
    /// What the layers amount to.
    pub(super) tree: Tree,
    /// What some of them do: of the image those of its base, of the new base those of the old one.
    pub(super) lower: Lower,
}

/// Everything about one platform of one image.
pub(super) struct Facts<'a> {
    pub(super) old: &'a Side,
    pub(super) image: &'a Side,
    pub(super) new: &'a Side,
    /// The bases' environments, where they matter.
    pub(super) environments: Option<(&'a Inventory, &'a Inventory)>,
}

/// A tree, and the digests of its contents.
pub(super) struct View<'a> {
    pub(super) tree: &'a Tree,
    indexes: &'a [Arc<LayerIndex>],
    /// How many layers it has.
    pub(super) layers: usize,
}

impl Side {
    pub(super) fn view(&self) -> View<'_> {
        View { tree: &self.tree, indexes: &self.indexes, layers: self.indexes.len() }
    }
}

impl View<'_> {
    /// Whether both have the same at `path`, time stamps aside. A content whose digest is not known is never the same.
    pub(super) fn same(&self, path: &Path, other: &Self) -> bool {
        let (one, two) = match (self.tree.get(path), other.tree.get(path)) {
            (None, None) => return true,
            (Some(one), Some(two)) => (one, two),
            _ => return false,
        };
        let (a, b) = (&one.metadata, &two.metadata);
        if (a.mode, a.uid, a.gid, &a.xattrs) != (b.mode, b.uid, b.gid, &b.xattrs) {
            return false;
        }
        match (&one.kind, &two.kind) {
            (NodeKind::File { size: a, .. }, NodeKind::File { size: b, .. }) => {
                let content = self.content(&one.kind);
                a == b && content.is_some() && content == other.content(&two.kind)
            }
            (a, b) => a == b,
        }
    }

    fn content(&self, kind: &NodeKind) -> Option<ContentDigest> {
        let NodeKind::File { content, .. } = kind else { return None };
        self.indexes.get(content.layer)?.content(content.entry)
    }
}
