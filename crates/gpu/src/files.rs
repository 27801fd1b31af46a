//! Replacing a file in one step.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Every process of the instance reads what is published here.
const DEFAULT_MODE: u32 = 0o644;

/// Writes beside the target, flushes, and renames over it; a link is followed to its target, and an existing mode kept.
pub(crate) fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = fs::metadata(&target).map_or(DEFAULT_MODE, |metadata| metadata.permissions().mode() & 0o7777);
    let beside = beside(&target);
    // Left by a run that was killed.
    let _ = fs::remove_file(&beside);
    let written = write_new(&beside, content, mode).and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // The process's umask does not decide about a system file.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The hidden name beside a file under which its successor is prepared.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}
