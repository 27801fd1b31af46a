//! Paths as CPython's `posixpath` computes them: by their text alone, without asking the file system.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// `os.path.abspath(os.path.join(base, path))` for an absolute `base`: `.` and `..` go, `..` with the name before it
/// (even where that name is a symbolic link); exactly two leading slashes stay two.
pub(super) fn absolute(base: &Path, path: &str) -> PathBuf {
    let mut joined = base.as_os_str().as_bytes().to_vec();
    if path.starts_with('/') {
        joined.clear();
    } else {
        joined.push(b'/');
    }
    joined.extend_from_slice(path.as_bytes());
    let double = joined.starts_with(b"//") && !joined.starts_with(b"///");
    let mut kept: Vec<&[u8]> = Vec::new();
    for name in joined.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(name),
        }
    }
    let mut text = if double { b"//".to_vec() } else { b"/".to_vec() };
    text.extend(kept.join(&b'/'));
    PathBuf::from(OsString::from_vec(text))
}

/// The directory itself and those above it, without `/`: where CPython looks for the landmarks of its prefix.
pub(super) fn upwards(directory: &Path) -> impl Iterator<Item = &Path> {
    directory.ancestors().filter(|path| path.parent().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_is_pythons_abspath_of_join() {
        let table = [
            ("foo", "/s/foo"),
            ("./foo-1.egg", "/s/foo-1.egg"),
            ("../foo/", "/foo"),
            ("../../../foo", "/foo"),
            ("/a//b/./c/..", "/a/b"),
            ("//a/b", "//a/b"),
            ("///a", "/a"),
            ("", "/s"),
            ("/", "/"),
        ];
        for (path, expected) in table {
            // Compared as text: `Path` takes `//a` and `/a` for equal, Python does not.
            assert_eq!(absolute(Path::new("/s"), path).to_str(), Some(expected), "{path:?}");
        }
    }

    #[test]
    fn the_root_itself_is_no_prefix() {
        assert_eq!(upwards(Path::new("/usr/bin")).collect::<Vec<_>>(), [Path::new("/usr/bin"), Path::new("/usr")]);
    }
}
