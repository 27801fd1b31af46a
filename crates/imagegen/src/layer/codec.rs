//! A layer's index as bytes: the **path index** that is recorded with published images.
//!
//! # Format, version 2
//! Media type [`PATH_INDEX`]. One zstd frame whose window is at most 8 MiB; unpacked:
//!
//! | part | bytes |
//! |---|---|
//! | magic | `vast path index 2` and LF |
//! | entries | as below, in the order of the layer's archive, whiteouts included |
//! | end | the byte `ff`, the number of entries (varint), the layer's diff id (32 bytes); nothing follows |
//!
//! | part of an entry | bytes |
//! |---|---|
//! | kind | 0 directory, 1 file, 2 symbolic link, 3 hard link, 4 pipe, 5 character device, 6 block device |
//! | path | varint: how many bytes it shares with the start of the path before; text: the rest |
//! | metadata | varints: mode, uid, gid; zigzag varint: time in seconds since 1970 |
//! | attributes | varint: how many; for each two texts, name and value, sorted by name |
//! | file | varint: size; 32 bytes: the BLAKE3 digest of its content |
//! | link | text: where it points; of a hard link a path like the entry's |
//! | device | varints: major, minor |
//!
//! A varint is LEB128 of at most 64 bits; a text is its length as a varint and its bytes, which need not be UTF-8. The same
//! index gives the same bytes with the same version of zstd. A reader must refuse what it does not understand: an index
//! that is half understood would prove things that are not so.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::index::MAX_ENTRIES;
use super::{ContentDigest, Entry, Kind, LayerError, LayerIndex, Metadata};
use crate::digest::Digest;

/// The media type of a path index.
pub const PATH_INDEX: &str = "application/vnd.vast.imagegen.path-index.v2+zstd";

const MAGIC: &[u8] = b"vast path index 2\n";
const END: u8 = 0xff;

/// Fast to write, and what is larger than this gains nothing: half of an index are digests.
const LEVEL: i32 = 3;
/// A frame must not make its reader allocate as much as it pleases.
const MAX_WINDOW_LOG: u32 = 23;
/// The paths, targets and attributes of all entries together, in bytes; the largest images known have a tenth of it.
const MAX_TEXT_BYTES: u64 = 256 << 20;
/// Linux takes no longer path.
const MAX_PATH_BYTES: u64 = 4096;
/// More than any file system keeps for one file.
const MAX_ATTRIBUTE_BYTES: u64 = 64 << 10;

/// Writes a path index while the layer is written or read; memory is what the compressed index takes.
pub struct IndexWriter {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    last: Vec<u8>,
    count: u64,
}

impl IndexWriter {
    /// Begins an index.
    ///
    /// # Errors
    /// Only for want of memory, as all of this type.
    pub fn new() -> io::Result<Self> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        encoder.write_all(MAGIC)?;
        Ok(Self { encoder, last: Vec::new(), count: 0 })
    }

    /// Adds an entry; of a file with the digest of its content.
    pub fn push(&mut self, entry: &Entry, content: Option<&ContentDigest>) -> io::Result<()> {
        let path = entry.path.as_os_str().as_bytes();
        let shared = path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        let mut bytes = vec![number_of(&entry.kind)];
        varint(&mut bytes, shared as u64);
        text(&mut bytes, &path[shared..]);
        let Metadata { mode, uid, gid, mtime, xattrs } = &entry.metadata;
        for number in [u64::from(*mode), *uid, *gid, zigzag(*mtime), xattrs.len() as u64] {
            varint(&mut bytes, number);
        }
        for (name, value) in xattrs {
            text(&mut bytes, name.as_bytes());
            text(&mut bytes, value);
        }
        match &entry.kind {
            Kind::File { size } => {
                let content = content.ok_or_else(|| io::Error::other("a file's digest is not known"))?;
                varint(&mut bytes, *size);
                bytes.extend_from_slice(content.as_bytes());
            }
            Kind::Symlink { target } | Kind::Hardlink { target } => text(&mut bytes, target.as_os_str().as_bytes()),
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                varint(&mut bytes, u64::from(*major));
                varint(&mut bytes, u64::from(*minor));
            }
            Kind::Directory | Kind::Fifo => {}
        }
        self.encoder.write_all(&bytes)?;
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
        self.count += 1;
        Ok(())
    }

    /// Ends the index of the layer with this diff id.
    pub fn finish(mut self, diff_id: &Digest) -> io::Result<Vec<u8>> {
        let mut bytes = vec![END];
        varint(&mut bytes, self.count);
        bytes.extend_from_slice(diff_id.as_bytes());
        self.encoder.write_all(&bytes)?;
        self.encoder.finish()
    }
}

