//! What a log says as it grows, in steps of bounded size.
//!
//! Nothing is queued: a reader asks when it can take more. One that falls far behind a fast log skips to where the log is now,
//! and is told how much it missed, so neither memory nor delay grows with the log's speed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::Directory;

/// The most that one step reads, in bytes.
const STEP_BYTES: u64 = 64 << 10;
/// Farther behind than this, a reader skips.
const BEHIND_BYTES: u64 = 1 << 20;
/// How far before the end it goes on then.
const RESUME_BYTES: u64 = 128 << 10;

/// One step of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// What was written, whole characters only; what is not UTF-8 is replaced.
    Text(String),
    /// So many bytes were left out.
    Skipped(u64),
    /// The log began anew: rotated, trimmed, or it had not existed.
    Restarted,
}

/// A reader of one log, which need not exist yet.
#[derive(Debug)]
pub struct Tail {
    directory: Directory,
    name: String,
    backlog_bytes: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    offset: u64,
    /// The first bytes of a character whose rest is not there yet.
    partial: Vec<u8>,
}

impl Tail {
    /// A reader that begins with the last `backlog_bytes`, at a line's start.
    #[must_use]
    pub fn new(directory: Directory, name: impl Into<String>, backlog_bytes: u64) -> Self {
        Self { directory, name: name.into(), backlog_bytes, open: None }
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next chunk, or `None` when there is nothing new.
    ///
    /// # Errors
    /// When the log cannot be read; an absent one is merely silent.
    pub fn step(&mut self) -> io::Result<Option<Chunk>> {
        let Some(open) = &mut self.open else { return self.reopen() };
        let metadata = open.file.metadata()?;
        if metadata.len() < open.offset {
            open.offset = start(&open.file, metadata.len(), self.backlog_bytes)?;
            open.partial.clear();
            return Ok(Some(Chunk::Restarted));
        }
        let behind = metadata.len() - open.offset;
        if behind == 0 {
            // What was written before the log was replaced is read to its end first.
            return if self.replaced() { self.reopen() } else { Ok(None) };
        }
        if behind > BEHIND_BYTES {
            let resume = start(&open.file, metadata.len(), RESUME_BYTES)?;
            let skipped = resume - open.offset;
            open.offset = resume;
            open.partial.clear();
            return Ok(Some(Chunk::Skipped(skipped)));
        }
        open.read(behind.min(STEP_BYTES))
    }

    /// Whether the name leads to another file than the open one.
    fn replaced(&self) -> bool {
        let inode = self.open.as_ref().map(|open| open.inode);
        fs::symlink_metadata(self.directory.path(&self.name)).is_ok_and(|now| Some(now.ino()) != inode)
    }

    fn reopen(&mut self) -> io::Result<Option<Chunk>> {
        let file = match self.directory.open(&self.name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let offset = start(&file, metadata.len(), self.backlog_bytes)?;
        self.open = Some(Open { inode: metadata.ino(), offset, partial: Vec::new(), file });
        Ok(Some(Chunk::Restarted))
    }
}

impl Open {
    fn read(&mut self, wanted: u64) -> io::Result<Option<Chunk>> {
        let mut bytes = std::mem::take(&mut self.partial);
        let kept = bytes.len();
        // Bounded by STEP_BYTES.
        bytes.resize(kept + usize::try_from(wanted).unwrap_or_default(), 0);
        let read = self.file.read_at(&mut bytes[kept..], self.offset)?;
        bytes.truncate(kept + read);
        self.offset += read as u64;
        self.partial = bytes.split_off(whole_characters(&bytes));
        Ok((!bytes.is_empty()).then(|| Chunk::Text(String::from_utf8_lossy(&bytes).into_owned())))
    }
}

/// Where to begin to see the last `wanted` bytes: after a line's end, if there is one to be found.
fn start(file: &File, size: u64, wanted: u64) -> io::Result<u64> {
    let Some(begin) = size.checked_sub(wanted).filter(|begin| *begin > 0) else { return Ok(0) };
    let mut bytes = vec![0; usize::try_from(wanted.min(STEP_BYTES)).unwrap_or_default()];
    let read = file.read_at(&mut bytes, begin)?;
    let line = memchr::memchr2(b'\n', b'\r', &bytes[..read]).map_or(0, |end| end as u64 + 1);
    Ok(begin + line)
}

/// How many of the bytes are whole characters; at most three more belong to one that is cut.
fn whole_characters(bytes: &[u8]) -> usize {
    let Some(cut) = bytes.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80) else { return bytes.len() };
    let begin = bytes.len() - cut - 1;
    let length = match bytes[begin] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return bytes.len(),
    };
    if cut + 1 < length { begin } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path());
        (dir, directory)
    }

    /// All chunks that there are now.
    fn drain(tail: &mut Tail) -> Vec<Chunk> {
        std::iter::from_fn(|| tail.step().unwrap()).collect()
    }

    fn text(text: &str) -> Chunk {
        Chunk::Text(text.to_owned())
    }

    #[test]
    fn an_absent_log_is_silent_until_it_is_there() {
        let (dir, directory) = directory();
        let mut tail = Tail::new(directory, "a.log", 100);
        assert_eq!(drain(&mut tail), []);
        fs::write(dir.path().join("a.log"), "one\n").unwrap();
        assert_eq!(drain(&mut tail), [Chunk::Restarted, text("one\n")]);
        assert_eq!(drain(&mut tail), []);
    }

    #[test]
    fn a_character_cut_by_the_writer_waits_for_its_rest() {
        let (dir, directory) = directory();
        let mut log = File::create(dir.path().join("a.log")).unwrap();
        let mut tail = Tail::new(directory, "a.log", 100);
        log.write_all(b"one\r\xE2\x82").unwrap();
        assert_eq!(drain(&mut tail), [Chunk::Restarted, text("one\r")]);
        log.write_all(b"\xAC\xFF!").unwrap();
        assert_eq!(drain(&mut tail), [text("\u{20ac}\u{fffd}!")]);
        assert_eq!(drain(&mut tail), []);
    }

    #[test]
    fn a_reader_begins_at_a_line_near_the_end() {
        let (dir, directory) = directory();
        fs::write(dir.path().join("a.log"), "first line\nsecond line\nthird\n").unwrap();
        let mut tail = Tail::new(directory, "a.log", 15);
        assert_eq!(drain(&mut tail), [Chunk::Restarted, text("third\n")]);
    }

    #[test]
    fn a_rotated_log_is_read_to_its_end_and_then_the_new_one() {
        let (dir, directory) = directory();
        let path = dir.path().join("a.log");
        let mut old = File::create(&path).unwrap();
        let mut tail = Tail::new(directory, "a.log", 100);
        old.write_all(b"old\n").unwrap();
        assert_eq!(drain(&mut tail), [Chunk::Restarted, text("old\n")]);
        fs::rename(&path, dir.path().join("a.log.old")).unwrap();
        old.write_all(b"last\n").unwrap();
        fs::write(&path, "new\n").unwrap();
        assert_eq!(drain(&mut tail), [text("last\n"), Chunk::Restarted, text("new\n")]);
        fs::write(&path, "cut\n").unwrap();
        fs::write(&path, "x\n").unwrap();
        assert_eq!(drain(&mut tail), [Chunk::Restarted, text("x\n")]);
    }

    #[test]
    fn a_reader_far_behind_skips_and_is_told() {
        let (dir, directory) = directory();
        let mut log = File::create(dir.path().join("a.log")).unwrap();
        let mut tail = Tail::new(directory, "a.log", 100);
        drain(&mut tail);
        let line = format!("{}\n", "x".repeat(99));
        log.write_all(line.repeat(50_000).as_bytes()).unwrap();
        let chunks = drain(&mut tail);
        let Chunk::Skipped(skipped) = chunks[0] else { panic!("{:?}", &chunks[..1]) };
        let seen: usize =
            chunks[1..].iter().map(|chunk| if let Chunk::Text(text) = chunk { text.len() } else { 0 }).sum();
        assert_eq!(skipped + seen as u64, 5_000_000);
        assert!(seen as u64 <= RESUME_BYTES && seen > 0);
        assert!(matches!(&chunks[1], Chunk::Text(text) if text.starts_with(&line)));
    }

    proptest::proptest! {
        #[test]
        fn text_survives_any_cuts(text in "\\PC{0,64}", cuts in proptest::collection::vec(0_usize..200, 0..6)) {
            let (dir, directory) = directory();
            let mut log = File::create(dir.path().join("a.log")).unwrap();
            let mut tail = Tail::new(directory, "a.log", 1000);
            let mut seen = String::new();
            let mut collect = |tail: &mut Tail| for chunk in drain(tail) {
                if let Chunk::Text(text) = chunk {
                    seen.push_str(&text);
                }
            };
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts {
                log.write_all(&bytes[from..cut]).unwrap();
                collect(&mut tail);
                from = cut;
            }
            proptest::prop_assert_eq!(seen, text);
        }
    }
}
