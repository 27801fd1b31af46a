//! Which directories of a container are homes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{platform, ssh};
use crate::Error;
use crate::relocation::{self, Tree, on_host};

/// Finds them: those that are directories, and those that are links already.
pub(super) fn find(root: &Path) -> Result<Vec<Tree>, Error> {
    let mut trees = Vec::new();
    let homes = on_host(root, Path::new("/home"));
    let entries = match fs::read_dir(&homes) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    for entry in entries.map_err(|source| Error::Io { action: "list", path: homes, source })? {
        let name = entry.file_name();
        // What begins with a dot is a swap's; `root` would go where `/root` goes.
        if !name.as_bytes().starts_with(b".") && name != "root" {
            add(&mut trees, root, Path::new("/home").join(&name), name);
        }
    }
    trees.sort_by(|one, other| one.path.cmp(&other.path));
    add(&mut trees, root, PathBuf::from("/root"), OsString::from("root"));
    Ok(trees)
}

fn add(trees: &mut Vec<Tree>, root: &Path, path: PathBuf, to: OsString) {
    if !relocation::is_candidate(root, &path) {
        return;
    }
    let mut leave_out = vec![OsString::from(ssh::DIRECTORY)];
    if to == "root" {
        leave_out.extend(platform::files_in(&on_host(root, &path)));
    }
    trees.push(Tree { path, to: to.into(), leave_out, keep_last: Some(ssh::DIRECTORY.into()) });
}
