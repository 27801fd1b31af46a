//! What another engine made, without the traces of when and where.
//!
//! Times later than the epoch become the epoch. Python's byte code stays valid: a `.pyc` file holds the time of its source
//! (PEP 552, "Specification"), which is moved by the same rule, so that both still agree.

use std::io::{self, Cursor, Read};

use super::Context;
use super::stack::{StackLayer, blocking};
use crate::Error;
use crate::layer::{
    Entry, Kind, LayerError, LayerFile, LayerWriter, MAX_LAYER_BYTES, TarReader, Writing, decompressed_within,
};

/// Magic number, flags, time and size of the source: what a `.pyc` file begins with.
const PYC_HEADER_BYTES: usize = 16;

/// Why a layer could not be rewritten.
#[derive(Debug)]
enum Failed {
    Reading(LayerError),
    Writing(io::Error),
}

/// Writes a layer of a source anew.
pub(super) async fn anew(layer: &StackLayer, context: &Context<'_>) -> Result<LayerFile, Error> {
    let (blob, options) = (layer.open().await?, context.options);
    let (epoch, how) = (options.epoch, options.writing(context.work));
    // Whoever allows larger bases builds larger layers; one who allows smaller ones speaks of bases alone.
    let limit_bytes = options.limits.layer_bytes.max(MAX_LAYER_BYTES);
    let plain = move || decompressed_within(blob, limit_bytes).map_err(|error| Failed::Reading(error.into()));
    let written = blocking(move || self::layer(plain()?, epoch, &how)).await?;
    written.map_err(|failed| match failed {
        Failed::Reading(error) => layer.failed(error),
        Failed::Writing(source) => Error::File { action: "write a layer in", path: context.work.to_owned(), source },
    })
}

/// Writes the uncompressed layer `plain` anew.
fn layer(plain: Box<dyn Read + Send>, epoch: i64, how: &Writing) -> Result<LayerFile, Failed> {
    let mut reader = TarReader::new(plain);
    let mut writer = LayerWriter::create(how).map_err(Failed::Writing)?;
    while let Some(mut entry) = reader.next_entry().map_err(Failed::Reading)? {
        entry.metadata.mtime = entry.metadata.mtime.min(epoch);
        if is_byte_code(&entry) {
            let mut start = Vec::with_capacity(PYC_HEADER_BYTES);
            let head = reader.by_ref().take(PYC_HEADER_BYTES as u64).read_to_end(&mut start);
            head.map_err(|error| Failed::Reading(error.into()))?;
            clamp_source_time(&mut start, epoch);
            writer.append(&entry, &mut Cursor::new(start).chain(&mut reader)).map_err(Failed::Writing)?;
        } else {
            writer.append(&entry, &mut reader).map_err(Failed::Writing)?;
        }
    }
    reader.drain().map_err(Failed::Reading)?;
    writer.finish().map_err(Failed::Writing)
}

fn is_byte_code(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { .. }) && entry.path.extension().is_some_and(|extension| extension == "pyc")
}

/// Moves the time in a `.pyc` header. Flags other than zero mean that the file is checked by a hash instead.
fn clamp_source_time(header: &mut [u8], epoch: i64) {
    if header.len() < PYC_HEADER_BYTES || header[4..8] != [0; 4] {
        return;
    }
    let time = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let clamped = u32::try_from(epoch.max(0)).unwrap_or(u32::MAX).min(time);
    header[8..12].copy_from_slice(&clamped.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Compression, Metadata, decompressed};

    const EPOCH: i64 = 1000;

    fn normalized(files: &[(&str, i64, &[u8])]) -> Vec<(i64, Vec<u8>)> {
        let work = tempfile::tempdir().unwrap();
        let how = |compression| Writing { work: work.path().to_owned(), compression, threads: 1, local: false };
        let mut writer = LayerWriter::create(&how(Compression::Zstd)).unwrap();
        for (path, mtime, content) in files {
            let kind = Kind::File { size: content.len() as u64 };
            let entry = Entry { path: path.into(), kind, metadata: Metadata::root_owned(0o644, *mtime) };
            writer.append(&entry, &mut &content[..]).unwrap();
        }
        let before = writer.finish().unwrap();
        let plain = decompressed(Box::new(before.open().unwrap())).unwrap();
        let after = layer(plain, EPOCH, &how(Compression::Gzip)).unwrap();
        let mut reader = TarReader::new(decompressed(Box::new(after.open().unwrap())).unwrap());
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            found.push((entry.metadata.mtime, content));
        }
        found
    }

    fn pyc(flags: u32, mtime: u32) -> Vec<u8> {
        [&[0xcb, 0x0d, 0x0d, 0x0a][..], &flags.to_le_bytes(), &mtime.to_le_bytes(), &7_u32.to_le_bytes(), b"code"]
            .concat()
    }

    #[test]
    fn only_later_times_are_moved() {
        let found = normalized(&[("old", 5, b"x"), ("new", 5000, b"y")]);
        assert_eq!(found, [(5, b"x".to_vec()), (EPOCH, b"y".to_vec())]);
    }

    #[test]
    fn byte_code_still_agrees_with_its_source() {
        let found = normalized(&[
            ("a.py", 5000, b""),
            ("__pycache__/a.pyc", 5001, &pyc(0, 5000)),
            ("__pycache__/b.pyc", 5001, &pyc(0, 5)),
            ("__pycache__/hashed.pyc", 5001, &pyc(1, 5000)),
            ("short.pyc", 5001, b"tiny"),
        ]);
        assert_eq!(found[1].1, pyc(0, 1000));
        assert_eq!(found[2].1, pyc(0, 5));
        assert_eq!(found[3].1, pyc(1, 5000));
        assert_eq!(found[4].1, b"tiny");
    }
}
