//! A tar archive as a store of files: its headers are read once, its contents where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::Error;
use crate::layout::{Opened, Store};

/// How many links are followed to a file; `docker save` writes chains of one.
const MAX_LINKS: usize = 16;

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
        let file = seekable(File::open(path).map_err(failed)?).map_err(failed)?;
        let entries = index(&file).map_err(failed)?;
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

fn seekable(mut file: File) -> io::Result<File> {
    let mut magic = [0; 4];
    let read = file.read_at(&mut magic, 0)?;
    let mut unpacked = match &magic[..read] {
        [0x1f, 0x8b, ..] => {
            let mut unpacked = tempfile::tempfile()?;
            io::copy(&mut MultiGzDecoder::new(BufReader::new(&mut file)), &mut unpacked)?;
            unpacked
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut unpacked = tempfile::tempfile()?;
            zstd::stream::copy_decode(BufReader::new(&mut file), &mut unpacked)?;
            unpacked
        }
        _ => return Ok(file),
    };
    unpacked.seek(SeekFrom::Start(0))?;
    Ok(unpacked)
}

fn index(file: &File) -> io::Result<HashMap<String, Entry>> {
    let mut entries = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let Some(path) = entry.path()?.to_str().and_then(normalise) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            entries.insert(path, Entry::File { offset: entry.raw_file_position(), size: entry.size() });
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name()? else { continue };
            let Some(target) = target.to_str() else { continue };
            // A symbolic link starts at its own folder, a hard link at the archive's root.
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let relative = kind.is_symlink() && !target.starts_with('/');
            let target = if relative { normalise(&format!("{folder}/{target}")) } else { normalise(target) };
            if let Some(target) = target {
                entries.insert(path, Entry::Link { target });
            }
        }
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
}
