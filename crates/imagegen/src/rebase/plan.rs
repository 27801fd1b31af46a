//! The decision: whether an image can take another base, and what it becomes. Pure; [`Facts`] are gathered elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::config::{self, FieldConflict};
use super::facts::Facts;
use super::paths::{self, Change};
use crate::environment::touching;
use crate::layer::{Entry, LayerIndex, Whiteout, whiteout};
use crate::platform::Platform;

/// Where the environment hash is recorded.
const ENV_HASH: &str = ".env_hash";

/// What can stand in the way of a rebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The old base's layers are not the image's first.
    Layers,
    /// The new base has no image for the platform.
    Platform,
    /// A path that the image's own layers write or delete changed between the bases.
    Path,
    /// The bases' environments differ in what the image's layers were built against.
    Environment,
    /// Image and new base both changed a field of the configuration.
    Configuration,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Conflict {
    /// The old base's layers are not the image's first.
    Layers {
        /// How many of them are.
        common: usize,
        /// How many the old base has.
        base: usize,
    },
    /// The new base has no image for the platform.
    Platform {
        /// What it has instead.
        existing: Vec<Platform>,
    },
    /// A path that the image's own layers write or delete changed between the bases.
    Path {
        /// From the root.
        path: PathBuf,
        /// What the new base did with it.
        change: Change,
    },
    /// The bases' environments differ in what the image's layers were built against.
    Environment {
        /// The difference: `main: torch 2.9.1 -> 2.10.0`.
        change: String,
    },
    /// Image and new base both changed a field of the configuration.
    Configuration(Box<FieldConflict>),
}

/// What follows for the environment of the rebased image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Environment {
    /// It stays what it is.
    Kept,
    /// It is the new base's. `record`: the image's own layers wrote the hash, which has to be written anew.
    NewBase { record: bool },
    /// It has to be taken from the layers.
    Unknown,
}

/// What becomes of one platform of an image.
pub(super) struct Plan {
    pub(super) conflicts: Vec<Conflict>,
    pub(super) config: Map<String, Value>,
    pub(super) environment: Environment,
}

impl Conflict {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Layers { .. } => Kind::Layers,
            Self::Platform { .. } => Kind::Platform,
            Self::Path { .. } => Kind::Path,
            Self::Environment { .. } => Kind::Environment,
            Self::Configuration(_) => Kind::Configuration,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layers => "layers",
            Self::Platform => "platform",
            Self::Path => "path",
            Self::Environment => "environment",
            Self::Configuration => "configuration",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    /// The kinds that may be allowed; without the right layers or platform there is nothing to allow.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "path" => Ok(Self::Path),
            "environment" => Ok(Self::Environment),
            "configuration" => Ok(Self::Configuration),
            "layers" | "platform" => Err(format!("a conflict of the kind `{text}` cannot be allowed")),
            other => Err(format!("`{other}` is no kind of conflict: use path, environment or configuration")),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers { common, base } => {
                write!(f, "layers: {common} of the old base's {base} layers are the image's first")
            }
            Self::Platform { existing } => {
                let existing: Vec<String> = existing.iter().map(Platform::to_string).collect();
                write!(f, "platform: the new base has only {}", existing.join(", "))
            }
            Self::Path { path, change } => {
                let did = match change {
                    Change::Added => "is added by the new base, and the image has its own",
                    Change::Changed => "is changed by the new base, and the image has its own",
                    Change::Removed => "is removed by the new base, and the image needs or has its own",
                    Change::Moved => "leads elsewhere in the new base",
                };
                write!(f, "path: /{} {did}", path.display())
            }
            Self::Environment { change } => write!(f, "environment: {change}"),
            Self::Configuration(conflict) => {
                let FieldConflict { field, old, new, image } = &**conflict;
                write!(
                    f,
                    "configuration: {field} is {old} in the old base, {new} in the new one and {image} in the image"
                )
            }
        }
    }
}

/// How many of the old base's layers are the image's first, if not all.
pub(super) fn not_a_base(facts: &Facts<'_>) -> Option<Conflict> {
    let (base, image) = (&facts.old.diff_ids, &facts.image.diff_ids);
    let common = base.iter().zip(image).take_while(|(a, b)| a == b).count();
    (common < base.len()).then_some(Conflict::Layers { common, base: base.len() })
}

/// Whether the bases' environments have to be known: something of the image was built against them, or records their hash.
pub(super) fn needs_environments(facts: &Facts<'_>, dependents: &Dependents) -> bool {
    dependents.everything || !dependents.venvs.is_empty() || facts.image.tree.get(Path::new(ENV_HASH)).is_some()
}

