//! Hashes and inventories that were stored earlier.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use vast_envhash::root::Root;
use vast_envhash::{EnvHash, Inventory, Options, SCHEME};

use super::image;

/// More than any inventory: those of the largest images have a few hundred kilobytes.
const INVENTORY_LIMIT: u64 = 64 << 20;

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
    #[error("the inventory `{}` is of another kind", path.display())]
    Scheme { path: PathBuf, source: vast_envhash::Error },
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
            Self::Scheme { source, .. } => source.hint(),
            Self::Read { .. } | Self::Neither { .. } => None,
        }
    }
}

impl Stored {
    /// Reads a file that holds a hash (as `env-hash > /.env_hash` leaves it) or an inventory (`--json`).
    pub(super) fn read(path: &Path) -> Result<Self, StoredError> {
        Self::parse(path, &read, path)
    }

    /// Reads such a file of a root, where links lead to places inside it.
    pub(super) fn read_inside(root: &Root, path: &Path) -> Result<Self, StoredError> {
        let shown = root.dir().join(path.strip_prefix("/").unwrap_or(path));
        let read = |path: &Path| -> Result<String, StoredError> {
            let failed = |source| StoredError::Read { path: shown.clone(), source };
            String::from_utf8(root.read(path).map_err(failed)?)
                .map_err(|_| StoredError::Neither { path: shown.clone() })
        };
        Self::parse(path, &read, &shown)
    }

    fn parse(
        path: &Path,
        read: &dyn Fn(&Path) -> Result<String, StoredError>,
        shown: &Path,
    ) -> Result<Self, StoredError> {
        let text = read(path)?;
        if let Ok(hash) = text.trim().parse() {
            // The inventory beside a stored hash (`/.env_hash.json`), if it is that of the hash.
            let mut beside = path.as_os_str().to_owned();
            beside.push(".json");
            let inventory = read(Path::new(&beside)).ok().and_then(|text| parse(Path::new(&beside), &text).ok());
            return Ok(Self { hash, inventory: inventory.filter(|inventory| inventory.hash == hash) });
        }
        let inventory = parse(shown, &text)?;
        Ok(Self { hash: inventory.hash, inventory: Some(inventory) })
    }
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

/// Reads a file that the user named: it may be a pipe, and is never larger than any inventory.
fn read(path: &Path) -> Result<String, StoredError> {
    let failed = |source| StoredError::Read { path: path.to_path_buf(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    match file.take(INVENTORY_LIMIT).read_to_string(&mut text) {
        Ok(read) if read as u64 == INVENTORY_LIMIT => Err(failed(io::ErrorKind::FileTooLarge.into())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(StoredError::Neither { path: path.to_path_buf() })
        }
        read => read.map(|_| text).map_err(failed),
    }
}

fn parse(path: &Path, text: &str) -> Result<Inventory, StoredError> {
    let inventory: Inventory =
        serde_json::from_str(text).map_err(|_| StoredError::Neither { path: path.to_path_buf() })?;
    if inventory.scheme != SCHEME {
        return Err(StoredError::Scheme {
            path: path.to_path_buf(),
            source: vast_envhash::Error::Scheme(inventory.scheme),
        });
    }
    let recomputed = inventory.recompute();
    if recomputed != inventory.hash {
        return Err(StoredError::Edited { path: path.to_path_buf(), claimed: inventory.hash, recomputed });
    }
    Ok(inventory)
}
