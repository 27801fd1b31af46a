//! Writing tar archives whose bytes depend on their entries alone.

use std::io::{self, Read, Write};

use super::header::{self, BLOCK};
use super::{Entry, Kind};

/// What is put together of an archive before it goes on.
const BUFFER_BYTES: usize = 128 * 1024;

/// Where an archive goes: any writer, or whatever else takes it a buffer at a time.
pub trait Output {
    /// Takes all of `buffer`, or the buffer itself. Whatever is there afterwards is overwritten.
    ///
    /// # Errors
    /// Failed writes.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

impl<W: Write> Output for W {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.write_all(buffer)
    }
}

/// Writes entries in the order in which they come.
pub struct TarWriter<W> {
    inner: W,
    buffer: Vec<u8>,
    /// What of the buffer is filled, in bytes.
    filled: usize,
}

impl<W: Output> TarWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Writes one entry; `content` is read to the size that a file's entry says.
    ///
    /// # Errors
    /// Failed reads and writes; content that is shorter or longer than its entry says, which means that a file changed
    /// while it was read; a path that is not plain.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        if !header::is_plain(&entry.path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an entry's path must be relative and plain"));
        }
        self.put(&header::encode(entry))?;
        let Kind::File { size } = entry.kind else { return Ok(()) };
        let mut left = size;
        while left > 0 {
            let room = self.room()?;
            let most = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(room.len());
            let read = match content.read(&mut room[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 {
                return Err(changed("shorter"));
            }
            self.filled += read;
            left -= read as u64;
        }
        if content.read(&mut [0])? != 0 {
            return Err(changed("longer"));
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 {
            self.put(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    /// Writes the two empty blocks that end an archive, and gives the inner writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.hand_over()?;
        Ok(self.inner)
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// What is not filled of the buffer, which is never nothing.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.len() {
            self.hand_over()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.buffer.truncate(self.filled);
        self.inner.take(&mut self.buffer)?;
        self.buffer.resize(BUFFER_BYTES, 0);
        self.filled = 0;
        Ok(())
    }
}

fn changed(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it changed while it was read: it is {how} than it was"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::super::{Metadata, TarReader};
    use super::*;

    fn entries() -> Vec<Entry> {
        let metadata = Metadata::root_owned(0o644, 315_532_800);
        let entry = |path: &str, kind| Entry { path: path.into(), kind, metadata: metadata.clone() };
        let long = "directory/".repeat(12) + "file";
        let longer = "d".repeat(200) + "/" + &"f".repeat(200);
        let mut capable = entry("usr/bin/ping", Kind::File { size: 3 });
        capable.metadata.xattrs = BTreeMap::from([("security.capability".to_owned(), vec![1, 0, 255, b'\n'])]);
        capable.metadata.uid = 3_000_000;
        capable.metadata.mtime = -5;
        vec![
            entry("", Kind::Directory),
            entry("etc", Kind::Directory),
            entry("etc/empty", Kind::File { size: 0 }),
            entry("etc/über", Kind::File { size: 513 }),
            entry(&long, Kind::File { size: 512 }),
            entry(&longer, Kind::Symlink { target: long.clone().into() }),
            entry("link", Kind::Hardlink { target: "etc/empty".into() }),
            entry("dev/null", Kind::CharacterDevice { major: 1, minor: 3 }),
            entry("dev/loop0", Kind::BlockDevice { major: 7, minor: 0 }),
            entry("run/pipe", Kind::Fifo),
            capable,
        ]
    }

    fn archive(entries: &[Entry]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for entry in entries {
            let size = if let Kind::File { size } = entry.kind { size } else { 0 };
            writer.append(entry, &mut io::repeat(7).take(size)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn every_kind_is_read_back_as_it_was_written() {
        let entries = entries();
        let archive = archive(&entries);
        let mut reader = TarReader::new(&archive[..]);
        for expected in &entries {
            assert_eq!(&reader.next_entry().unwrap().unwrap(), expected);
        }
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn an_independent_reader_agrees() {
        let entries = entries();
        let archive = archive(&entries);
        let mut independent = tar::Archive::new(&archive[..]);
        for (theirs, ours) in independent.entries().unwrap().zip(&entries) {
            let theirs = theirs.unwrap();
            let path = theirs.path().unwrap().into_owned();
            assert_eq!(path.components().filter(|c| c.as_os_str() != ".").collect::<PathBuf>(), ours.path);
            assert_eq!(theirs.header().mode().unwrap(), 0o644);
            if let Kind::Symlink { target } | Kind::Hardlink { target } = &ours.kind {
                assert_eq!(theirs.link_name().unwrap().unwrap(), *target);
            }
        }
    }

    #[test]
    fn pax_appears_only_where_ustar_cannot_say_it() {
        let plain = archive(&entries()[..3]);
        assert_eq!(plain.len(), 3 * 512 + 1024);
        let needs = archive(&entries()[3..4]);
        assert_eq!(needs[156], b'x');
    }

    #[test]
    fn content_of_another_size_is_an_error() {
        let entry = Entry { path: "f".into(), kind: Kind::File { size: 4 }, metadata: Metadata::root_owned(0o644, 0) };
        for (content, expected) in [("abc", "shorter"), ("abcde", "longer")] {
            let error = TarWriter::new(Vec::new()).append(&entry, &mut content.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let climbing = Entry { path: "../f".into(), ..entry };
        assert!(TarWriter::new(Vec::new()).append(&climbing, &mut &b"abcd"[..]).is_err());
    }

    proptest! {
        #[test]
        fn any_plain_path_and_owner_round_trips(
            parts in prop::collection::vec("[a-zé ._-]{1,120}", 1..5),
            target in "[a-z/.é]{1,300}",
            uid in 0..u64::from(u32::MAX),
            mtime in -10_i64..20_000_000_000,
        ) {
            prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
            let entry = Entry {
                path: parts.iter().collect(),
                kind: Kind::Symlink { target: target.into() },
                metadata: Metadata { mode: 0o777, uid, gid: uid / 2, mtime, xattrs: BTreeMap::new() },
            };
            let archive = archive(std::slice::from_ref(&entry));
            prop_assert_eq!(TarReader::new(&archive[..]).next_entry().unwrap().unwrap(), entry);
        }
    }

    #[test]
    fn names_that_are_not_text_survive() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        let entry = Entry { path: path.to_owned(), kind: Kind::Fifo, metadata: Metadata::root_owned(0o600, 0) };
        let archive = archive(std::slice::from_ref(&entry));
        assert_eq!(TarReader::new(&archive[..]).next_entry().unwrap().unwrap(), entry);
    }
}
