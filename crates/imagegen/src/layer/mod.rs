//! Layers: writing them reproducibly, reading them safely, and knowing what a stack of them amounts to.
//!
//! * [`LayerWriter`] takes [`Entry`]s and makes a blob in one pass: content is read once, compressed on several cores, and
//!   hashed for the diff id and for the digest at the same time. Memory does not depend on the layer's size, and the bytes
//!   do not depend on the machine, the number of threads or the clock.
//! * [`TarReader`] reads foreign layers: names that leave the root, absurd headers and unknown kinds are errors.
//! * [`LayerIndex`] is what one layer's headers say; [`Tree`] is what the layers of an image amount to, each file with
//!   the layer and entry that hold its content, so that chosen files can be [spooled](spool::Spool) later.

mod behind;
mod blob;
mod codec;
mod compress;
mod content;
mod flusher;
mod gzip;
mod header;
mod index;
mod read;
mod resolve;
pub mod spool;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use blob::{LayerFile, LayerWriter, Writing};
pub use codec::{IndexWriter, PATH_INDEX};
pub use compress::Compression;
pub use content::ContentDigest;
pub use index::{IndexCache, LayerIndex};
pub use read::{LayerError, MAX_LAYER_BYTES, TarReader, decompressed, decompressed_within};
pub use resolve::Resolved;
pub use tree::{ContentRef, Node, NodeKind, Tree};
pub(crate) use tree::{Whiteout, whiteout};
pub use write::{Output, TarWriter};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        #[serde(with = "path_text")]
        target: PathBuf,
    },
    /// Another name of a file in this layer or a lower one.
    Hardlink {
        /// That file, relative to the root.
        #[serde(with = "path_text")]
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// What belongs to every entry, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of last change, in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, such as `security.capability`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Metadata {
    /// Owned by root, no extended attributes.
    #[must_use]
    pub fn root_owned(mode: u32, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the root, without `.` and `..`; empty for the root itself.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    #[serde(flatten)]
    pub metadata: Metadata,
}

impl Entry {
    /// The bytes of its names and attributes: what keeping it costs.
    pub(crate) fn name_bytes(&self) -> usize {
        let target = match &self.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => target.as_os_str().len(),
            _ => 0,
        };
        let attributes: usize = self.metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.path.as_os_str().len() + target + attributes
    }
}

/// Paths as text where they are text, else as their bytes: nothing is lost and nothing is guessed.
pub(crate) mod path_text {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_seq(path.as_os_str().as_bytes()),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Text(text) => text.into(),
            Stored::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}
