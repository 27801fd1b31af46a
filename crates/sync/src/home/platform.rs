//! The platform's files in root's home are about one instance, and stay in its container.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, symlink};
use std::path::Path;

use crate::relink::{Found, look};
use crate::relocation::{Tree, on_host};
use crate::{Error, fault};

/// The name in root's home, and the place in the container.
const FILES: [(&str, &str); 4] = [
    ("onstart.sh", "/onstart.sh"),
    (".vast_containerlabel", "/etc/.vast_containerlabel"),
    (".vast_api_key", "/etc/.vast_api_key"),
    ("ports.log", "/var/log/vast_ports.log"),
];

/// Those that are files there. A link is copied as it is.
pub(super) fn files_in(home: &Path) -> Vec<OsString> {
    let is_file = |name: &str| home.join(name).symlink_metadata().is_ok_and(|facts| facts.is_file());
    FILES.iter().filter(|(name, _)| is_file(name)).map(|(name, _)| OsString::from(name)).collect()
}

/// Puts those files at their places, unless something is there that does not lead back into the home.
pub(super) fn keep(root: &Path, tree: &Tree, home: &Path) -> Result<(), Error> {
    for (name, place) in FILES.iter().filter(|(name, _)| tree.leave_out.iter().any(|left_out| left_out == name)) {
        let (own, place) = (home.join(name), on_host(root, Path::new(place)));
        let leads_back = match look(&place)? {
            Found::Nothing => true,
            Found::Link(to) => on_host(root, &to) == own,
            Found::Directory | Found::Other => false,
        };
        if leads_back {
            put(&own, &place)?;
        }
    }
    Ok(())
}

/// Copies a file with its mode and owner, in one step.
fn put(own: &Path, place: &Path) -> Result<(), Error> {
    let mut staged = place.file_name().unwrap_or_default().to_owned();
    staged.push(".vast-sync");
    let staged = place.with_file_name(staged);
    let failed = |source| Error::io("write", &staged, source);
    let facts = own.symlink_metadata().map_err(|source| Error::io("read", own, source))?;
    let content = fs::read(own).map_err(|source| Error::io("read", own, source))?;
    if let Some(above) = place.parent() {
        fs::create_dir_all(above).map_err(failed)?;
    }
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged).map_err(failed)?;
    file.write_all(&content).map_err(failed)?;
    // Only root can give a file away; anyone else's own is their own.
    let _ = fchown(&file, Some(facts.uid()), Some(facts.gid()));
    file.set_permissions(facts.permissions()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fault::call("platform.rename", || rustix::fs::rename(&staged, place))
        .map_err(|errno| Error::io("put in place", place, errno))
}

/// Makes links to those places in a home on the volume, where it has nothing of those names.
pub(super) fn link(tree: &Tree, home: &Path) -> Result<(), Error> {
    for (name, place) in FILES.iter().filter(|(name, _)| tree.leave_out.iter().any(|left_out| left_out == name)) {
        match symlink(place, home.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("link", home.join(name), source)),
        }
    }
    Ok(())
}
