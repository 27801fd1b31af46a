//! What a layer's headers say, kept by the layer's digest so that no layer is streamed twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::read::UNPACKED;
use super::{ContentDigest, Entry, Kind, LayerError, MAX_LAYER_BYTES, TarReader, decompressed_within};
use crate::digest::Digest;

/// Bounds the memory that a hostile layer can take; the largest images known have a tenth of it.
pub(super) const MAX_ENTRIES: usize = 2_000_000;

/// The same for names, targets of links and attributes, which are kept. Whole distributions have a twentieth.
const MAX_NAME_BYTES: usize = 256 << 20;

/// The entries of one layer in the order of its archive, whiteouts included. An entry's number is its position here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerIndex {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The digests of their contents, by number; only files have one.
    pub contents: Vec<Option<ContentDigest>>,
}

impl LayerIndex {
    /// Reads the headers of the layer in `blob`, which may be compressed, and all of `blob` to its end.
    ///
    /// # Errors
    /// [`LayerError`], for damage, hostile names and excess.
    pub fn read(blob: Box<dyn Read + Send>) -> Result<Self, LayerError> {
        Self::read_within(blob, MAX_LAYER_BYTES)
    }

    /// The same, of a layer that may unpack to `limit_bytes`. Files that are larger by their headers are not waited for.
    ///
    /// # Errors
    /// [`LayerError`], for damage, hostile names and excess.
    pub fn read_within(blob: Box<dyn Read + Send>, limit_bytes: u64) -> Result<Self, LayerError> {
        Self::collect(decompressed_within(blob, limit_bytes)?, limit_bytes)
    }

    /// Reads the headers of the uncompressed layer in `tar`, and all of `tar` to its end.
    ///
    /// # Errors
    /// [`LayerError`], for damage, hostile names and excess.
    pub fn read_tar(tar: impl Read) -> Result<Self, LayerError> {
        Self::collect(tar, MAX_LAYER_BYTES)
    }

    fn collect(tar: impl Read, limit_bytes: u64) -> Result<Self, LayerError> {
        let mut reader = TarReader::new(tar);
        let mut index = Self::default();
        let (mut content_bytes, mut name_bytes) = (0_u64, 0);
        while let Some(entry) = reader.next_entry()? {
            if let Kind::File { size } = entry.kind {
                content_bytes = content_bytes.saturating_add(size);
            }
            name_bytes += entry.name_bytes();
            for (is_excess, limit, what) in [
                (index.entries.len() == MAX_ENTRIES, MAX_ENTRIES as u64, "entries"),
                (name_bytes > MAX_NAME_BYTES, MAX_NAME_BYTES as u64, "bytes of names and attributes"),
                (content_bytes > limit_bytes, limit_bytes, UNPACKED),
            ] {
                if is_excess {
                    return Err(LayerError::TooMuch { limit, what });
                }
            }
            let content = match entry.kind {
                Kind::File { .. } => Some(ContentDigest::of_all(&mut reader)?),
                _ => None,
            };
            index.entries.push(entry);
            index.contents.push(content);
        }
        reader.drain()?;
        Ok(index)
    }

    /// The digest of the content of the entry with this number, if it is a file whose content was read.
    #[must_use]
    pub fn content(&self, number: usize) -> Option<ContentDigest> {
        self.contents.get(number).copied().flatten()
    }
}

/// Indexes by the digests of their layers: those that are known in this process, and those in a directory, which may be
/// deleted at any time.
#[derive(Debug, Clone)]
pub struct IndexCache {
    directory: Option<PathBuf>,
    known: Arc<Mutex<HashMap<Digest, Arc<LayerIndex>>>>,
    turns: Arc<Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>>,
    layer_limit_bytes: u64,
}

impl Default for IndexCache {
    fn default() -> Self {
        Self::new(None)
    }
}

impl IndexCache {
    /// A cache in `cache_directory`, or one that keeps nothing after the process.
    #[must_use]
    pub fn new(cache_directory: Option<&Path>) -> Self {
        let directory = cache_directory.map(|directory| directory.join("layer-index-3"));
        Self { directory, known: Arc::default(), turns: Arc::default(), layer_limit_bytes: MAX_LAYER_BYTES }
    }