impl LayerIndex {
    /// The path index of the layer with this diff id.
    ///
    /// # Errors
    /// The digest of a file's content is not known.
    pub fn encode(&self, diff_id: &Digest) -> io::Result<Vec<u8>> {
        let mut writer = IndexWriter::new()?;
        for (number, entry) in self.entries.iter().enumerate() {
            writer.push(entry, self.content(number).as_ref())?;
        }
        writer.finish(diff_id)
    }

    /// Reads a path index, and which layer's it is by its diff id.
    ///
    /// # Errors
    /// [`LayerError`], for anything that this version does not write: damage, hostile names, excess.
    pub fn decode(encoded: impl Read) -> Result<(Self, Digest), LayerError> {
        let mut decoder = zstd::stream::read::Decoder::new(encoded)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        let mut reader = Reader { inner: BufReader::with_capacity(64 << 10, decoder), text_bytes: 0 };
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(LayerError::Damaged("it is no path index of a version that is known"));
        }
        let mut index = Self::default();
        let mut last = Vec::new();
        loop {
            let kind = reader.byte()?;
            if kind == END {
                break;
            }
            if index.entries.len() == MAX_ENTRIES {
                return Err(LayerError::TooMuch { limit: MAX_ENTRIES as u64, what: "entries" });
            }
            let (entry, content) = reader.entry(kind, &mut last)?;
            index.entries.push(entry);
            index.contents.push(content);
        }
        if reader.varint()? != index.entries.len() as u64 {
            return Err(LayerError::Damaged("it has another number of entries than it says"));
        }
        let diff_id = Digest::from_bytes(reader.digest()?);
        if reader.inner.read(&mut [0])? != 0 {
            return Err(LayerError::Damaged("something follows its end"));
        }
        Ok((index, diff_id))
    }
}

