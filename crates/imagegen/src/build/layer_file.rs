//! Planned entries to a layer in a file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::copy::Planned;
use super::origin::{Content, ItemKind};
use super::problem::BuildProblem;
use crate::Error;
use crate::layer::spool::Spool;
use crate::layer::{Entry, Kind, LayerFile, LayerWriter, Writing};

/// Writes the layer of `entries` into a file. `spool` has the contents that come from layers.
///
/// # Errors
/// [`BuildProblem::Unreadable`] for a source that cannot be read or changes meanwhile; what writing meets.
pub(super) fn write(
    entries: &[(PathBuf, Planned)],
    spool: Option<&Spool>,
    how: &Writing,
) -> Result<LayerFile, BuildProblem> {
    let failed = |source| Box::new(Error::File { action: "write a layer in", path: how.work.clone(), source });
    let mut writer = LayerWriter::create(how).map_err(failed)?;
    let spooled = |content| spool.and_then(|spool| spool.path(content)).map(Path::to_owned);
    for (path, planned) in entries {
        let Some(kind) = kind(&planned.kind) else { continue };
        let entry = Entry { path: path.clone(), kind, metadata: planned.metadata.clone() };
        let (mut content, named): (Box<dyn Read>, PathBuf) = match &planned.kind {
            ItemKind::File { content, .. } => {
                let named = if let Content::Disk(path) | Content::Spooled(path) = content {
                    path.clone()
                } else {
                    path.clone()
                };
                (content.open(&spooled)?, named)
            }
            _ => (Box::new(io::empty()), path.clone()),
        };
        let mut noting = Noting { inner: &mut content, failed: false };
        if let Err(source) = writer.append(&entry, &mut noting) {
            if noting.failed || source.kind() == io::ErrorKind::InvalidData {
                return Err(BuildProblem::Unreadable { path: named, source });
            }
            return Err(failed(source).into());
        }
    }
    Ok(writer.finish().map_err(failed)?)
}

/// Tells failed reads from failed writes.
struct Noting<'a> {
    inner: &'a mut dyn Read,
    failed: bool,
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        result
    }
}

fn kind(kind: &ItemKind) -> Option<Kind> {
    Some(match kind {
        ItemKind::Directory => Kind::Directory,
        ItemKind::File { size, .. } => Kind::File { size: *size },
        ItemKind::Symlink { target } => Kind::Symlink { target: target.clone() },
        ItemKind::Hardlink { target } => Kind::Hardlink { target: target.clone() },
        ItemKind::Fifo => Kind::Fifo,
        ItemKind::Device { block: false, major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
        ItemKind::Device { block: true, major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        ItemKind::Other(_) => return None,
    })
}
