//! The distributions that `importlib.metadata.distributions()` yields for a search path.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::inventory::Distribution;
use crate::root::{Root, is_absent};

use super::archive::Archive;
use super::metadata::{self, Fields, Folding};

/// Reads the distributions of search paths.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    root: &'a Root,
    /// The standard library of the interpreter: its sources state how folded values are treated.
    library: &'a Path,
    minor: u8,
    /// Read from the sources when the first folded value is met.
    folding: Option<Folding>,
}

/// The files tried in a metadata directory; the first that has any text counts. The last is the entry itself, for `.egg-info` files.
const FILES: [&str; 3] = ["METADATA", "PKG-INFO", ""];

impl<'a> Finder<'a> {
    pub(super) fn new(root: &'a Root, library: &'a Path, minor: u8) -> Self {
        Self { root, library, minor, folding: None }
    }

    /// The distributions of one entry of the path, unsorted.
    pub(super) fn find(&mut self, entry: &Path) -> Result<Vec<Distribution>, Error> {
        if entry.as_os_str().is_empty() && self.minor < 9 {
            // Before 3.9 the finder lists `''` itself, which is nothing.
            return Ok(Vec::new());
        }
        let directory = if entry.is_absolute() { entry.to_path_buf() } else { Path::new("/").join(entry) };
        match self.root.list(&directory) {
            Ok(names) => {
                let names = names.iter().filter(|name| self.is_metadata(entry, name.as_bytes()));
                let paths: Vec<PathBuf> = names.map(|name| directory.join(name)).collect();
                paths.iter().map(|path| self.read_directory(path)).collect()
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory && self.root.is_file(&directory) => {
                self.find_in_archive(entry, &directory)
            }
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(Error::read(&directory, error)),
        }
    }

    /// Whether a name in a directory of the path is a distribution's metadata.
    fn is_metadata(&self, entry: &Path, name: &[u8]) -> bool {
        let ends = |name: &[u8], suffix: &[u8]| {
            name.len() >= suffix.len() && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        };
        if ends(name, b".dist-info") || ends(name, b".egg-info") {
            return true;
        }
        // `os.path.basename`, which is empty after a trailing slash; up to 3.9 that too stood for an egg.
        let text = entry.as_os_str().as_bytes();
        let base = memchr::memrchr(b'/', text).map_or(text, |slash| &text[slash + 1..]);
        name.eq_ignore_ascii_case(b"egg-info") && (ends(base, b".egg") || (self.minor < 10 && base.is_empty()))
    }

    fn read_directory(&mut self, path: &Path) -> Result<Distribution, Error> {
        for name in FILES {
            let file = if name.is_empty() { path.to_path_buf() } else { path.join(name) };
            let Some(bytes) = self.root.read_if_there(&file)? else { continue };
            if !bytes.is_empty() {
                return self.read_text(&file, &bytes);
            }
        }
        Ok(Distribution { name: None, version: None })
    }

    fn find_in_archive(&mut self, entry: &Path, file: &Path) -> Result<Vec<Distribution>, Error> {
        let Some(archive) = Archive::open(self.root, file)? else { return Ok(Vec::new()) };
        let children: Vec<String> =
            archive.children().into_iter().filter(|name| self.is_metadata(entry, name.as_bytes())).collect();
        children.iter().map(|child| self.read_member(&archive, file, child)).collect()
    }

    fn read_member(&mut self, archive: &Archive, file: &Path, child: &str) -> Result<Distribution, Error> {
        for name in FILES {
            let member = if name.is_empty() { child.to_owned() } else { format!("{child}/{name}") };
            let Some(bytes) = archive.member(&member)? else { continue };
            if !bytes.is_empty() {
                return self.read_text(&file.join(member), &bytes);
            }
        }
        Ok(Distribution { name: None, version: None })
    }

    fn read_text(&mut self, file: &Path, bytes: &[u8]) -> Result<Distribution, Error> {
        let text = std::str::from_utf8(bytes).map_err(|error| Error::not_utf8(file, error))?;
        let fields = metadata::parse(text);
        let Fields { name, version } = if fields.folded() {
            let folding = self.folding()?;
            fields.map_folded(|value| folding.apply(value))
        } else {
            fields
        };
        Ok(Distribution { name, version })
    }

    fn folding(&mut self) -> Result<Folding, Error> {
        if let Some(folding) = self.folding {
            return Ok(folding);
        }
        let source = |name: &str| {
            let bytes = self.root.read_if_there(&self.library.join(name))?.unwrap_or_default();
            Ok::<_, Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let folding =
            Folding::from_sources(&source("importlib/metadata/_adapters.py")?, &source("email/_policybase.py")?);
        self.folding = Some(folding);
        Ok(folding)
    }
}
