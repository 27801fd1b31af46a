//! Lists of Debian packages as records.
//!
//! A list belongs to the layer that holds dpkg's database, which every layer that changes it replaces as a whole. So it
//! stays right in whatever image that layer is, and moves with it when a base is replaced.

use std::path::Path;

use vast_envhash::Package;

use super::{PACKAGES, Place, Stored, unless_gone};
use crate::Error;
use crate::digest::Digest;
use crate::layer::{NodeKind, Resolved, Tree};
use crate::manifest::{describe, malformed, read_small};

/// The largest list that is read, in bytes: a hundred thousand packages.
pub(super) const MAX_LIST_BYTES: u64 = 16 << 20;

/// dpkg's database.
const STATUS: &str = "var/lib/dpkg/status";

/// Where an interrupted dpkg leaves what it has not put into its database.
const UPDATES: &str = "var/lib/dpkg/updates";

/// The Debian packages that are installed according to the database in one layer.
#[derive(Clone)]
pub(crate) struct LayerPackages {
    /// The diff id of the layer.
    pub(crate) diff_id: Digest,
    /// The packages, sorted by name.
    pub(crate) packages: Vec<Package>,
}

/// The number of the layer whose database says which Debian packages there are; `None` where there is none, or where it says
/// only a part of it.
pub(crate) fn database_layer(tree: &Tree) -> Option<usize> {
    let file = |path: &str| match tree.resolve(Path::new(path), true) {
        Resolved::Path(path) => Some(path),
        _ => None,
    };
    let is_whole = file(UPDATES).is_none_or(|updates| tree.below(&updates).all(|(_, node)| !is_file(&node.kind)));
    match tree.get(&file(STATUS)?)?.kind {
        NodeKind::File { content, .. } if is_whole => Some(content.layer),
        _ => None,
    }
}

fn is_file(kind: &NodeKind) -> bool {
    matches!(kind, NodeKind::File { .. } | NodeKind::Symlink { .. })
}

/// A list as it is stored, but for what it is about.
pub(super) fn store(packages: &[Package]) -> Result<Stored, Error> {
    let bytes = serde_json::to_vec(packages)
        .map_err(|error| malformed("list of packages", "this build", &error.to_string()))?;
    Ok(Stored { descriptor: describe(PACKAGES, &bytes), place: Place::Memory(bytes.into()) })
}

/// Reads a list; `None` where it is of no use.
pub(super) async fn read(stored: &Stored) -> Result<Option<Vec<Package>>, Error> {
    let Stored { descriptor, place } = stored;
    let parsed = match place {
        Place::Memory(bytes) => serde_json::from_slice(bytes),
        Place::Source(source) => {
            let read = read_small(&**source, descriptor, MAX_LIST_BYTES, "list of packages").await;
            let Some(bytes) = unless_gone(read, &**source, descriptor).await? else { return Ok(None) };
            serde_json::from_slice(&bytes)
        }
    };
    if let Err(error) = &parsed {
        tracing::debug!(digest = %descriptor.digest(), %error, "a list of packages cannot be used");
    }
    Ok(parsed.ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, Kind, LayerIndex, Metadata};

    fn database_of(layers: &[&[(&str, Kind)]]) -> Option<usize> {
        let mut tree = Tree::default();
        for (number, entries) in layers.iter().enumerate() {
            let entry = |(path, kind): &(&str, Kind)| Entry {
                path: path.into(),
                kind: kind.clone(),
                metadata: Metadata::root_owned(0o755, 0),
            };
            let entries: Vec<Entry> = entries.iter().map(entry).collect();
            tree.apply(number, &LayerIndex { contents: vec![None; entries.len()], entries }).unwrap();
        }
        database_layer(&tree)
    }

    #[test]
    fn the_topmost_whole_database_counts() {
        let file = || Kind::File { size: 1 };
        let link = |target: &str| Kind::Symlink { target: target.into() };
        let status = || ("var/lib/dpkg/status", file());
        for (layers, expected) in [
            (&[&[("etc/hosts", file())][..]][..], None),
            (&[&[status()], &[("var/lib/dpkg/info/a.list", file())]], Some(0)),
            (&[&[status()], &[status()], &[("opt/a", file())]], Some(1)),
            (&[&[status()], &[("var/lib/dpkg/.wh.status", file())]], None),
            // dpkg's directories may be elsewhere.
            (&[&[("data/dpkg/status", file())], &[("var/lib/dpkg", link("/data/dpkg"))]], Some(0)),
            (&[&[status()], &[("var/lib/dpkg/updates", Kind::Directory)]], Some(0)),
            (&[&[status()], &[("var/lib/dpkg/updates/0001", file())]], None),
            (&[&[("data/0001", file())], &[status(), ("var/lib/dpkg/updates", link("/data"))]], None),
        ] {
            assert_eq!(database_of(layers), expected, "{layers:?}");
        }
    }
}
