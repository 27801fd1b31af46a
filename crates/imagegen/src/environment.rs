//! The environment of a published image: what its layers amount to for the environment hash.
//!
//! It is recorded with images that this program publishes. Of others the layers' headers are read, and of their files those
//! that the hash may look at; nothing is unpacked or run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vast_envhash::{Inventory, Need, may_read};

use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, Stack, layers_of};
use crate::layer::{IndexCache, Kind, LayerIndex, NodeKind, Tree, Whiteout, whiteout};
use crate::platform::Platform;
use crate::record::{RecordedIndexes, recorded_environment};
use crate::source::ImageSource;

/// Takes the inventory of an image for `platform`: the recorded one, or else from its layers.
///
/// # Errors
/// The image cannot be had or has no such platform; what is wrong with its environment, in the words of [`vast_envhash`].
pub async fn inventory(source: &Arc<dyn ImageSource>, platform: &Platform) -> Result<Inventory, Error> {
    let image = source.image(platform).await?;
    if let Some(recorded) = recorded_environment(&**source, &image).await? {
        return Ok(recorded);
    }
    let work = tempfile::tempdir().map_err(|source| Error::File {
        action: "create a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(source)), &source.reference())?;
    let cache = IndexCache::default();
    RecordedIndexes::of(source, &image).await?.load(&layers, &cache).await?;
    envhash::inventory(&mut Stack::new(layers), &cache, platform, work.path()).await
}

/// The entries of a layer that may change the environment of what is `below` it: files that the hash reads, directories that
/// it looks for, links among the environments, and what is deleted of all that. Rather too many than too few; where it is
/// not known what is below, every directory counts as new and every deletion as one that matters.
pub(crate) fn touching(index: &LayerIndex, below: Option<&Tree>) -> Vec<PathBuf> {
    let is_new = |path: &Path| below.is_none_or(|below| !below.is_directory(path));
    let mut touching = Vec::new();
    for entry in &index.entries {
        let path = &entry.path;
        let touches = match whiteout(path) {
            Some(Whiteout::Path(gone) | Whiteout::Opaque(gone)) => below.is_none_or(|below| deletes(below, &gone)),
            Some(Whiteout::Other) => false,
            None => match entry.kind {
                Kind::Directory => is_new(path) && (may_read(path) != Need::No || is_environment(path)),
                Kind::Symlink { .. } => may_read(path) != Need::No || path.starts_with("venv"),
                _ => may_read(path) != Need::No || replaces_directory(below, path),
            },
        };
        if touches {
            touching.push(path.clone());
        }
    }
    touching
}

/// Whether a path is a place for an environment.
fn is_environment(path: &Path) -> bool {
    path.parent() == Some(Path::new("venv"))
}

fn replaces_directory(below: Option<&Tree>, path: &Path) -> bool {
    below.is_some_and(|below| below.is_directory(path) && deletes(below, path))
}

/// Whether something is lost with `path` that the hash may look at.
fn deletes(below: &Tree, path: &Path) -> bool {
    let counts = |path: &Path, kind: &NodeKind| {
        may_read(path) != Need::No || *kind != NodeKind::Directory && path.starts_with("venv") && is_link(kind)
    };
    is_environment(path)
        || below.get(path).is_some_and(|node| counts(path, &node.kind) || is_link(&node.kind))
        || below.below(path).any(|(path, node)| counts(&path, &node.kind) || is_environment(&path))
}

fn is_link(kind: &NodeKind) -> bool {
    matches!(kind, NodeKind::Symlink { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, Metadata};

    fn layer(entries: &[(&str, Kind)]) -> LayerIndex {
        let entry = |(path, kind): &(&str, Kind)| Entry {
            path: path.into(),
            kind: kind.clone(),
            metadata: Metadata::root_owned(0o755, 0),
        };
        LayerIndex { entries: entries.iter().map(entry).collect(), ..LayerIndex::default() }
    }

    fn touched(below: &[(&str, Kind)], entries: &[(&str, Kind)]) -> Vec<String> {
        let mut tree = Tree::default();
        tree.apply(0, &layer(below)).unwrap();
        touching(&layer(entries), Some(&tree)).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn files_that_the_hash_reads_count_and_scripts_do_not() {
        let file = || Kind::File { size: 1 };
        let below = [("venv/main/lib/x.dist-info/METADATA", file()), ("opt/app/run.sh", file())];
        for (entries, expected) in [
            (vec![("opt/app/run.sh", file()), ("opt", Kind::Directory), ("venv/main", Kind::Directory)], vec![]),
            (vec![("etc/os-release", file())], vec!["etc/os-release"]),
            (vec![("venv/new", Kind::Directory)], vec!["venv/new"]),
            (vec![("venv/link", Kind::Symlink { target: "/opt".into() })], vec!["venv/link"]),
            (vec![("venv/main/.wh.lib", file()), ("opt/.wh.app", file())], vec!["venv/main/.wh.lib"]),
            (vec![("venv/.wh..wh..opq", file())], vec!["venv/.wh..wh..opq"]),
            (vec![("venv/main/lib", file())], vec!["venv/main/lib"]),
        ] {
            assert_eq!(touched(&below, &entries), expected, "{entries:?}");
        }
    }
}
