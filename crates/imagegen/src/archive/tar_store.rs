//! A tar archive as a store of files: its headers are read once, its contents where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::layer::{Kind, LayerError, TarReader, decompressed};
use crate::layout::{Opened, Store};

/// How many links are followed to a file; `docker save` writes chains of one.
const MAX_LINKS: usize = 16;

/// What is looked at for zeros at once: a multiple of every file system's block.
const ZERO_BLOCK_BYTES: usize = 64 * 1024;
/// Bounds the memory that a hostile archive can take: a saved image has some hundred short names.
const MAX_NAME_BYTES: usize = 64 << 20;

/// The files of an archive by path.
#[derive(Debug)]
pub(crate) struct TarStore {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    File { offset: u64, size: u64 },
    Link { target: String },
}

impl TarStore {
    /// Reads the headers of an archive. One that is compressed as a whole is unpacked into a temporary file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
        let unusable = |error| match error {
            LayerError::Io(source) => failed(source),
            other => failed(io::Error::other(other)),
        };
        let file = seekable(File::open(path).map_err(failed)?).map_err(unusable)?;
        let entries = index(&file).map_err(unusable)?;
        Ok(Self { file: Arc::new(file), entries })
    }

    fn find(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = normalise(path)?;
        for _ in 0..MAX_LINKS {
            match self.entries.get(&path)? {
                Entry::File { offset, size } => return Some((*offset, *size)),
                Entry::Link { target } => path.clone_from(target),
            }
        }
        None
    }
}

impl Store for TarStore {
    fn open(&self, path: &str) -> io::Result<Option<Opened>> {
        Ok(self.find(path).map(|(offset, size)| {
            let section = Section { file: Arc::clone(&self.file), offset, left: size };
            (Box::new(section) as Box<dyn Read + Send>, size)
        }))
    }
}

/// Part of a file, read without moving anything that others read with.
#[derive(Debug)]
struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..limit], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The archive itself, or what it unpacks to: a file without a name, in which runs of zeros take no room.
fn seekable(file: File) -> Result<File, LayerError> {
    let mut magic = [0; 4];
    let read = file.read_at(&mut magic, 0)?;
    if !matches!(&magic[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(file);
    }
    let mut plain = decompressed(Box::new(file))?;
    let unpacked = tempfile::tempfile()?;
    let (mut block, mut size) = (Vec::with_capacity(ZERO_BLOCK_BYTES), 0);
    while (&mut plain).take(ZERO_BLOCK_BYTES as u64).read_to_end(&mut block)? > 0 {
        if block.iter().any(|&byte| byte != 0) {
            unpacked.write_all_at(&block, size)?;
        }
        size += block.len() as u64;
        block.clear();
    }
    unpacked.set_len(size)?;
    Ok(unpacked)
}

fn index(file: &File) -> Result<HashMap<String, Entry>, LayerError> {
    let mut entries = HashMap::new();
    let mut start = file;
    start.seek(SeekFrom::Start(0))?;
    let mut archive = TarReader::new(BufReader::new(start));
    let mut name_bytes = 0;
    while let Some(entry) = archive.next_entry()? {
        name_bytes += entry.name_bytes();
        if name_bytes > MAX_NAME_BYTES {
            return Err(LayerError::TooMuch { limit: MAX_NAME_BYTES as u64, what: "bytes of names" });
        }
        let Some(path) = entry.path.to_str().map(str::to_owned) else { continue };
        match entry.kind {
            Kind::File { size } => {
                let offset = archive.content_position()?;
                entries.insert(path, Entry::File { offset, size });
            }
            Kind::Symlink { target } => {
                let Some(target) = target.to_str() else { continue };
                // A symbolic link starts at its own folder.
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = if target.starts_with('/') { target.to_owned() } else { format!("{folder}/{target}") };
                if let Some(target) = normalise(&target) {
                    entries.insert(path, Entry::Link { target });
                }
            }
            Kind::Hardlink { target } => {
                if let Some(target) = target.to_str().and_then(normalise) {
                    entries.insert(path, Entry::Link { target });
                }
            }
            _ => {}
        }
        archive.seek_past_content()?;
    }
    Ok(entries)
}

/// The path without `.`, `..` and leading slashes; `None` if it leads out of the archive.
fn normalise(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_stay_inside() {
        for (path, expected) in
            [("./a//b", Some("a/b")), ("/a/./b/../c", Some("a/c")), ("a/../../b", None), ("", Some(""))]
        {
            assert_eq!(normalise(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn links_lead_to_files_and_loops_to_nothing() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        builder.append_data(&mut header, "one/layer.tar", &b"hello"[..]).unwrap();
        for (path, target) in [("two/layer.tar", "../one/layer.tar"), ("a", "b"), ("b", "a")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), builder.into_inner().unwrap()).unwrap();
        let store = TarStore::open(archive.path()).unwrap();
        let mut text = String::new();
        let (mut reader, size) = store.open("two/layer.tar").unwrap().unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), size), ("hello", 5));
        assert!(store.open("a").unwrap().is_none());
    }

    #[test]
    fn zeros_that_an_archive_unpacks_to_take_no_room() {
        let plain = [&[7; 1000][..], &vec![0; 32 << 20], &[8; 1000]].concat();
        let packed = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(packed.path(), zstd::encode_all(&plain[..], 1).unwrap()).unwrap();
        let unpacked = seekable(File::open(packed.path()).unwrap()).unwrap();
        let metadata = unpacked.metadata().unwrap();
        assert_eq!(metadata.len(), plain.len() as u64);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 1 << 20);
        let mut end = [0; 1000];
        unpacked.read_exact_at(&mut end, metadata.len() - 1000).unwrap();
        assert_eq!(end, [8; 1000]);
    }
}
