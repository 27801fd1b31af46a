//! The 512-byte headers of tar archives: POSIX ustar, and PAX records where ustar cannot say it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Entry, Kind};

pub(super) const BLOCK: usize = 512;
/// The largest number in 7 and in 11 octal digits.
const MAX_7: u64 = 0o777_7777;
const MAX_11: u64 = 0o777_7777_7777;

/// The blocks that introduce `entry`, before its content.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.as_os_str().as_bytes().to_vec();
    if path.is_empty() {
        path.extend_from_slice(b"./");
    } else if entry.kind == Kind::Directory {
        path.push(b'/');
    }
    let (flag, link, size, device) = match &entry.kind {
        Kind::File { size } => (b'0', None, *size, None),
        Kind::Hardlink { target } => (b'1', Some(target), 0, None),
        Kind::Symlink { target } => (b'2', Some(target), 0, None),
        Kind::CharacterDevice { major, minor } => (b'3', None, 0, Some((*major, *minor))),
        Kind::BlockDevice { major, minor } => (b'4', None, 0, Some((*major, *minor))),
        Kind::Directory => (b'5', None, 0, None),
        Kind::Fifo => (b'6', None, 0, None),
    };
    let link = link.map_or(&b""[..], |target| target.as_os_str().as_bytes());
    let metadata = &entry.metadata;

    let mut records = Vec::new();
    let (prefix, name) = split(&path).unwrap_or_else(|| {
        records.push(("path".to_owned(), path.clone()));
        (&b""[..], clip(&path))
    });
    if link.len() > 100 || !link.is_ascii() {
        records.push(("linkpath".to_owned(), link.to_vec()));
    }
    for (name, value, largest) in [("uid", metadata.uid, MAX_7), ("gid", metadata.gid, MAX_7), ("size", size, MAX_11)] {
        if value > largest {
            records.push((name.to_owned(), value.to_string().into_bytes()));
        }
    }
    let mtime = u64::try_from(metadata.mtime).ok().filter(|&mtime| mtime <= MAX_11);
    if mtime.is_none() {
        records.push(("mtime".to_owned(), metadata.mtime.to_string().into_bytes()));
    }
    for (name, value) in &metadata.xattrs {
        records.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }

    let mut out = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        records.sort();
        let body: Vec<u8> = records.iter().flat_map(|(name, value)| record(name, value)).collect();
        let fields = Fields { name: b"PaxHeaders/entry", flag: b'x', size: body.len() as u64, ..Fields::default() };
        out.extend_from_slice(&fields.block());
        out.extend_from_slice(&body);
        pad(&mut out);
    }
    let fields = Fields {
        name,
        prefix,
        mode: u64::from(metadata.mode & 0o7777),
        uid: if metadata.uid > MAX_7 { 0 } else { metadata.uid },
        gid: if metadata.gid > MAX_7 { 0 } else { metadata.gid },
        size: if size > MAX_11 { 0 } else { size },
        mtime: mtime.unwrap_or(0),
        flag,
        link: clip(link),
        device,
    };
    out.extend_from_slice(&fields.block());
    out
}

/// Fills up to a whole block with zeros.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// `length name=value\n`, the length counting itself (POSIX pax, "pax Extended Header").
fn record(name: &str, value: &[u8]) -> Vec<u8> {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() > length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", name.as_bytes(), b"=", value, b"\n"].concat()
}

/// `prefix` and `name` as ustar holds a path, unless it cannot: too long, or not ASCII.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash between the two is not stored; the name must not be empty.
    let earliest = path.len().checked_sub(101)?;
    let cut = (earliest..path.len().saturating_sub(1)).find(|&at| path[at] == b'/')?;
    (0 < cut && cut <= 155).then(|| (&path[..cut], &path[cut + 1..]))
}

fn clip(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(100)]
}

#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    flag: u8,
    link: &'a [u8],
    device: Option<(u32, u32)>,
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..self.name.len()].copy_from_slice(self.name);
        octal(&mut block[100..108], self.mode);
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        let (major, minor) = self.device.unwrap_or_default();
        octal(&mut block[329..337], u64::from(major));
        octal(&mut block[337..345], u64::from(minor));
        block[345..345 + self.prefix.len()].copy_from_slice(self.prefix);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..155], sum);
        block[155] = b' ';
        block
    }
}

/// Octal digits to the field's end, which is a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    let bytes = text.as_bytes();
    field[..digits].copy_from_slice(&bytes[bytes.len() - digits..]);
    field[digits] = 0;
}

/// Whether `path` can be an entry's: relative, and plain names only.
pub(super) fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}
