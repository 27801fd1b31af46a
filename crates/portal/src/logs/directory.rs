//! The directory of logs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::OFlags;
use serde::Serialize;

/// A directory of log files.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// One log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFile {
    /// Its file name, as the other requests take it.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub modified_s: u64,
}

impl LogFile {
    /// Whether it is the one being written, not the one before it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|extension| extension == "log")
    }
}

impl Directory {
    /// The logs in this directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Every log, by name; an absent directory has none.
    #[must_use]
    pub fn list(&self) -> Vec<LogFile> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut files: Vec<LogFile> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok().filter(|name| is_log_name(name))?;
                // Of the entry itself, not of what a link leads to.
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
                Some(LogFile { name, size_bytes: metadata.len(), modified_s: modified.as_secs() })
            })
            .collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        files
    }

    /// Opens a log.
    ///
    /// # Errors
    /// `NotFound` for every name that is no log of this directory, whatever else it may be.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        if !is_log_name(name) {
            return Err(absent());
        }
        // Without NONBLOCK a pipe under a log's name would block the portal.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(name)).map_err(|_| absent())?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(absent()) }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A name that is one file in the directory and looks like a log: `comfyui.log`, `comfyui.log.old`.
fn is_log_name(name: &str) -> bool {
    let plain = |character: char| !character.is_control() && character != '/';
    let log = |suffix: &str| Path::new(name).extension().is_some_and(|extension| extension == suffix);
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.chars().all(plain)
        && (log("log") || (log("old") && name.ends_with(".log.old")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_of_the_directory_are_logs() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.log"), "secret").unwrap();
        let inside = outside.path().join("portal");
        fs::create_dir_all(inside.join("directory.log")).unwrap();
        fs::write(inside.join("app.log"), "hello").unwrap();
        fs::write(inside.join("app.log.old"), "older").unwrap();
        fs::write(inside.join("notes.txt"), "").unwrap();
        fs::write(inside.join(".hidden.log"), "").unwrap();
        symlink("../secret.log", inside.join("link.log")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.join("pipe.log"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();

        let directory = Directory::new(&inside);
        let names: Vec<String> = directory.list().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["app.log", "app.log.old"]);
        assert!(directory.open("app.log").is_ok());
        for name in [
            "",
            ".",
            "..",
            "../secret.log",
            "portal/../../secret.log",
            "/etc/passwd",
            "link.log",
            "pipe.log",
            "directory.log",
            "notes.txt",
            ".hidden.log",
            "app.log\0",
            "app.log/",
            "absent.log",
        ] {
            assert_eq!(directory.open(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name:?}");
        }
    }

    #[test]
    fn an_absent_directory_has_no_logs() {
        assert_eq!(Directory::new("/nonexistent").list(), []);
    }
}
