//! Chosen contents of layers, kept in files for a while.
//!
//! Contents are asked for by layer and entry number and stored under numbers of our own, so that no name from an archive
//! ever reaches the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{ContentRef, Kind, LayerError, MAX_LAYER_BYTES, TarReader, decompressed_within};

/// A directory of contents that goes when this value goes.
#[derive(Debug)]
pub struct Spool {
    directory: TempDir,
    files: BTreeMap<ContentRef, PathBuf>,
    layer_limit_bytes: u64,
}

impl Spool {
    /// An empty spool in a new directory in `parent`.
    pub fn create(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("spool-").tempdir_in(parent)?;
        Ok(Self { directory, files: BTreeMap::new(), layer_limit_bytes: MAX_LAYER_BYTES })
    }

    /// Layers may unpack to this much.
    #[must_use]
    pub fn with_layer_limit(self, layer_limit_bytes: u64) -> Self {
        Self { layer_limit_bytes, ..self }
    }

    /// Takes the entries numbered in `wanted` out of layer number `layer`, whose blob is `blob`.
    ///
    /// The blob is read to its end in any case, so that its digest is verified before anything is used.
    ///
    /// # Errors
    /// Damage, entries that are not files or are not there, more than `limit_bytes` in all.
    pub fn take(
        &mut self,
        layer: usize,
        blob: Box<dyn Read + Send>,
        wanted: &BTreeSet<usize>,
        limit_bytes: u64,
    ) -> Result<(), LayerError> {
        let mut reader = TarReader::new(decompressed_within(blob, self.layer_limit_bytes)?);
        let mut taken = BTreeMap::new();
        let mut budget = limit_bytes;
        let mut number = 0;
        while let Some(entry) = reader.next_entry()? {
            if wanted.contains(&number) {
                let Kind::File { size } = entry.kind else {
                    return Err(LayerError::Damaged("it is not the layer that its index describes"));
                };
                let too_much = || LayerError::TooMuch { limit: limit_bytes, what: "bytes in the files asked for" };
                budget = budget.checked_sub(size).ok_or_else(too_much)?;
                let content = ContentRef { layer, entry: number };
                let path = self.directory.path().join(format!("{layer}-{number}"));
                io::copy(&mut reader, &mut File::create(&path)?)?;
                taken.insert(content, path);
            }
            number += 1;
        }
        reader.drain()?;
        if taken.len() != wanted.len() {
            return Err(LayerError::Damaged("it is not the layer that its index describes"));
        }
        self.files.append(&mut taken);
        Ok(())
    }

    /// The file that holds `content`, if it was taken.
    #[must_use]
    pub fn path(&self, content: ContentRef) -> Option<&Path> {
        self.files.get(&content).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{Entry, Metadata, TarWriter};
    use super::*;

    fn archive(names: &[&str]) -> Box<dyn Read + Send> {
        let mut writer = TarWriter::new(Vec::new());
        for name in names {
            let entry = Entry {
                path: name.into(),
                kind: Kind::File { size: name.len() as u64 },
                metadata: Metadata::root_owned(0o644, 0),
            };
            writer.append(&entry, &mut name.as_bytes()).unwrap();
        }
        Box::new(Cursor::new(writer.finish().unwrap()))
    }

    #[test]
    fn only_what_is_wanted_is_kept_and_nothing_remains_after() {
        let parent = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(parent.path()).unwrap();
        spool.take(3, archive(&["one", "two", "three"]), &BTreeSet::from([0, 2]), 100).unwrap();
        let read = |entry| spool.path(ContentRef { layer: 3, entry }).map(|path| std::fs::read(path).unwrap());
        assert_eq!(read(0).as_deref(), Some(&b"one"[..]));
        assert_eq!(read(1), None);
        assert_eq!(read(2).as_deref(), Some(&b"three"[..]));
        drop(spool);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn bounds_and_missing_entries_are_errors() {
        let parent = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(parent.path()).unwrap();
        let error = spool.take(0, archive(&["one", "two"]), &BTreeSet::from([0, 1]), 5).unwrap_err();
        assert!(matches!(error, LayerError::TooMuch { .. }) && !error.is_too_large());
        let mut tight = Spool::create(parent.path()).unwrap().with_layer_limit(1000);
        let error = tight.take(0, archive(&["one", "two"]), &BTreeSet::from([0]), 100).unwrap_err();
        assert!(error.is_too_large(), "{error}");
        let error = spool.take(0, archive(&["one"]), &BTreeSet::from([7]), 5).unwrap_err();
        assert!(error.to_string().contains("not the layer that its index describes"));
        assert_eq!(spool.path(ContentRef { layer: 0, entry: 0 }), None, "nothing of a failed layer is offered");
    }
}
