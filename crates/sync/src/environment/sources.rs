//! Which directories of a container are environments.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::relocation::{self, Tree, on_host};

/// Finds them: those that are directories, and those that are links already.
pub(super) fn find(root: &Path) -> Result<Vec<Tree>, Error> {
    let mut trees = Vec::new();
    let venvs = on_host(root, Path::new("/venv"));
    let entries = match fs::read_dir(&venvs) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    for entry in entries.map_err(|source| Error::Io { action: "list", path: venvs, source })? {
        let name = entry.file_name();
        // What begins with a dot is a swap's.
        if !name.as_bytes().starts_with(b".") && is_environment(&entry.path()) {
            trees.push(tree(Path::new("/venv").join(&name), Path::new("venv").join(&name)));
        }
    }
    trees.sort_by(|one, other| one.path.cmp(&other.path));
    for (path, to) in [("/.uv", "uv"), ("/opt/nvm", "nvm")] {
        if relocation::is_candidate(root, Path::new(path)) {
            trees.push(tree(path.into(), to.into()));
        }
    }
    Ok(trees)
}

fn tree(path: PathBuf, to: PathBuf) -> Tree {
    Tree { path, to, leave_out: Vec::new(), keep_last: None }
}

/// A link may be one that leads to a volume that is not there, so it is looked at later.
fn is_environment(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(facts) if facts.is_symlink() => true,
        Ok(facts) => facts.is_dir() && (path.join("pyvenv.cfg").exists() || path.join("conda-meta").is_dir()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn venvs_conda_environments_uv_and_nvm_are_found() {
        let root = tempfile::tempdir().unwrap();
        assert!(find(root.path()).unwrap().is_empty());
        for directory in ["venv/conda/conda-meta", "venv/main", "venv/data", "venv/.vast-relink.x", ".uv", "opt/nvm"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for venv in ["main", ".vast-relink.x"] {
            fs::write(root.path().join("venv").join(venv).join("pyvenv.cfg"), "").unwrap();
        }
        fs::write(root.path().join("venv/file"), "").unwrap();
        symlink("/workspace/.environment_sync/x/venv/moved", root.path().join("venv/moved")).unwrap();
        let found = find(root.path()).unwrap();
        let paths: Vec<_> = found.iter().map(|tree| (tree.path.to_str().unwrap(), tree.to.to_str().unwrap())).collect();
        assert_eq!(
            paths,
            [
                ("/venv/conda", "venv/conda"),
                ("/venv/main", "venv/main"),
                ("/venv/moved", "venv/moved"),
                ("/.uv", "uv"),
                ("/opt/nvm", "nvm")
            ]
        );
    }
}
