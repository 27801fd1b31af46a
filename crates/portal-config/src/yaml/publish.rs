//! Replacing a file in one step.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::place;

/// Services without privileges read the file.
const DEFAULT_MODE: u32 = 0o644;

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// Writes beside the target, flushes, and renames over it.
pub(crate) fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = resolve_links(path)?;
    let existing = match fs::metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if existing.is_some() && fs::read(&target)? == content {
        return Ok(());
    }
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    place::make_directory(directory)?;
    let mut file = tempfile::Builder::new().prefix(".portal.yaml.").tempfile_in(directory)?;
    file.write_all(content)?;
    if let Some(existing) = &existing {
        let owner = (Uid::from_raw(existing.uid()), Gid::from_raw(existing.gid()));
        // Only root may give a file away; a file of the caller's own is still better than none.
        let _ = rustix::fs::fchown(file.as_file(), Some(owner.0), Some(owner.1));
    }
    let mode = existing.map_or(DEFAULT_MODE, |metadata| metadata.mode() & 0o7777);
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    // The rename itself is durable once the directory is. Not every file system can flush one.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// The file that a path leads to, through links whose target may not exist yet.
fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            // Not a link, or nothing there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}