fn number_of(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => 0,
        Kind::File { .. } => 1,
        Kind::Symlink { .. } => 2,
        Kind::Hardlink { .. } => 3,
        Kind::Fifo => 4,
        Kind::CharacterDevice { .. } => 5,
        Kind::BlockDevice { .. } => 6,
    }
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    varint(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

struct Reader<R> {
    inner: R,
    /// The text so far.
    text_bytes: u64,
}

impl<R: Read> Reader<R> {
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, LayerError> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LayerError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LayerError::Damaged("it ends before its end"),
            _ => error.into(),
        })
    }

    fn byte(&mut self) -> Result<u8, LayerError> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, LayerError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit; longer forms of a number than needed are refused, so there is one.
            if shift == 63 && part > 1 || byte == 0 && shift > 0 {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(LayerError::Damaged("a number in it is malformed"))
    }

    fn small(&mut self) -> Result<u32, LayerError> {
        u32::try_from(self.varint()?).map_err(|_| LayerError::Damaged("a number in it is too large"))
    }

    fn digest(&mut self) -> Result<[u8; 32], LayerError> {
        let mut bytes = [0; 32];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self, limit: u64) -> Result<Vec<u8>, LayerError> {
        let length = self.length(limit)?;
        self.bytes(length)
    }

    /// The length of a text that follows.
    fn length(&mut self, limit: u64) -> Result<usize, LayerError> {
        let length = self.varint()?;
        if length > limit {
            return Err(LayerError::TooMuch { limit, what: "bytes in one name or attribute" });
        }
        self.charge(length)?;
        Ok(usize::try_from(length).unwrap_or_default())
    }

    fn charge(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.text_bytes += bytes;
        if self.text_bytes > MAX_TEXT_BYTES {
            return Err(LayerError::TooMuch { limit: MAX_TEXT_BYTES, what: "bytes of names" });
        }
        Ok(())
    }

    fn entry(&mut self, kind: u8, last: &mut Vec<u8>) -> Result<(Entry, Option<ContentDigest>), LayerError> {
        let shared = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if shared > last.len() {
            return Err(LayerError::Damaged("a path shares more than there is"));
        }
        last.truncate(shared);
        let rest = self.length(MAX_PATH_BYTES)?;
        // Each path is kept in full.
        self.charge(shared as u64)?;
        last.resize(shared + rest, 0);
        self.fill(&mut last[shared..])?;
        let path = plain(last)?;
        let (mode, uid, gid) = (self.small()?, self.varint()?, self.varint()?);
        let mtime = unzigzag(self.varint()?);
        if mode > 0o7777 {
            return Err(LayerError::Damaged("a mode in it has bits that no mode has"));
        }
        let xattrs = self.attributes()?;
        let mut content = None;
        let kind = match kind {
            0 => Kind::Directory,
            1 => {
                let size = self.varint()?;
                content = Some(ContentDigest::from_bytes(self.digest()?));
                Kind::File { size }
            }
            2 => Kind::Symlink { target: self.target()? },
            3 => Kind::Hardlink { target: plain(&self.text(MAX_PATH_BYTES)?)? },
            4 => Kind::Fifo,
            5 => Kind::CharacterDevice { major: self.small()?, minor: self.small()? },
            6 => Kind::BlockDevice { major: self.small()?, minor: self.small()? },
            _ => return Err(LayerError::Damaged("it has an entry of an unknown kind")),
        };
        if path.as_os_str().is_empty() && kind != Kind::Directory {
            return Err(LayerError::Unsafe { path, why: "would replace the root" });
        }
        Ok((Entry { path, kind, metadata: Metadata { mode, uid, gid, mtime, xattrs } }, content))
    }

    fn target(&mut self) -> Result<PathBuf, LayerError> {
        let target = PathBuf::from(OsString::from_vec(self.text(MAX_PATH_BYTES)?));
        if target.as_os_str().as_bytes().contains(&0) {
            return Err(LayerError::Unsafe { path: target, why: "has a NUL in its name" });
        }
        Ok(target)
    }

    fn attributes(&mut self) -> Result<BTreeMap<String, Vec<u8>>, LayerError> {
        let mut attributes = BTreeMap::new();
        for _ in 0..self.varint()? {
            let name = String::from_utf8(self.text(MAX_ATTRIBUTE_BYTES)?);
            let name = name.map_err(|_| LayerError::Damaged("an attribute's name is not text"))?;
            let ordered = attributes.last_key_value().is_none_or(|(last, _)| *last < name);
            let value = self.text(MAX_ATTRIBUTE_BYTES)?;
            if !ordered {
                return Err(LayerError::Damaged("attributes are not in order"));
            }
            attributes.insert(name, value);
        }
        Ok(attributes)
    }
}

