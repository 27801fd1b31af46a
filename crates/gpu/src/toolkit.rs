//! The CUDA toolkits of an image: `/usr/local/cuda-<major.minor>`.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use crate::error::Error;
use crate::version::{CudaVersion, DriverVersion};

/// Where toolkits are installed.
pub const TOOLKITS: &str = "/usr/local";

/// The link to the toolkit in use.
pub const CURRENT: &str = "/usr/local/cuda";

/// An installed toolkit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Toolkit {
    /// Its version, from its directory's name.
    pub version: CudaVersion,
    /// Its directory as the container sees it.
    pub path: PathBuf,
    /// Its forward-compatibility libraries, if they are installed.
    pub compat: Option<Compat>,
}

/// The user-mode driver that a toolkit brings for machines with an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compat {
    /// The directory that holds `libcuda.so.*`, as the container sees it.
    pub path: PathBuf,
    /// The driver it comes from, as the name of its library tells. It must never be loaded on a newer one.
    pub driver: Option<DriverVersion>,
}

/// Lists the toolkits under `root`, oldest first.
///
/// # Errors
/// [`Error::Read`] when a directory is there but cannot be listed.
pub fn list(root: &Path) -> Result<Vec<Toolkit>, Error> {
    let mut toolkits = Vec::new();
    for name in names(&under(root, Path::new(TOOLKITS)))? {
        let Some(Ok(version)) = name.strip_prefix("cuda-").map(str::parse) else { continue };
        let path = Path::new(TOOLKITS).join(&name);
        if under(root, &path).is_dir() {
            let compat = compat(root, &path)?;
            toolkits.push(Toolkit { version, path, compat });
        }
    }
    toolkits.sort_by_key(|toolkit| toolkit.version);
    Ok(toolkits)
}

fn compat(root: &Path, toolkit: &Path) -> Result<Option<Compat>, Error> {
    let path = toolkit.join("compat");
    let names = names(&under(root, &path))?;
    let versions: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("libcuda.so.")).collect();
    // `libcuda.so.1` links to `libcuda.so.570.124.06`.
    let driver = versions.iter().filter_map(|version| version.parse().ok()).max();
    Ok((!versions.is_empty()).then_some(Compat { path, driver }))
}

/// The toolkit that `/usr/local/cuda` leads to, through `/etc/alternatives` or not. None if it is no link, or leads nowhere.
#[must_use]
pub fn current(root: &Path) -> Option<CudaVersion> {
    let mut path = PathBuf::from(CURRENT);
    for _ in 0..8 {
        let link = fs::read_link(under(root, &path)).ok()?;
        path = normal(&path.parent()?.join(link));
        let name = path.file_name()?.to_str()?;
        if let Some(Ok(version)) = name.strip_prefix("cuda-").map(str::parse) {
            return under(root, &path).is_dir().then_some(version);
        }
    }
    None
}

/// A path of the container below `root`.
pub(crate) fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Without `.` and `..`, as if no directory on the way were a link.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The names in a directory that are text; none where there is no directory.
fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::read(directory)(error)),
    };
    entries
        .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
        .collect::<io::Result<_>>()
        .map_err(Error::read(directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directories: &[&str], files: &[&str], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in files {
            fs::write(root.path().join(file), "").unwrap();
        }
        for (target, link) in links {
            fs::create_dir_all(root.path().join(link).parent().unwrap()).unwrap();
            symlink(target, root.path().join(link)).unwrap();
        }
        root
    }

    #[test]
    fn toolkits_are_listed_by_version_with_their_compat_libraries() {
        let root = root(
            &["usr/local/cuda-12.8/compat", "usr/local/cuda-12.10", "usr/local/cuda-9.2/compat", "usr/local/cuda-12"],
            &[
                "usr/local/cuda-12.8/compat/libcuda.so.570.124.06",
                "usr/local/cuda-12.8/compat/libcudadebugger.so.1",
                "usr/local/cuda-13.0",
                "usr/local/cuda-9.2/compat/README",
            ],
            &[("libcuda.so.570.124.06", "usr/local/cuda-12.8/compat/libcuda.so.1")],
        );
        let found = list(root.path()).unwrap();
        let versions: Vec<_> = found.iter().map(|toolkit| toolkit.version.to_string()).collect();
        assert_eq!(versions, ["9.2", "12.8", "12.10"]);
        assert_eq!(
            found[1].compat,
            Some(Compat {
                path: "/usr/local/cuda-12.8/compat".into(),
                driver: Some(DriverVersion::new(570, 124, Some(6)))
            })
        );
        assert_eq!((&found[0].compat, &found[2].compat), (&None, &None));
    }

    #[test]
    fn an_image_without_toolkits_has_none() {
        assert_eq!(list(root(&[], &[], &[]).path()).unwrap(), []);
    }

    #[test]
    fn the_current_toolkit_is_found_through_links_within_the_root() {
        let directories = ["usr/local/cuda-12.8", "usr/local/cuda-13.0"];
        for (links, expected) in [
            (&[("cuda-12.8", "usr/local/cuda")][..], Some((12, 8))),
            (&[("/usr/local/cuda-13.0", "usr/local/cuda")], Some((13, 0))),
            (
                &[("/etc/alternatives/cuda", "usr/local/cuda"), ("/usr/local/cuda-13.0", "etc/alternatives/cuda")],
                Some((13, 0)),
            ),
            (&[("../local/./cuda-12.8/", "usr/local/cuda")], Some((12, 8))),
            (&[("cuda-11.8", "usr/local/cuda")], None),
            (&[("cuda", "usr/local/cuda")], None),
            (&[], None),
        ] {
            let root = root(&directories, &[], links);
            assert_eq!(
                current(root.path()),
                expected.map(|(major, minor)| CudaVersion::new(major, minor)),
                "{links:?}"
            );
        }
    }
}
