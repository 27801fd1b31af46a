//! OCI image layouts (OCI image spec, "Image Layout"): `oci-layout`, `index.json`, and blobs under their digests.
//!
//! The same files lie in a folder (`oci:`) or in a tar archive (`oci-archive:`); `Store` is what both offer.

mod sink;
mod source;
mod staging;
mod transfer;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use sink::LayoutSink;
pub use source::LayoutSource;
pub(crate) use staging::Staging;

use crate::digest::Digest;

/// The annotation that names an image of a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation of an `index.json` whose image has no name that lists the artifacts about that image: a JSON array of
/// descriptors. Artifacts about named images are entries beside them.
const REFERRERS: &str = "ai.vast.imagegen.referrers";

/// The content of `oci-layout`.
pub(crate) const LAYOUT_VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A file of a store, from its start, and its size in bytes.
pub(crate) type Opened = (Box<dyn Read + Send>, u64);

/// Files by path: a folder, or an archive.
pub(crate) trait Store: Send + Sync {
    /// Opens a file; `None` where there is none.
    fn open(&self, path: &str) -> io::Result<Option<Opened>>;
}

/// A folder as a store.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Store for Folder {
    fn open(&self, path: &str) -> io::Result<Option<Opened>> {
        let file = match File::open(self.0.join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then(|| (Box::new(file) as Box<dyn Read + Send>, metadata.len())))
    }
}

/// Where a blob lies in a layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The folder that holds `path`; the current one where the path does not say.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
