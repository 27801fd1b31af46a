//! Reading layers that others wrote, without trusting them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use super::header::BLOCK;
use super::{Entry, Kind, Metadata};

/// Long names and PAX headers of one entry that are larger than this together are an attack or damage: real ones have
/// hundreds of bytes.
const MAX_EXTENSION_BYTES: u64 = 1024 * 1024;
/// Linux takes no longer path.
const MAX_PATH_BYTES: usize = 4096;

/// A layer that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Reading or decompressing it failed, or it is not what its digest promises.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
    /// Not a tar archive, or a damaged one.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A name that would leave the root, or that no file system takes.
    #[error("its entry `{}` {why}", path.display())]
    Unsafe {
        /// The name as it stands in the layer.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something that layers may hold and that is not supported here.
    #[error("its entry `{}` is {what}, which is not supported", path.display())]
    Unsupported {
        /// The name.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// More than can be meant seriously.
    #[error("it holds more than {limit} {what}")]
    TooMuch {
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
}

/// What [`LayerError::TooMuch`] says of a layer that is too large.
pub(super) const UNPACKED: &str = "bytes when it is unpacked";

impl LayerError {
    /// Whether the layer unpacks to more than was allowed.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooMuch { what, .. } if *what == UNPACKED)
    }
}

impl From<io::Error> for LayerError {
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}

/// What one layer may unpack to if nobody says otherwise, in bytes. Large models make layers of 100 GB; without a bound, a
/// download of megabytes could keep a build busy for days.
pub const MAX_LAYER_BYTES: u64 = 256 << 30;

/// The archive in `blob`, whichever way it is compressed: told by its first bytes, not by its media type. It ends with an
/// error if it unpacks to more than [`MAX_LAYER_BYTES`].
///
/// # Errors
/// Reading the first bytes, or setting the decoder up.
pub fn decompressed(blob: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    decompressed_within(blob, MAX_LAYER_BYTES)
}

/// The same with another bound.
///
/// # Errors
/// Reading the first bytes, or setting the decoder up.
pub fn decompressed_within(mut blob: Box<dyn Read + Send>, limit_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::with_capacity(4);
    blob.by_ref().take(4).read_to_end(&mut magic)?;
    let kind = magic.clone();
    let whole = BufReader::with_capacity(128 * 1024, Cursor::new(magic).chain(blob));
    let plain: Box<dyn Read + Send> = match kind.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    };
    Ok(Box::new(Bounded { inner: plain, limit_bytes, left: limit_bytes }))
}

/// Fails once there is more than a limit.
struct Bounded {
    inner: Box<dyn Read + Send>,
    limit_bytes: u64,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more than is left, to tell the end from excess.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(buffer.len()).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        let too_much = || LayerError::TooMuch { limit: self.limit_bytes, what: UNPACKED };
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(too_much()))?;
        Ok(read)
    }
}

/// Reads the entries of an archive one after the other. After an entry, the reader itself gives its content.
pub struct TarReader<R> {
    inner: R,
    /// Content of the current entry that has not been read.
    left: u64,
    padding: u64,
    /// Bytes of extended headers that the next entry may still have.
    extensions_left: u64,
    ended: bool,
}

impl<R: Read + Seek> TarReader<R> {
    /// Where the current entry's content begins in the inner reader, if none of it was read.
    ///
    /// # Errors
    /// What asking for the position meets.
    pub fn content_position(&mut self) -> io::Result<u64> {
        self.inner.stream_position()
    }

    /// Moves past the current entry's content without reading it. That it is all there is not checked.
    ///
    /// # Errors
    /// What moving meets.
    pub fn seek_past_content(&mut self) -> Result<(), LayerError> {
        let skip = i64::try_from(self.left.saturating_add(self.padding));
        let skip = skip.map_err(|_| LayerError::Damaged("a file is larger than any archive"))?;
        self.inner.seek_relative(skip)?;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> TarReader<R> {
    /// Reads from `inner`, which must be uncompressed.
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, extensions_left: 0, ended: false }
    }