/// A path of an entry: relative, and in its one plain form.
fn plain(bytes: &[u8]) -> Result<PathBuf, LayerError> {
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    let is_plain = bytes.is_empty() || bytes.split(|&byte| byte == b'/').all(is_name);
    if is_plain && bytes.len() as u64 <= MAX_PATH_BYTES && !bytes.contains(&0) {
        Ok(path.to_owned())
    } else {
        Err(LayerError::Unsafe { path: path.to_owned(), why: "is no plain path" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> impl Strategy<Value = Metadata> {
        let xattrs = prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(any::<u8>(), 0..8), 0..3);
        (0..0o10000_u32, any::<u64>(), any::<u64>(), any::<i64>(), xattrs)
            .prop_map(|(mode, uid, gid, mtime, xattrs)| Metadata { mode, uid, gid, mtime, xattrs })
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        let part = prop::collection::vec((1..=255_u8).prop_filter("no slash", |byte| *byte != b'/'), 1..6);
        let part = part.prop_filter("no dots", |part| !matches!(part.as_slice(), b"." | b".."));
        prop::collection::vec(part, 1..4).prop_map(|parts| OsString::from_vec(parts.join(&b'/')).into())
    }

    fn entry() -> impl Strategy<Value = (Entry, Option<ContentDigest>)> {
        let kind = prop_oneof![
            Just(Kind::Directory),
            any::<u64>().prop_map(|size| Kind::File { size }),
            prop::collection::vec(1..=255_u8, 0..9)
                .prop_map(|target| Kind::Symlink { target: OsString::from_vec(target).into() }),
            path().prop_map(|target| Kind::Hardlink { target }),
            Just(Kind::Fifo),
            (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Kind::CharacterDevice { major, minor }),
            (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        ];
        (path(), kind, metadata(), any::<[u8; 32]>()).prop_map(|(path, kind, metadata, content)| {
            let content = matches!(kind, Kind::File { .. }).then(|| ContentDigest::from_bytes(content));
            (Entry { path, kind, metadata }, content)
        })
    }

    proptest! {
        #[test]
        fn an_index_comes_back_as_it_was(entries in prop::collection::vec(entry(), 0..20), diff_id: [u8; 32]) {
            let (entries, contents) = entries.into_iter().unzip();
            let index = LayerIndex { entries, contents };
            let diff_id = Digest::from_bytes(diff_id);
            let encoded = index.encode(&diff_id).unwrap();
            prop_assert_eq!(&encoded, &index.encode(&diff_id).unwrap());
            prop_assert_eq!(LayerIndex::decode(&encoded[..]).unwrap(), (index, diff_id));
        }

        #[test]
        fn whatever_is_read_is_written_again_as_it_was(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = [MAGIC, &body].concat();
            if let Ok((index, diff_id)) = LayerIndex::decode(&zstd::encode_all(&whole[..], 1).unwrap()[..]) {
                prop_assert_eq!(zstd::decode_all(&index.encode(&diff_id).unwrap()[..]).unwrap(), whole);
            }
        }
    }

    fn decoded(body: &[u8]) -> Result<(LayerIndex, Digest), LayerError> {
        LayerIndex::decode(&zstd::encode_all(&[MAGIC, body].concat()[..], 1).unwrap()[..])
    }

    #[test]
    fn damage_and_excess_are_refused() {
        let end = [&[END, 0][..], &[7; 32]].concat();
        assert_eq!(decoded(&end).unwrap(), (LayerIndex::default(), Digest::from_bytes([7; 32])));
        let directory = |path: &[u8]| {
            [&[0, 0, u8::try_from(path.len()).unwrap()], path, &[0, 0, 0, 0, 0], &[END, 1], &[7; 32]].concat()
        };
        assert_eq!(decoded(&directory(b"a/b")).unwrap().0.entries[0].path, Path::new("a/b"));
        assert!(decoded(&directory(b"")).is_ok(), "the root");
        for path in [&b"/a"[..], b"../a", b"a/../b", b"a//b", b"a/", b"./a", b"a/.", b"a\0b"] {
            assert!(decoded(&directory(path)).unwrap_err().to_string().contains("no plain path"), "{path:?}");
        }
        for (body, why) in [
            (&end[..end.len() - 1], "ends before"),
            (&[&end[..], b"x"].concat(), "follows"),
            (&[&[END, 1][..], &[7; 32]].concat(), "number of entries"),
            (&[9, 0, 0, 0, 0, 0, 0, 0], "unknown kind"),
            (&[0, 1, 0], "shares more"),
            (&[0, 0x80, 0], "malformed"),
            (&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], "more than 4096"),
        ] {
            let error = decoded(body).unwrap_err().to_string();
            assert!(error.contains(why), "{error}: {why}");
        }
        assert!(LayerIndex::decode(&zstd::encode_all(&b"vast path index 1\n"[..], 1).unwrap()[..]).is_err());
        assert!(LayerIndex::decode(&b"noise"[..]).is_err());
    }
}
