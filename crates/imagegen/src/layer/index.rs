//! What a layer's headers say, kept by the layer's digest so that no layer is streamed twice.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use super::{Entry, LayerError, TarReader, decompressed};
use crate::digest::Digest;

/// Bounds the memory that a hostile layer can take; the largest images known have a tenth of it.
const MAX_ENTRIES: usize = 2_000_000;

/// The entries of one layer in the order of its archive, whiteouts included. An entry's number is its position here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerIndex {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl LayerIndex {
    /// Reads the headers of the layer in `blob`, which may be compressed, and all of `blob` to its end.
    ///
    /// # Errors
    /// [`LayerError`], for damage, hostile names and excess.
    pub fn read(blob: Box<dyn Read + Send>) -> Result<Self, LayerError> {
        Self::read_tar(decompressed(blob)?)
    }

    /// Reads the headers of the uncompressed layer in `tar`, and all of `tar` to its end.
    ///
    /// # Errors
    /// [`LayerError`], for damage, hostile names and excess.
    pub fn read_tar(tar: impl Read) -> Result<Self, LayerError> {
        let mut reader = TarReader::new(tar);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            if entries.len() == MAX_ENTRIES {
                return Err(LayerError::TooMuch { limit: MAX_ENTRIES as u64, what: "entries" });
            }
            entries.push(entry);
        }
        reader.drain()?;
        Ok(Self { entries })
    }
}

/// Indexes by the digests of their layers, in a directory that may be deleted at any time.
#[derive(Debug, Clone, Default)]
pub struct IndexCache {
    directory: Option<PathBuf>,
}

impl IndexCache {
    /// A cache in `cache_directory`, or one that keeps nothing.
    #[must_use]
    pub fn new(cache_directory: Option<&Path>) -> Self {
        Self { directory: cache_directory.map(|directory| directory.join("layer-index-1")) }
    }

    /// The index of the layer `digest`, if it is known. A damaged file counts as none.
    #[must_use]
    pub fn load(&self, digest: &Digest) -> Option<LayerIndex> {
        let file = File::open(self.file(digest)?).ok()?;
        let decoder = BufReader::new(zstd::stream::read::Decoder::new(file).ok()?);
        let mut lines = decoder.lines();
        // The first line is the number of entries, so that a file cut short is not taken for a whole one.
        let count: usize = lines.next()?.ok()?.parse().ok()?;
        let entries = lines.map(|line| serde_json::from_str(&line.ok()?).ok()).collect::<Option<Vec<Entry>>>()?;
        (entries.len() == count).then_some(LayerIndex { entries })
    }

    /// Keeps `index` for the layer `digest`.
    ///
    /// # Errors
    /// Whatever writing meets. The caller may go on without.
    pub fn store(&self, digest: &Digest, index: &LayerIndex) -> io::Result<()> {
        let (Some(directory), Some(path)) = (&self.directory, self.file(digest)) else { return Ok(()) };
        std::fs::create_dir_all(directory)?;
        let file = tempfile::NamedTempFile::new_in(directory)?;
        let mut encoder = zstd::stream::write::Encoder::new(BufWriter::new(file), 1)?;
        writeln!(encoder, "{}", index.entries.len())?;
        for entry in &index.entries {
            serde_json::to_writer(&mut encoder, entry)?;
            encoder.write_all(b"\n")?;
        }
        let file = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn file(&self, digest: &Digest) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(format!("{}.jsonl.zst", digest.hex())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::{Kind, Metadata};
    use super::*;

    fn index() -> LayerIndex {
        let mut metadata = Metadata::root_owned(0o4755, -1);
        metadata.xattrs = BTreeMap::from([("user.x".to_owned(), vec![0, 255])]);
        let path = PathBuf::from(OsStr::from_bytes(b"caf\xe9"));
        LayerIndex {
            entries: vec![
                Entry { path: path.clone(), kind: Kind::File { size: 7 }, metadata: metadata.clone() },
                Entry { path: "é\n".into(), kind: Kind::Hardlink { target: path }, metadata },
            ],
        }
    }

    #[test]
    fn an_index_comes_back_from_the_cache_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let cache = IndexCache::new(Some(directory.path()));
        let digest = Digest::of(b"layer");
        assert_eq!(cache.load(&digest), None);
        cache.store(&digest, &index()).unwrap();
        assert_eq!(cache.load(&digest), Some(index()));
    }

    #[test]
    fn a_damaged_index_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let cache = IndexCache::new(Some(directory.path()));
        let digest = Digest::of(b"layer");
        cache.store(&digest, &index()).unwrap();
        let path = cache.file(&digest).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], &b""[..], b"noise", &zstd::encode_all(&b"3\n"[..], 1).unwrap()] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(&digest), None);
        }
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let cache = IndexCache::new(None);
        cache.store(&Digest::of(b""), &index()).unwrap();
        assert_eq!(cache.load(&Digest::of(b"")), None);
    }
}
