//! A layer as a blob in a file: written in one pass, known by its digest and its diff id.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use tempfile::TempPath;

use super::behind::{Archive, Behind, Written};
use super::compress::Compressor;
use super::content::ContentHashing;
use super::{Compression, Entry, IndexWriter, Kind, TarWriter};
use crate::digest::Digest;

/// A finished layer. The file goes when this value goes.
#[derive(Debug)]
pub struct LayerFile {
    /// Where the compressed layer is.
    pub file: TempPath,
    /// Its media type.
    pub media_type: &'static str,
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size_bytes: u64,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its path index, encoded.
    pub index: Vec<u8>,
}

/// How layers are written.
#[derive(Debug, Clone)]
pub struct Writing {
    /// Where their files are made.
    pub work: PathBuf,
    /// How they are compressed.
    pub compression: Compression,
    /// Threads that compress.
    pub threads: usize,
    /// Whether the files stay on the disk of `work`, which then writes them while they are made: who waits until they are
    /// durable does not wait long.
    pub local: bool,
}

/// Writes one layer into a temporary file.
pub struct LayerWriter {
    archive: TarWriter<Archive<Compressor<Behind>>>,
    compression: Compression,
    index: IndexWriter,
}

impl LayerWriter {
    /// Begins a layer in a new file.
    pub fn create(how: &Writing) -> io::Result<Self> {
        let behind = Behind::create(&how.work, how.local)?;
        let archive = behind.archive(|behind| Compressor::new(behind, how.compression, how.threads))?;
        Ok(Self { archive: TarWriter::new(archive), compression: how.compression, index: IndexWriter::new()? })
    }

    /// Adds an entry; see [`TarWriter::append`].
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let mut content = ContentHashing::new(content);
        self.archive.append(entry, &mut content)?;
        let digest = matches!(entry.kind, Kind::File { .. }).then(|| content.finish());
        self.index.push(entry, digest.as_ref())
    }

    /// Ends the layer.
    pub fn finish(self) -> io::Result<LayerFile> {
        let Written { file, digest, size_bytes, diff_id } = self.archive.finish()?.finish().finish()?.finish()?;
        Ok(LayerFile {
            file: file.into_temp_path(),
            media_type: self.compression.media_type(),
            digest,
            size_bytes,
            index: self.index.finish(&diff_id)?,
            diff_id,
        })
    }
}

impl LayerFile {
    /// Opens the compressed layer.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LayerIndex, Metadata, TarReader, decompressed};
    use super::*;
    use std::path::Path;

    fn writing(work: &Path, compression: Compression, threads: usize) -> Writing {
        Writing { work: work.to_owned(), compression, threads, local: threads > 1 }
    }

    fn layer(directory: &Path, compression: Compression, threads: usize) -> LayerFile {
        let mut writer = LayerWriter::create(&writing(directory, compression, threads)).unwrap();
        for number in 0..40_u64 {
            let size = number * 20_011;
            let entry = Entry {
                path: format!("file-{number:02}").into(),
                kind: Kind::File { size },
                metadata: Metadata::root_owned(0o644, 0),
            };
            writer.append(&entry, &mut io::repeat(b'a' + (number % 26) as u8).take(size)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_layer_is_the_same_for_any_number_of_threads_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut diff_ids = Vec::new();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let one = layer(directory.path(), compression, 1);
            let four = layer(directory.path(), compression, 4);
            assert_eq!((one.digest, one.diff_id), (four.digest, four.diff_id));
            let bytes = std::fs::read(&one.file).unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (one.digest, one.size_bytes));
            let mut plain = Vec::new();
            decompressed(Box::new(one.open().unwrap())).unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(Digest::of(&plain), one.diff_id);
            let (index, diff_id) = LayerIndex::decode(&one.index[..]).unwrap();
            assert_eq!((index, diff_id), (LayerIndex::read_tar(&plain[..]).unwrap(), one.diff_id));
            let mut reader = TarReader::new(&plain[..]);
            assert_eq!(std::iter::from_fn(|| reader.next_entry().unwrap()).count(), 40);
            diff_ids.push(one.diff_id);
        }
        assert_eq!(diff_ids[0], diff_ids[1], "compression does not change the diff id");
    }

    #[test]
    fn gzip_accepts_the_layer() {
        let directory = tempfile::tempdir().unwrap();
        let layer = layer(directory.path(), Compression::Gzip, 2);
        let status = std::process::Command::new("gzip")
            .arg("-t")
            .stdin(layer.open().unwrap())
            .status()
            .expect("gzip is part of every Debian system");
        assert!(status.success());
    }

    #[test]
    fn an_abandoned_layer_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        drop(LayerWriter::create(&writing(directory.path(), Compression::Gzip, 2)).unwrap());
        drop(layer(directory.path(), Compression::Zstd, 1));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
