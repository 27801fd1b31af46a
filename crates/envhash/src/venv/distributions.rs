//! The distributions that `importlib.metadata.distributions()` yields for a search path.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::inventory::Distribution;
use crate::root::{Root, is_absent};

use super::archive::Archive;
use super::crew;
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
                let root = self.root;
                let fields = crew::read_each(&paths, |path| read_directory(root, path));
                fields.into_iter().map(|fields| self.distribution(fields?)).collect()
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

    fn find_in_archive(&mut self, entry: &Path, file: &Path) -> Result<Vec<Distribution>, Error> {
        let Some(archive) = Archive::open(self.root, file)? else { return Ok(Vec::new()) };
        let children: Vec<String> =
            archive.children().into_iter().filter(|name| self.is_metadata(entry, name.as_bytes())).collect();
        children.iter().map(|child| self.distribution(read_member(&archive, file, child)?)).collect()
    }

    /// The distribution of these fields, as this installation gives folded ones.
    fn distribution(&mut self, fields: Fields) -> Result<Distribution, Error> {
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

/// The fields of a metadata directory, or of a file in the place of one.
fn read_directory(root: &Root, path: &Path) -> Result<Fields, Error> {
    for name in FILES {
        let file = if name.is_empty() { path.to_path_buf() } else { path.join(name) };
        let Some(bytes) = root.read_if_there(&file)? else { continue };
        if !bytes.is_empty() {
            return read_text(&file, &bytes);
        }
    }
    Ok(Fields::default())
}

/// The fields of a metadata directory in an archive.
fn read_member(archive: &Archive, file: &Path, child: &str) -> Result<Fields, Error> {
    // A file member in the place of such a directory has no text for Python.
    for name in FILES.iter().filter(|name| !name.is_empty()) {
        let member = format!("{child}/{name}");
        let Some(bytes) = archive.member(&member)? else { continue };
        if !bytes.is_empty() {
            return read_text(&file.join(member), &bytes);
        }
    }
    Ok(Fields::default())
}

fn read_text(file: &Path, bytes: &[u8]) -> Result<Fields, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error::not_utf8(file, error))?;
    Ok(metadata::parse(text))
}
