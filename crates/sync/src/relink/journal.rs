//! What is about to happen to a directory, written down before it happens.
//!
//! One small file for each directory, in a place of the container's own:
//!
//! ```text
//! vast-sync relink 1
//! path /venv/main
//! target /workspace/.environment_sync/0123abcd/venv/main
//! keep
//! way link
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::volume::flush;
use crate::{Error, fault};

/// Where it is kept, as a path of the container.
const DIRECTORY: &str = "var/lib/vast-sync/relink";

const FIRST_LINE: &str = "vast-sync relink 1";

/// Which way a swap goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The directory goes, and a link takes its place.
    Link,
    /// The link goes, and a copy of its target takes its place.
    Restore,
}

/// A swap that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    /// The directory that is replaced, as a path of the container.
    pub(crate) path: PathBuf,
    /// What the link leads to, as a path of the container.
    pub(crate) target: PathBuf,
    /// The entry of the directory that is removed last.
    pub(crate) keep_last: Option<OsString>,
    pub(crate) way: Way,
}

/// The journal of one container.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    directory: PathBuf,
}

impl Journal {
    pub(crate) fn of(root: &Path) -> Self {
        Self { directory: root.join(DIRECTORY) }
    }

    /// The swaps that were begun and not completed. What cannot be read was not written whole, so nothing was begun.
    pub(crate) fn read(&self) -> Result<Vec<Intent>, Error> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::io("read", &self.directory, source)),
        };
        let mut intents: Vec<Intent> = entries
            .flatten()
            .filter(|entry| !entry.file_name().as_bytes().starts_with(b"."))
            .filter_map(|entry| Intent::parse(&fs::read(entry.path()).ok()?))
            .collect();
        intents.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(intents)
    }

    /// Writes an intent, and returns when it is durable.
    pub(crate) fn begin(&self, intent: &Intent) -> Result<(), Error> {
        let path = self.file_of(&intent.path);
        let failed = |source: std::io::Error| Error::Io { action: "write", path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(&self.directory).map_err(failed)?;
        let staged = self.directory.join(".new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged).map_err(failed)?;
        file.write_all(&intent.to_bytes()).map_err(failed)?;
        flush::file(&file).map_err(|errno| failed(errno.into()))?;
        fault::call("journal.rename", || rustix::fs::rename(&staged, &path)).map_err(|errno| failed(errno.into()))?;
        self.flush().map_err(failed)
    }

    /// Takes an intent that was carried out out of the journal.
    pub(crate) fn end(&self, path: &Path) -> Result<(), Error> {
        let file = self.file_of(path);
        match fault::call("journal.unlink", || rustix::fs::unlink(&file)) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", file, errno)),
        }
    }

    fn flush(&self) -> std::io::Result<()> {
        Ok(flush::file(File::open(&self.directory)?)?)
    }

    fn file_of(&self, path: &Path) -> PathBuf {
        self.directory.join(escape(path.as_os_str()).replace('/', "%2F"))
    }
}

impl Intent {
    fn to_bytes(&self) -> Vec<u8> {
        let keep = self.keep_last.as_ref().map(|name| escape(name)).unwrap_or_default();
        let way = match self.way {
            Way::Link => "link",
            Way::Restore => "restore",
        };
        let (path, target) = (escape(self.path.as_os_str()), escape(self.target.as_os_str()));
        format!("{FIRST_LINE}\npath {path}\ntarget {target}\nkeep {keep}\nway {way}\n").into_bytes()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        // Cut off, it has no last line end.
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let mut value = |name: &str| {
            let (found, value) = lines.next()?.split_once(' ')?;
            (found == name).then_some(value)
        };
        let (path, target) = (value("path")?, value("target")?);
        let keep = value("keep")?;
        let way = match value("way")? {
            "link" => Way::Link,
            "restore" => Way::Restore,
            _ => return None,
        };
        let keep_last = if keep.is_empty() { None } else { Some(unescape(keep)?) };
        Some(Self { path: unescape(path)?.into(), target: unescape(target)?.into(), keep_last, way })
    }
}

/// A name or path on one line, whatever its bytes: `%` and what is not printable ASCII become `%XX`.
fn escape(text: &OsStr) -> String {
    let mut escaped = String::new();
    for &byte in text.as_bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex::encode_upper([byte]));
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            bytes.extend(hex::decode(after.get(..2)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intent(path: &[u8]) -> Intent {
        Intent {
            path: OsString::from_vec(path.to_vec()).into(),
            target: "/workspace/home/a b".into(),
            keep_last: Some(".ssh".into()),
            way: Way::Link,
        }
    }

    #[test]
    fn what_was_begun_is_read_until_it_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::of(root.path());
        assert_eq!(journal.read().unwrap(), []);
        let (one, other) = (intent(b"/venv/main"), Intent { keep_last: None, way: Way::Restore, ..intent(b"/root") });
        journal.begin(&one).unwrap();
        journal.begin(&other).unwrap();
        journal.begin(&one).unwrap();
        assert_eq!(journal.read().unwrap(), [other, one.clone()]);
        journal.end(Path::new("/root")).unwrap();
        journal.end(Path::new("/root")).unwrap();
        assert_eq!(journal.read().unwrap(), [one]);
    }

    #[test]
    fn an_intent_that_was_not_written_whole_is_none() {
        let text = intent(b"/root").to_bytes();
        for length in 0..text.len() {
            assert_eq!(Intent::parse(&text[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn every_path_reads_back(path in proptest::collection::vec(1_u8.., 1..60)) {
            let intent = intent(&path);
            prop_assert_eq!(Intent::parse(&intent.to_bytes()), Some(intent));
        }
    }
}