    /// The next entry, or `None` at the end. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// Damage, names that leave the root, and kinds of entries that no image needs.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extension = Extension::default();
        self.extensions_left = MAX_EXTENSION_BYTES;
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            match header[156] {
                b'L' => extension.path = Some(trimmed(self.extension(size)?)),
                b'K' => extension.link = Some(trimmed(self.extension(size)?)),
                b'x' => extension.pax(&self.extension(size)?)?,
                // Global PAX headers hold comments (git), GNU volume headers hold labels.
                b'g' | b'V' => self.begin(size),
                _ => return self.entry(&header, size, extension).map(Some),
            }
        }
    }

    /// Reads to the end of the inner reader, so that a digest over all of it gets checked.
    ///
    /// # Errors
    /// Failed reads, among them content that is not what its digest promises.
    pub fn drain(mut self) -> Result<(), LayerError> {
        io::copy(&mut self.inner, &mut io::sink())?;
        Ok(())
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extension: Extension) -> Result<Entry, LayerError> {
        let raw_path = extension.path.unwrap_or_else(|| header_path(header));
        let raw_link = extension.link.unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        let named_as_directory = raw_path.ends_with(b"/");
        let path = plain_path(&raw_path)?;
        if extension.sparse || header[156] == b'S' {
            return Err(LayerError::Unsupported { path, what: "a sparse file" });
        }
        let size = extension.size.unwrap_or(size);
        if raw_link.contains(&0) {
            return Err(LayerError::Unsafe { path, why: "is a link with a NUL in its target" });
        }
        let device = || Ok::<_, LayerError>((device_number(&header[329..337])?, device_number(&header[337..345])?));
        let kind = match header[156] {
            b'0' | 0 if named_as_directory => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File { size },
            b'1' => Kind::Hardlink { target: plain_path(&raw_link)? },
            b'2' => Kind::Symlink { target: OsString::from_vec(raw_link).into() },
            b'3' => device().map(|(major, minor)| Kind::CharacterDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(LayerError::Unsupported { path, what: "of a kind that tar does not define" }),
        };
        if path.as_os_str().is_empty() && kind != Kind::Directory {
            return Err(LayerError::Unsafe { path, why: "would replace the root" });
        }
        // Only files have content, whatever a link's header says (as Go's reader treats it).
        self.begin(if matches!(kind, Kind::File { .. }) { size } else { 0 });
        let metadata = Metadata {
            mode: small(&header[100..108])? & 0o7777,
            uid: extension.uid.map_or_else(|| number(&header[108..116]), Ok)?,
            gid: extension.gid.map_or_else(|| number(&header[116..124]), Ok)?,
            mtime: extension.mtime.map_or_else(|| signed(&header[136..148]), Ok)?,
            xattrs: extension.xattrs,
        };
        Ok(Entry { path, kind, metadata })
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(0) => return Err(LayerError::Damaged("it ends inside a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let own: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if number(&block[148..156])? != sum - own + 8 * u64::from(b' ') {
            return Err(LayerError::Damaged("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<(), LayerError> {
        let skip = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.inner.by_ref().take(skip), &mut io::sink())?;
        // Some writers leave out the padding of the last entry.
        if skipped < self.left {
            return Err(LayerError::Damaged("it ends inside a file"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        let left = self.extensions_left.checked_sub(size);
        self.extensions_left = left.ok_or(LayerError::TooMuch {
            limit: MAX_EXTENSION_BYTES,
            what: "bytes in the name and attributes of one entry",
        })?;
        self.begin(size);
        let mut content = Vec::new();
        self.by_ref().read_to_end(&mut content)?;
        if self.left > 0 {
            return Err(LayerError::Damaged("it ends inside an extended header"));
        }
        Ok(content)
    }
}

impl<R: Read> Read for TarReader<R> {
    /// Reads the current entry's content, to its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(buffer.len()).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends inside a file"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What extended headers say about the entry that follows them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    sparse: bool,
}

impl Extension {
    /// Reads records of the form `length name=value\n`.
    fn pax(&mut self, mut records: &[u8]) -> Result<(), LayerError> {
        const BAD: LayerError = LayerError::Damaged("a PAX record is malformed");
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(BAD)?;
            let length: usize = text(&records[..space])?.parse().map_err(|_| BAD)?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(BAD);
            }
            let (record, rest) = (&records[space + 1..length - 1], &records[length..]);
            records = rest;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BAD)?;
            let (name, value) = (text(&record[..equals])?, &record[equals + 1..]);
            let unsigned = || text(value)?.parse().map_err(|_| BAD);
            match name {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(unsigned()?),
                "uid" => self.uid = Some(unsigned()?),
                "gid" => self.gid = Some(unsigned()?),
                // Seconds and a fraction; layers count whole seconds.
                "mtime" => {
                    let seconds = text(value)?.split('.').next().unwrap_or_default();
                    self.mtime = Some(seconds.parse().map_err(|_| BAD)?);
                }
                _ if name.starts_with("GNU.sparse.") => self.sparse = true,
                _ => {
                    if let Some(attribute) = name.strip_prefix("SCHILY.xattr.") {
                        self.xattrs.insert(attribute.to_owned(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, LayerError> {
    std::str::from_utf8(bytes).map_err(|_| LayerError::Damaged("a PAX record is not text"))
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// A GNU long name, without the NUL that ends it.
fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(until_nul(&name).len());
    name
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    // GNU's own format ("ustar  ") keeps times where POSIX has the prefix.
    let prefix = if &header[257..263] == b"ustar\0" { until_nul(&header[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// Octal digits among spaces and NULs, or GNU's base-256 with the top bit set.
fn signed(field: &[u8]) -> Result<i64, LayerError> {
    const BAD: LayerError = LayerError::Damaged("a number in a header is malformed");
    if field[0] & 0x80 != 0 {
        let start = if field[0] & 0x40 == 0 { i128::from(field[0] & 0x7f) } else { i128::from(field[0]) - 0x100 };
        let value = field[1..].iter().fold(start, |value, &byte| value << 8 | i128::from(byte));
        return i64::try_from(value).map_err(|_| BAD);
    }
    let digits = std::str::from_utf8(field).map_err(|_| BAD)?.trim_matches([' ', '\0']);
    if digits.is_empty() {
        return Ok(0);
    }
    i64::from_str_radix(digits, 8).map_err(|_| BAD)
}

fn number(field: &[u8]) -> Result<u64, LayerError> {
    u64::try_from(signed(field)?).map_err(|_| LayerError::Damaged("a number in a header is negative"))
}

fn small(field: &[u8]) -> Result<u32, LayerError> {
    u32::try_from(number(field)?).map_err(|_| LayerError::Damaged("a number in a header is too large"))
}

/// A device's number: no kernel has larger ones than the seven octal digits of a header can say.
fn device_number(field: &[u8]) -> Result<u32, LayerError> {
    let too_large = LayerError::Damaged("a number in a header is too large");
    small(field).and_then(|number| if number <= 0o777_7777 { Ok(number) } else { Err(too_large) })
}

/// The path without leading `/` and `./`; names that climb are refused.
fn plain_path(raw: &[u8]) -> Result<PathBuf, LayerError> {
    let given = Path::new(std::ffi::OsStr::from_bytes(raw));
    let refuse = |why| Err(LayerError::Unsafe { path: given.to_owned(), why });
    if raw.contains(&0) {
        return refuse("has a NUL in its name");
    }
    if raw.len() > MAX_PATH_BYTES {
        return refuse("has a longer name than any file can have");
    }
    let mut path = PathBuf::new();
    for part in given.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => return refuse("climbs out of the root"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(path: &[u8], flag: u8, size: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..path.len()].copy_from_slice(path);
        block[100..107].copy_from_slice(b"0000644");
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        checked(block)
    }

    fn checked(mut block: Vec<u8>) -> Vec<u8> {
        block[148..156].fill(b' ');
        let sum: u64 = block[..BLOCK].iter().map(|&byte| u64::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn first(archive: &[u8]) -> Result<Option<Entry>, LayerError> {
        TarReader::new(archive).next_entry()
    }

    #[test]
    fn hostile_names_are_refused() {
        for (path, why) in [
            (&b"../etc/passwd"[..], "climbs out of the root"),
            (b"a/../../etc/passwd", "climbs out of the root"),
            (b"/..", "climbs out of the root"),
        ] {
            assert!(first(&header(path, b'0', "0")).unwrap_err().to_string().contains(why), "{path:?}");
        }
        assert!(first(&header(b".", b'2', "0")).unwrap_err().to_string().contains("replace the root"));
        let absolute = first(&header(b"/etc//./passwd", b'0', "0")).unwrap().unwrap();
        assert_eq!(absolute.path, Path::new("etc/passwd"));
        let mut link = header(b"x", b'1', "0");
        link[157..165].copy_from_slice(b"../../up");
        assert!(first(&checked(link)).unwrap_err().to_string().contains("climbs"));
        let mut deep = header(b"x", b'L', "20000");
        deep.extend(b"d/".repeat(4096));
        deep.extend(header(b"x", b'0', "0"));
        assert!(first(&deep).unwrap_err().to_string().contains("longer name"));
    }

    #[test]
    fn damage_and_excess_are_refused() {
        let mut broken = header(b"f", b'0', "0");
        broken[0] = b'g';
        for (archive, why) in [
            (broken, "checksum"),
            (header(b"f", b'0', "0")[..300].to_vec(), "ends inside a header"),
            (header(b"f", b'0', "zz"), "malformed"),
            (header(b"f", b'L', "77777777777"), "more than 1048576 bytes in the name"),
            (header(b"f", b'x', "5"), "cannot be read"),
            ([header(b"f", b'x', "5"), b"9 a=b".to_vec(), vec![0; 507]].concat(), "malformed"),
            (header(b"f", b'S', "0"), "sparse"),
            (header(b"f", b'Z', "0"), "does not define"),
        ] {
            let said = first(&archive).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        let short = header(b"f", b'0', "7777");
        let mut reader = TarReader::new(&short[..]);
        reader.next_entry().unwrap();
        assert!(reader.next_entry().unwrap_err().to_string().contains("ends inside a file"));
    }

    #[test]
    fn extended_headers_of_one_entry_are_bounded_together() {
        let one = [header(b"f", b'x', "1750000"), vec![b'9'; 0o175_0000]].concat();
        let said = |archive: &[u8]| first(archive).unwrap_err().to_string();
        let long = |size: usize| {
            let mut bytes = header(b"x", b'L', &format!("{size:o}"));
            bytes.extend(vec![b'd'; size.next_multiple_of(BLOCK)]);
            bytes
        };
        assert!(
            said(&[long(600_000), long(600_000), header(b"f", b'0', "0")].concat()).contains("more than 1048576 bytes")
        );
        assert!(said(&one).contains("malformed"), "within the bound it is read");
    }

    #[test]
    fn what_unpacks_to_more_than_it_may_is_an_error_and_exactly_as_much_is_not() {
        let packed = zstd::encode_all(&[0; 5000][..], 1).unwrap();
        let unpack = |limit| {
            let mut plain = decompressed_within(Box::new(Cursor::new(packed.clone())), limit).unwrap();
            io::copy(&mut plain, &mut io::sink()).map_err(LayerError::from)
        };
        assert_eq!(unpack(5000).unwrap(), 5000);
        let said = unpack(4999).unwrap_err().to_string();
        assert_eq!(said, "it holds more than 4999 bytes when it is unpacked");
    }

    #[test]
    fn other_writers_dialects_are_read() {
        let mut gnu = header(b"f", b'0', "0");
        gnu[257..265].copy_from_slice(b"ustar  \0");
        gnu[345..350].copy_from_slice(b"times");
        gnu[136..148].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        gnu[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x40, 0, 0]);
        let entry = first(&checked(gnu)).unwrap().unwrap();
        assert_eq!((entry.path.as_path(), entry.metadata.mtime, entry.metadata.uid), (Path::new("f"), -2, 0x40_0000));
        let pax = [header(b"p", b'x', "41"), b"15 path=a/long\n18 mtime=1.250000\n".to_vec()].concat();
        let pax = [pax.clone(), vec![0; 1024 - pax.len()], header(b"short", 0, "0")].concat();
        let entry = first(&pax).unwrap().unwrap();
        assert_eq!((entry.path.as_path(), entry.metadata.mtime), (Path::new("a/long"), 1));
    }

    #[test]
    fn compression_is_told_by_content() {
        let plain = b"plain text".to_vec();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &plain).unwrap();
        for packed in [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()] {
            let mut back = Vec::new();
            decompressed(Box::new(Cursor::new(packed))).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(back, plain);
        }
        let mut empty = Vec::new();
        decompressed(Box::new(io::empty())).unwrap().read_to_end(&mut empty).unwrap();
        assert!(empty.is_empty());
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(noise in prop::collection::vec(any::<u8>(), 0..64), at in 0..700_usize) {
            let mut archive = [header(b"dir/file", b'0', "5"), b"hello".to_vec(), vec![0; 507]].concat();
            for (offset, byte) in noise.iter().enumerate() {
                if let Some(place) = archive.get_mut(at + offset) {
                    *place = *byte;
                }
            }
            let archive = if at < BLOCK { [checked(archive[..BLOCK].to_vec()), archive[BLOCK..].to_vec()].concat() } else { archive };
            let mut reader = TarReader::new(&archive[..]);
            while let Ok(Some(entry)) = reader.next_entry() {
                prop_assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
