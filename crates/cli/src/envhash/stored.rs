//! Hashes and inventories that were stored earlier.

use std::io;
use std::path::{Path, PathBuf};

use vast_envhash::{EnvHash, Inventory, Options};

use super::image;

/// A stored hash, with its inventory if there is one.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) hash: EnvHash,
    pub(super) inventory: Option<Inventory>,
}

/// Why a stored hash is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoredError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` holds neither an environment hash nor an inventory", path.display())]
    Neither { path: PathBuf },
    #[error("`{}` holds a hash, and no inventory is stored beside it", path.display())]
    HashAlone { path: PathBuf },
    #[error("the inventory `{}` gives {recomputed} and claims {}", path.display(), claimed)]
    Edited { path: PathBuf, claimed: EnvHash, recomputed: EnvHash },
}

impl StoredError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`env-hash > /.env_hash` records the hash, `vast-envhash --json > FILE` the inventory".into())
            }
            Self::Edited { .. } => Some("it was edited or cut: take it anew with `vast-envhash --json`".into()),
            Self::HashAlone { .. } => Some("a hash alone does not tell what it was made from".into()),
            Self::Read { .. } | Self::Neither { .. } => None,
        }
    }
}

impl Stored {
    /// Reads a file that holds a hash (as `env-hash > /.env_hash` leaves it) or an inventory (`--json`).
    pub(super) fn read(path: &Path) -> Result<Self, StoredError> {
        let text = read(path)?;
        if let Ok(hash) = text.trim().parse() {
            return Ok(Self { hash, inventory: beside(path, hash) });
        }
        let inventory = parse(path, &text)?;
        Ok(Self { hash: inventory.hash, inventory: Some(inventory) })
    }
}

/// The inventory beside a stored hash (`/.env_hash.json`), if it is that of the hash.
fn beside(path: &Path, hash: EnvHash) -> Option<Inventory> {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    let path = PathBuf::from(name);
    parse(&path, &read(&path).ok()?).ok().filter(|inventory| inventory.hash == hash)
}

/// The inventory of a root (a directory), a stored one (a file), or that of an image, read by the program beside `me`.
///
/// What is there as a file or directory is that, whatever else its name could mean.
pub(super) fn inventory(place: &str, me: Option<&Path>) -> Result<Inventory, Box<dyn std::error::Error>> {
    let path = Path::new(place);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(vast_envhash::hash(path, &Options::default())?),
        // Without a colon it has neither a transport nor a tag.
        Err(error) if error.kind() == io::ErrorKind::NotFound && place.contains(':') => {
            Ok(image::inventory(place, me)?)
        }
        _ => {
            let stored = Stored::read(path)?;
            Ok(stored.inventory.ok_or_else(|| StoredError::HashAlone { path: path.to_path_buf() })?)
        }
    }
}

fn read(path: &Path) -> Result<String, StoredError> {
    std::fs::read_to_string(path).map_err(|source| StoredError::Read { path: path.to_path_buf(), source })
}

fn parse(path: &Path, text: &str) -> Result<Inventory, StoredError> {
    let inventory: Inventory =
        serde_json::from_str(text).map_err(|_| StoredError::Neither { path: path.to_path_buf() })?;
    let recomputed = inventory.recompute();
    if recomputed != inventory.hash {
        return Err(StoredError::Edited { path: path.to_path_buf(), claimed: inventory.hash, recomputed });
    }
    Ok(inventory)
}
