//! A log file that is kept small, and whose loss is survived.
//!
//! Log directories may be writable by everyone, so a file is opened without following links, and anything that is no plain
//! file of its own (a link to another file, a pipe) is taken away first. A write that fails (full or vanished
//! disk) is counted; when writing works again, a line in the log says how much is missing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A log larger than this is trimmed.
pub const LIMIT_BYTES: u64 = 5_000_000;
/// What is left of a log after trimming, at most.
pub const KEPT_BYTES: u64 = 1_000_000;

/// How often a log is looked up by its name, to notice that it was deleted, and how often a failed one is tried again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    lost_bytes: u64,
    /// The last attempt to open or to write failed.
    failing: bool,
    looked_up: Instant,
}

impl Log {
    /// Opens a log to append to, making its directory if need be (open to every user, as applications may run as any).
    ///
    /// # Errors
    /// What the system says. The log is usable all the same: it loses what is written until the file can be opened.
    pub fn open(path: &Path) -> (Self, io::Result<()>) {
        let (path, looked_up) = (path.to_path_buf(), Instant::now());
        let mut log = Self { path, file: None, size_bytes: 0, lost_bytes: 0, failing: false, looked_up };
        let result = log.reopen();
        log.failing = result.is_err();
        (log, result)
    }

    /// Makes a log `.old` and opens a fresh one.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn rotate(path: &Path) -> (Self, io::Result<()>) {
        let kept = keep_previous(path);
        let (log, opened) = Self::open(path);
        (log, opened.and(kept))
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends to the log.
    ///
    /// # Errors
    /// The first of a series of failures; until a write succeeds again, what is lost is only counted.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let due = self.looked_up.elapsed() >= LOOKUP_INTERVAL;
        if due {
            self.looked_up = Instant::now();
            if self.file.is_none() || self.path.symlink_metadata().is_err() {
                // The result shows in the write that follows.
                let _ = self.reopen();
            }
        }
        let mut rest = bytes;
        let result = self.append(&mut rest);
        self.lost_bytes += rest.len() as u64;
        let told = std::mem::replace(&mut self.failing, result.is_err());
        if self.size_bytes > LIMIT_BYTES && self.trim().is_err() {
            // No more room than that: tried again when as much again has been written.
            self.size_bytes = LIMIT_BYTES - KEPT_BYTES;
        }
        if told { Ok(()) } else { result }
    }

    /// Appends `message`, unless the log ends with it already.
    ///
    /// # Errors
    /// As [`Log::write`].
    pub fn append_once(&mut self, message: &[u8]) -> io::Result<()> {
        let ends_so = self.file.as_ref().is_some_and(|file| {
            let length = message.len() as u64;
            let mut tail = vec![0; message.len()];
            self.size_bytes >= length
                && file.read_exact_at(&mut tail, self.size_bytes - length).is_ok()
                && tail == message
        });
        if ends_so { Ok(()) } else { self.write(message) }
    }

    /// Writes from the front of `rest` what can be written.
    fn append(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotConnected.into()) };
        if self.lost_bytes > 0 {
            let note =
                format!("\n[{} bytes of the log are missing here: they could not be written]\n", self.lost_bytes);
            let mut note = note.as_bytes();
            self.size_bytes += note.len() as u64;
            write_from(file, &mut note)?;
            self.lost_bytes = 0;
        }
        let before = rest.len();
        let result = write_from(file, rest);
        self.size_bytes += (before - rest.len()) as u64;
        result
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        let file = open_plain(&self.path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            make_directory(&self.path)?;
            open_plain(&self.path)
        })?;
        self.size_bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Replaces the log by its last part. Readers see the old file or the new one.
    fn trim(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if !is_at(file, &self.path)? {
            // A newer start has rotated this log away: what is left to write is the end of an old one.
            return Err(io::ErrorKind::NotFound.into());
        }
        let tail = last_lines(file)?;
        match publish(&self.path, &tail) {
            Ok(file) => self.file = Some(file),
            // No room beside the log: the file itself has room for its own end.
            Err(_) => replace_content(file, &self.path, &tail)?,
        }
        self.size_bytes = tail.len() as u64;
        Ok(())
    }
}

/// Opens a plain file of its own to append to. A link to another file, by symbolic or hard link, and what is no file, is
/// removed: in a directory that everyone may write to, somebody else can have put it there.
fn open_plain(path: &Path) -> io::Result<File> {
    // Reading is for trimming. A pipe must not block.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..3 {
        let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
        match opened {
            Ok(fd) => {
                let file = File::from(fd);
                let metadata = file.metadata()?;
                if metadata.is_file() && metadata.nlink() == 1 {
                    return Ok(file);
                }
            }
            // A link; a socket; a file of another user, which Linux refuses to open so in a sticky directory.
            Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        std::fs::remove_file(path)?;
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "something keeps putting a link or a pipe there"))
}

fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(directory.parent().unwrap_or(directory))?;
    match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) if directory.ends_with("log/portal") => {
            // `mkdir` alone leaves it to the umask.
            Ok(rustix::fs::chmodat(CWD, directory, Mode::from_raw_mode(0o1777), AtFlags::empty())?)
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a path still leads to an opened file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    let there = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => there,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    Ok(FileType::from_raw_mode(there.st_mode) == FileType::RegularFile
        && (there.st_dev, there.st_ino) == (ours.dev(), ours.ino()))
}

/// The last lines of a file that fit into [`KEPT_BYTES`]. Of a single longer line, its end.
fn last_lines(mut file: &File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    // One byte more, to see whether a line begins exactly there.
    file.seek(io::SeekFrom::Start(size.saturating_sub(KEPT_BYTES + 1)))?;
    let mut tail = Vec::new();
    file.take(KEPT_BYTES + 1).read_to_end(&mut tail)?;
    let newline = tail.iter().position(|byte| *byte == b'\n').filter(|newline| newline + 1 < tail.len());
    let start = newline.map_or_else(
        || tail.iter().skip(1).position(|byte| byte & 0b1100_0000 != 0b1000_0000).map_or(0, |at| at + 1),
        |newline| newline + 1,
    );
    tail.drain(..start);
    Ok(tail)
}

fn publish(path: &Path, content: &[u8]) -> io::Result<File> {
    let beside = suffixed(path, ".trim");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&beside, flags, Mode::from_raw_mode(0o644))?);
    let result = file.write_all(content).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = result {
        // The file beside is of no use; that it stays is the lesser evil.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    Ok(file)
}

fn replace_content(log: &File, path: &Path, content: &[u8]) -> io::Result<()> {
    // A second opening: with the first, which appends, Linux appends wherever a write is aimed.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !is_at(log, path)? || !is_at(&file, path)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    file.write_all_at(content, 0)?;
    file.set_len(content.len() as u64)
}

fn write_from(mut file: &File, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Renames a log to `.old`. What is no plain file stays, for [`open_plain`] to remove.
fn keep_previous(path: &Path) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => metadata,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if metadata.len() > LIMIT_BYTES {
        // Other programs leave logs of any size behind.
        let (mut log, opened) = Log::open(path);
        opened.and_then(|()| log.trim())?;
    }
    std::fs::rename(path, suffixed(path, ".old"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn opened((log, result): (Log, io::Result<()>)) -> Log {
        result.unwrap();
        log
    }

    #[test]
    fn a_log_over_its_limit_keeps_its_last_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = opened(Log::open(&path));
        let line = "x".repeat(99) + "\n";
        for number in 0..60_000 {
            log.write(format!("{number:06} {line}").as_bytes()).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= LIMIT_BYTES && text.ends_with(&format!("059999 {line}")), "{}", text.len());
        assert!(text.lines().all(|line| line.len() == 106), "a line was cut");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside the log");
    }

    #[test]
    fn a_trimmed_log_begins_with_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let kept = usize::try_from(KEPT_BYTES).unwrap();
        let table = [
            // The last line fits exactly, with a line end just before it.
            (format!("first\n{}\n", "x".repeat(kept - 1)), kept),
            (format!("first\n{}\n", "x".repeat(kept)), kept),
            (format!("{}\nlast\n", "x".repeat(kept)), 5),
            (format!("{}\u{20ac}{}", "x".repeat(10), "y".repeat(kept - 1)), kept - 1),
        ];
        for (text, length) in table {
            let path = directory.path().join("a.log");
            fs::write(&path, &text).unwrap();
            let tail = last_lines(&File::open(&path).unwrap()).unwrap();
            assert_eq!(tail.len(), length, "{}", &text[..20]);
            assert!(text.as_bytes().ends_with(&tail) && std::str::from_utf8(&tail).is_ok());
        }
    }

    #[test]
    fn links_and_pipes_are_replaced_and_never_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("target"), directory.path().join("a.log"));
        fs::write(&target, "precious").unwrap();
        let traps: [fn(&Path, &Path); 3] = [
            |target, path| symlink(target, path).unwrap(),
            |target, path| fs::hard_link(target, path).unwrap(),
            |_, path| rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(0o666)).unwrap(),
        ];
        for trap in traps {
            trap(&target, &path);
            opened(Log::open(&path)).write(b"text\n").unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
            assert_eq!(fs::read_to_string(&path).unwrap(), "text\n");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn rotation_keeps_one_previous_log_and_replaces_a_link_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("a.log"), directory.path().join("a.log.old"));
        fs::write(directory.path().join("target"), "precious").unwrap();
        symlink(directory.path().join("target"), &old).unwrap();
        for run in ["one\n", "two\n"] {
            opened(Log::rotate(&path)).write(run.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(directory.path().join("target")).unwrap(), "precious");
    }

    #[test]
    fn a_message_is_appended_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, "useful\n").unwrap();
        for _ in 0..3 {
            opened(Log::open(&path)).append_once(b"Skipping a startup\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "useful\nSkipping a startup\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_counts_what_it_loses() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let (mut log, result) = Log::open(&directory.path().join("file/a.log"));
        assert!(result.is_err());
        assert!(log.write(b"12345").is_ok() && log.write(b"678").is_ok(), "the failure has been told");
        assert_eq!(log.lost_bytes, 8);
    }
}
