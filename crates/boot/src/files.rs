//! Writing files as root: whole or not at all, and never through a link that somebody else planted.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::Error;

/// Reads a file that may be missing.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Makes `content` the file's content in one step: a reader sees the old file or the new one.
///
/// A symlink is written through to its target. An existing file keeps its mode and owner; a new one gets `mode` and the owner
/// of its directory.
///
/// # Errors
/// When the directory is missing or cannot be written.
pub fn publish(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("/"));
    let (mode, owner) = match fs::metadata(&target) {
        Ok(old) => (old.mode() & 0o7777, old),
        Err(_) => (mode, fs::metadata(directory).map_err(failed)?),
    };
    let staged = staged(directory, &target, content).map_err(failed)?;
    std::os::unix::fs::fchown(staged.as_file(), Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    staged.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    staged.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

/// As [`publish`], for a file whose mode and owner are part of what it is: a key, a script. A link of its name is replaced.
///
/// # Errors
/// When the directory is missing or cannot be written.
pub fn publish_exact(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let staged = staged(directory, path, content).map_err(failed)?;
    staged.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    staged.as_file().sync_all().map_err(failed)?;
    staged.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// What the names end with under which [`publish`] and [`publish_exact`] write, which begin with a dot and the target's. Somebody's own
/// `.NAME.backup` has no such end.
pub const STAGED: &str = ".vast-boot";

fn staged(directory: &Path, target: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".");
    let mut staged = tempfile::Builder::new().prefix(&prefix).suffix(STAGED).tempfile_in(directory)?;
    staged.write_all(content)?;
    Ok(staged)
}

/// Creates an empty marker file; one that is there stays.
///
/// # Errors
/// When it cannot be created.
pub fn mark(path: &Path) -> Result<(), Error> {
    let marked = OpenOptions::new().create(true).append(true).open(path);
    marked.map(drop).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Removes a marker file; whether it was there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn unmark(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // On a read-only file system the kernel says only that, whether there is such a file or not.
        Err(_) if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => Ok(false),
        Err(source) => Err(Error::Write { path: path.to_owned(), source }),
    }
}

/// Creates a directory and what is missing above it.
///
/// # Errors
/// When it cannot be created.
pub fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Opens a log for appending in a directory where others can write: a link, a pipe or a file with a second name is refused.
///
/// # Errors
/// When it cannot be opened or is not a plain file of one name.
pub fn open_log(path: &Path) -> Result<File, Error> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened =
        OpenOptions::new().create(true).append(true).mode(0o644).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|source| Error::Write { path: path.to_owned(), source })?;
    let metadata = file.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if metadata.is_file() && metadata.nlink() == 1 {
        Ok(file)
    } else {
        Err(Error::Refused { path: path.to_owned(), reason: "it is not a plain file of one name" })
    }
}

/// `text` with the line ends of Unix, or nothing when it has them already.
#[must_use]
pub fn mend_line_ends(text: &[u8]) -> Option<Vec<u8>> {
    let mut mended = Vec::with_capacity(text.len());
    let mut rest = text.iter().peekable();
    while let Some(&byte) = rest.next() {
        if byte == b'\r' && rest.peek().is_none_or(|next| **next == b'\n') {
            continue;
        }
        mended.push(byte);
    }
    (mended.len() != text.len()).then_some(mended)
}

/// Refuses a link in a user's home that leads to somebody else's file: root is about to write through it.
///
/// # Errors
/// When it is such a link.
pub fn refuse_foreign_link(path: &Path, home: &Path) -> Result<(), Error> {
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    if path.is_symlink() && path.exists() && owner(path) != owner(home) {
        return Err(Error::Refused { path: path.to_owned(), reason: "it is a link to another user's file" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_carriage_returns_of_line_ends_go() {
        for (text, expected) in [
            ("a\r\nb\r\n", Some("a\nb\n")),
            ("a\r", Some("a")),
            ("a\rb\n", None),
            ("a\n", None),
            ("\r\r\n", Some("\r\n")),
        ] {
            assert_eq!(mend_line_ends(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn a_published_file_keeps_the_mode_and_the_link_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        publish(&link, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_exact_file_replaces_a_link_instead_of_writing_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        publish_exact(&link, b"key", 0o600).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::symlink_metadata(&link).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_log_is_never_opened_through_a_link_a_second_name_or_a_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let second = directory.path().join("second");
        fs::hard_link(&victim, &second).unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [link, second, pipe] {
            assert!(open_log(&path).is_err(), "{}", path.display());
        }
        assert!(open_log(&directory.path().join("new/log")).is_ok());
    }
}