    /// Notes an index for this process alone: one that was not read from the layer itself is nobody else's business.
    pub fn note(&self, digest: &Digest, index: Arc<LayerIndex>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, index);
    }

    /// Waits for whoever is finding out about the layer `digest`. While the turn is held nobody else begins to; whoever gets it
    /// looks here again first.
    pub(crate) async fn turn(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(digest).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(*digest, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Forgets indexes that this process will hardly need again. What is in the directory stays there.
    pub fn forget(&self, digests: &[Digest]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in digests {
            known.remove(digest);
        }
    }

    /// Layers that are not known yet may unpack to this much.
    #[must_use]
    pub fn with_layer_limit(self, layer_limit_bytes: u64) -> Self {
        Self { layer_limit_bytes, ..self }
    }

    /// The bound of a layer that is not known yet.
    #[must_use]
    pub fn layer_limit_bytes(&self) -> u64 {
        self.layer_limit_bytes
    }

    /// The index of the layer `digest`, if it is known. A damaged file counts as none.
    #[must_use]
    pub fn load(&self, digest: &Digest) -> Option<Arc<LayerIndex>> {
        if let Some(index) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest) {
            return Some(Arc::clone(index));
        }
        let file = File::open(self.file(digest)?).ok()?;
        // The file is named by the layer's own digest, so which diff id it states does not matter.
        let (index, _) = LayerIndex::decode(file).ok()?;
        let index = Arc::new(index);
        self.note(digest, Arc::clone(&index));
        Some(index)
    }

    /// Keeps `index` for the layer `digest`.
    ///
    /// # Errors
    /// Whatever writing meets. The caller may go on without.
    pub fn store(&self, digest: &Digest, index: &LayerIndex) -> io::Result<()> {
        let (Some(directory), Some(path)) = (&self.directory, self.file(digest)) else { return Ok(()) };
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&index.encode(digest)?)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn file(&self, digest: &Digest) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(format!("{}.index", digest.hex())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::Metadata;
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
            contents: vec![Some(ContentDigest::of(b"content")), None],
        }
    }

    #[test]
    fn an_index_comes_back_from_the_cache_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let cache = IndexCache::new(Some(directory.path()));
        let digest = Digest::of(b"layer");
        assert_eq!(cache.load(&digest), None);
        cache.store(&digest, &index()).unwrap();
        assert_eq!(cache.load(&digest).as_deref(), Some(&index()));
    }

    #[test]
    fn an_index_that_was_read_once_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"layer");
        IndexCache::new(Some(directory.path())).store(&digest, &index()).unwrap();
        let cache = IndexCache::new(Some(directory.path()));
        let first = cache.load(&digest).unwrap();
        directory.close().unwrap();
        assert!(cache.load(&digest).is_some_and(|again| Arc::ptr_eq(&first, &again)));
        cache.forget(&[digest]);
        assert_eq!(cache.load(&digest), None);
    }

    #[test]
    fn a_damaged_index_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let cache = IndexCache::new(Some(directory.path()));
        let digest = Digest::of(b"layer");
        cache.store(&digest, &index()).unwrap();
        let path = cache.file(&digest).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], &b""[..], b"noise"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(&digest), None);
        }
    }

    #[test]
    fn names_and_contents_that_are_too_much_are_refused_by_their_headers() {
        let entry = |kind, xattrs| Entry {
            path: "f".into(),
            kind,
            metadata: Metadata { xattrs, ..Metadata::root_owned(0o644, 0) },
        };
        let mut archive = super::super::TarWriter::new(Vec::new());
        archive.append(&entry(Kind::File { size: 3 }, BTreeMap::new()), &mut &b"abc"[..]).unwrap();
        let archive = archive.finish().unwrap();
        assert!(LayerIndex::collect(&archive[..], 3).is_ok());
        let said = LayerIndex::collect(&archive[..], 2).unwrap_err().to_string();
        assert_eq!(said, "it holds more than 2 bytes when it is unpacked");

        let attribute = BTreeMap::from([("user.x".to_owned(), vec![b'x'; 1_000_000])]);
        let mut one = super::super::TarWriter::new(Vec::new());
        one.append(&entry(Kind::Fifo, attribute), &mut io::empty()).unwrap();
        let one = one.finish().unwrap();
        let entries = &one[..one.len() - 1024];
        let mut many: Box<dyn Read> = Box::new(io::empty());
        for _ in 0..300 {
            many = Box::new(many.chain(entries));
        }
        let said = LayerIndex::read_tar(many).unwrap_err().to_string();
        assert_eq!(said, "it holds more than 268435456 bytes of names and attributes");
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let cache = IndexCache::new(None);
        cache.store(&Digest::of(b""), &index()).unwrap();
        assert_eq!(cache.load(&Digest::of(b"")), None);
        cache.note(&Digest::of(b""), Arc::new(index()));
        assert_eq!(cache.load(&Digest::of(b"")).as_deref(), Some(&index()));
    }
}
