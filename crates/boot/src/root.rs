//! The tree that a boot works on: `/` in a container, any directory in a test or under `--root`.

use std::path::{Component, Path, PathBuf};

/// A directory that stands for `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// Takes `directory` for `/`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Where the absolute path `path` lies in this root; `..` at the top stays at the top, as in a real `/`.
    ///
    /// ```
    /// use vast_boot::root::Root;
    /// assert_eq!(Root::new("/tmp/image").join("/etc/environment").to_str(), Some("/tmp/image/etc/environment"));
    /// assert_eq!(Root::new("/").join("/etc/../../etc").to_str(), Some("/etc"));
    /// ```
    #[must_use]
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let mut inside: Vec<&std::ffi::OsStr> = Vec::new();
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => inside.push(name),
                Component::ParentDir => {
                    inside.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let mut joined = self.0.clone();
        joined.extend(inside);
        joined
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the running system.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}
