//! Zip files on the search path: zipped eggs, `python311.zip`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::root::Root;

/// The longest an archive's last record can be: 22 bytes and a comment of 64 KiB.
const TAIL_BYTES: u64 = 22 + 65_535;
/// More than any package's list of members; guards the allocation.
const DIRECTORY_LIMIT: u32 = 64 << 20;
/// The largest metadata that is unpacked.
const MEMBER_LIMIT: u64 = 16 << 20;

/// A zip file and its list of members.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    method: u16,
    checksum: u32,
    packed_bytes: u32,
    header_offset: u64,
}

impl Archive {
    /// Opens a zip file; `None` for a file that is none, which Python skips.
    pub(super) fn open(root: &Root, path: &Path) -> Result<Option<Self>, Error> {
        let (file, size) = root.open_regular(path).map_err(|error| Error::read(path, error))?;
        Self::read(file, size, path.to_path_buf())
    }

    /// Reads the list of members of an opened file of `size` bytes; `path` is for messages.
    pub(super) fn read(file: File, size: u64, path: PathBuf) -> Result<Option<Self>, Error> {
        let start = size.saturating_sub(TAIL_BYTES);
        let mut tail = vec![0; usize::try_from(size - start).unwrap_or(0)];
        file.read_exact_at(&mut tail, start).map_err(|error| Error::read(&path, error))?;
        let Some(at) = memchr::memmem::rfind(&tail, b"PK\x05\x06").filter(|at| tail.len() - at >= 22) else {
            return Ok(None);
        };
        let damaged = |problem: &str| Error::Archive { path: path.clone(), problem: problem.to_owned() };
        let (size, offset) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16));
        if u16_at(&tail, at + 10) == u16::MAX || offset == u32::MAX {
            return Err(damaged("it is of the kind for over 65,534 members or 4 GiB, which is not read"));
        }
        if size > DIRECTORY_LIMIT {
            return Err(damaged("its list of members is too large"));
        }
        // Data before the archive (a self-extracting stub) shifts all offsets.
        let end = start + at as u64;
        let begin = end.checked_sub(u64::from(size)).ok_or_else(|| damaged("its list of members does not fit"))?;
        let shift = begin.checked_sub(u64::from(offset)).ok_or_else(|| damaged("its offsets do not fit"))?;
        let mut directory = vec![0; size as usize];
        file.read_exact_at(&mut directory, begin).map_err(|error| Error::read(&path, error))?;
        let members = members(&directory, shift).ok_or_else(|| damaged("its list of members is damaged"))?;
        Ok(Some(Self { path, file, members }))
    }

    /// The first components of the members' names.
    pub(super) fn children(&self) -> BTreeSet<String> {
        self.members.iter().filter_map(|member| member.name.split('/').next()).map(str::to_owned).collect()
    }

    /// The names of all members.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// A member's content; `None` where there is no such file.
    pub(super) fn member(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(member) = self.members.iter().rev().find(|member| member.name == name) else { return Ok(None) };
        let damaged = || Error::Archive { path: self.path.clone(), problem: format!("`{name}` cannot be unpacked") };
        self.unpack(member).map(Some).ok_or_else(damaged)
    }

    fn unpack(&self, member: &Member) -> Option<Vec<u8>> {
        let mut header = [0; 30];
        self.file.read_exact_at(&mut header, member.header_offset).ok()?;
        let names = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let length = self.file.metadata().ok()?.len();
        if header[..4] != *b"PK\x03\x04" || u64::from(member.packed_bytes) > length {
            return None;
        }
        let mut packed = vec![0; usize::try_from(member.packed_bytes).ok()?];
        self.file.read_exact_at(&mut packed, member.header_offset + 30 + names).ok()?;
        let text = match member.method {
            0 => packed,
            8 => {
                let mut text = Vec::new();
                flate2::read::DeflateDecoder::new(&*packed).take(MEMBER_LIMIT).read_to_end(&mut text).ok()?;
                text
            }
            _ => return None,
        };
        let mut checksum = flate2::Crc::new();
        checksum.update(&text);
        (checksum.sum() == member.checksum).then_some(text)
    }
}

fn members(mut directory: &[u8], shift: u64) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    while directory.starts_with(b"PK\x01\x02") {
        if directory.len() < 46 {
            return None;
        }
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(directory, at)));
        let name = directory.get(46..46 + lengths[0])?;
        members.push(Member {
            name: String::from_utf8_lossy(name).into_owned(),
            method: u16_at(directory, 10),
            checksum: u32_at(directory, 16),
            packed_bytes: u32_at(directory, 20),
            header_offset: u64::from(u32_at(directory, 42)) + shift,
        });
        directory = directory.get(46 + lengths.iter().sum::<usize>()..)?;
    }
    Some(members)
}

/// The caller has checked the length.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The caller has checked the length.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 0u32..200, offset in 0u32..50) {
            bytes.splice(0..0, *b"PK\x03\x04");
            bytes.extend(*b"PK\x01\x02");
            bytes.extend([0; 42]);
            bytes.extend(*b"PK\x05\x06\0\0\0\0\0\0\0\0");
            bytes.extend(size.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend([0; 2]);
            crate::fuzzing::archive(&bytes);
        }
    }
}