/// Decides.
pub(super) fn plan(facts: &Facts<'_>, dependents: &Dependents) -> Plan {
    let base = facts.old.diff_ids.len();
    if let Some(conflict) = not_a_base(facts) {
        return Plan { conflicts: vec![conflict], config: Map::new(), environment: Environment::Kept };
    }
    let own_indexes = &facts.image.indexes[base.min(facts.image.indexes.len())..];
    let own = paths::compare(&facts.old.view(), &facts.image.view(), &facts.new.view(), own_indexes);
    let mut conflicts: Vec<Conflict> = own.into_iter().map(|(path, change)| Conflict::Path { path, change }).collect();
    let mut environment = Environment::Kept;
    if let Some((old, new)) = facts.environments {
        let changes = vast_envhash::diff(old, new);
        for change in &changes {
            if dependents.everything || dependents.venvs.contains(&change.place) {
                conflicts.push(Conflict::Environment { change: change.to_string() });
            }
        }
        if old.hash != new.hash {
            let touches = own_indexes.iter().any(|index| !touching(index, Some(&facts.old.tree)).is_empty());
            let record = own_indexes.iter().any(|index| writes(index, ENV_HASH));
            environment = if touches { Environment::Unknown } else { Environment::NewBase { record } };
        }
    }
    let (config, fields) = config::merge(&facts.old.config, &facts.image.config, &facts.new.config, base);
    conflicts.extend(fields.into_iter().map(Box::new).map(Conflict::Configuration));
    Plan { conflicts, config, environment }
}

fn writes(index: &LayerIndex, path: &str) -> bool {
    index.entries.iter().any(|entry| entry.path == Path::new(path))
}

/// What of the bases' environments the image's own layers were built against.
///
/// A layer that a process made may have been built against all of it: it compiled, linked, resolved versions. One that was
/// copied was built against the environments into which it puts something.
#[derive(Default)]
pub(super) struct Dependents {
    everything: bool,
    venvs: BTreeSet<String>,
}

impl Dependents {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let base = facts.old.diff_ids.len();
        let own_history = config::own_history(&facts.old.config, &facts.image.config, base);
        let mut lines = own_history.iter().filter(|line| line["empty_layer"] != true);
        let mut dependents = Self::default();
        for index in facts.image.indexes.iter().skip(base) {
            let copied = lines
                .next()
                .and_then(config::instruction)
                .is_some_and(|(word, _)| matches!(word, "COPY" | "ADD" | "WORKDIR"));
            let is_only_the_hash = index.entries.iter().all(|entry| entry.path == Path::new(ENV_HASH));
            if !copied && !is_only_the_hash && !index.entries.is_empty() {
                dependents.everything = true;
            }
            dependents.venvs.extend(index.entries.iter().filter_map(venv_of));
        }
        dependents
    }
}

/// The environment that something is put into: `main` for what lies below `venv/main`.
fn venv_of(entry: &Entry) -> Option<String> {
    let deleted = match whiteout(&entry.path) {
        Some(Whiteout::Path(path) | Whiteout::Opaque(path)) => Some(path),
        Some(Whiteout::Other) => return None,
        None => None,
    };
    let path = deleted.as_deref().unwrap_or(&entry.path);
    let mut parts = path.iter();
    (parts.next()? == "venv").then_some(())?;
    let name = parts.next()?;
    // Directories that only lead somewhere put nothing there.
    let is_content = deleted.is_some() || entry.kind != crate::layer::Kind::Directory;
    is_content.then(|| name.to_string_lossy().into_owned())
}

/// The indexes of an image's layers as the plan takes them.
pub(super) type Indexes = Vec<Arc<LayerIndex>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Kind, Metadata};

    #[test]
    fn what_is_put_into_an_environment_or_deleted_of_it_counts_and_a_way_there_does_not() {
        let file = || Kind::File { size: 1 };
        for (path, kind, expected) in [
            ("venv/main/lib/x", file(), Some("main")),
            ("venv/main", file(), Some("main")),
            ("venv/main/bin/python", Kind::Symlink { target: "/usr/bin/python3".into() }, Some("main")),
            ("venv/main/lib", Kind::Directory, None),
            ("venv/main/lib/.wh.x", file(), Some("main")),
            ("venv/.wh.main", file(), Some("main")),
            ("venv/main/.wh..wh..opq", file(), Some("main")),
            ("venv/.wh..wh..opq", file(), None),
            ("venv", Kind::Directory, None),
            ("opt/venv/main/x", file(), None),
        ] {
            let entry = Entry { path: path.into(), kind, metadata: Metadata::root_owned(0o755, 0) };
            assert_eq!(venv_of(&entry).as_deref(), expected, "{path}");
        }
    }
}
