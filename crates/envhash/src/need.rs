//! Which files of a root the hash may look at.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What the hash may need of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    No,
    /// That it is there, and its mode; an empty file serves.
    Name,
    /// Its content.
    Content,
}

/// What the hash may need of the regular file at `path`, which is relative to the root.
///
/// For callers that see a root as the headers of an archive and lay out a skeleton to call [`hash`](crate::hash) on.
/// Directories and symbolic links can lead to any file and are no question of names: lay out all of them (a hard link
/// as the file it is), and of a file that links lead to what its name or that of one of those links needs. A skeleton made
/// so gives the hash of the full root, save for archives that a `.pth` file names and that do not end in `.egg`.
///
/// ```
/// use std::path::Path;
/// use vast_envhash::{Need, may_read};
///
/// let site = Path::new("venv/main/lib/python3.12/site-packages");
/// assert_eq!(may_read(&site.join("torch-2.9.1.dist-info/METADATA")), Need::Content);
/// assert_eq!(may_read(&site.join("torch/__init__.py")), Need::No);
/// ```
#[must_use]
pub fn may_read(path: &Path) -> Need {
    let path = path.strip_prefix("/").unwrap_or(path);
    let Some(name) = path.file_name().map(OsStr::as_bytes) else { return Need::No };
    let parent = path.parent().and_then(Path::file_name).map_or(&b""[..], OsStr::as_bytes);
    let ends = |text: &[u8], suffix: &[u8]| {
        text.len() >= suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    // Package metadata in all its forms; names are compared as `importlib.metadata` does.
    let metadata_directory = ends(parent, b".dist-info") || ends(parent, b".egg-info") || ends(parent, b"egg-info");
    if metadata_directory {
        return if matches!(name, b"METADATA" | b"PKG-INFO") { Need::Content } else { Need::No };
    }
    if ends(name, b".dist-info") || ends(name, b".egg-info") || ends(name, b".egg") {
        return Need::Content;
    }
    if name.ends_with(b".pth") || name == b"pyvenv.cfg" || is_system(path) || is_interpreter(path, name, parent) {
        return Need::Content;
    }
    if matches!(name, b"sitecustomize.py" | b"usercustomize.py")
        || (parent.ends_with(b"customize") && name == b"__init__.py")
    {
        return Need::Content;
    }
    // What code of installers in `.pth` files imports has to be there.
    let imported =
        name.starts_with(b"__editable___") || matches!(name, b"_virtualenv.py") || parent == b"_distutils_hack";
    if imported || name.ends_with(b"._pth") {
        return Need::Name;
    }
    // A `.pth` line counts where its path exists, and then usually names a directory; what is left are the landmarks.
    if matches!(name, b"os.py" | b"os.pyc") { Need::Name } else { Need::No }
}

/// The system's own records, and a program that tells the architecture.
fn is_system(path: &Path) -> bool {
    const FILES: [&str; 5] =
        ["etc/os-release", "usr/lib/os-release", "etc/passwd", "var/lib/dpkg/status", "var/lib/dpkg/arch"];
    const PROGRAMS: [&str; 8] = ["sh", "dash", "bash", "busybox", "dpkg", "ls", "env", "coreutils"];
    if FILES.iter().any(|file| path == Path::new(file)) || path.starts_with("var/lib/dpkg/updates") {
        return true;
    }
    if path.starts_with("etc/ld.so.conf.d") || path == Path::new("etc/ld.so.conf") {
        return true;
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let of_programs = ["bin", "usr/bin", "sbin", "usr/sbin"].iter().any(|place| directory == Path::new(place));
    of_programs && PROGRAMS.iter().any(|program| name == OsStr::new(program))
}

/// An interpreter, its library, and the few files of its installation that state its version and rules.
fn is_interpreter(path: &Path, name: &[u8], parent: &[u8]) -> bool {
    let versioned = |text: &[u8]| text.starts_with(b"python3");
    match name {
        b"site.py" | b"patchlevel.h" => versioned(parent),
        b"_adapters.py" => path.parent().is_some_and(|directory| directory.ends_with("importlib/metadata")),
        b"_policybase.py" => parent == b"email",
        _ => {
            let program = parent == b"bin" && (name == b"python" || versioned(name));
            let record = versioned(parent) && name.starts_with(b"_sysconfigdata_") && name.ends_with(b".py");
            let conda = parent == b"conda-meta" && name.starts_with(b"python-") && name.ends_with(b".json");
            let zip = name.starts_with(b"python3") && name.ends_with(b".zip");
            program || record || conda || zip || name.starts_with(b"libpython3.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hash_reads_is_needed_and_the_bulk_is_not() {
        use Need::{Content, Name, No};
        let site = "venv/main/lib/python3.12/site-packages";
        let table = [
            ("etc/os-release".to_owned(), Content),
            ("/usr/lib/os-release".to_owned(), Content),
            ("var/lib/dpkg/status".to_owned(), Content),
            ("var/lib/dpkg/updates/0003".to_owned(), Content),
            ("var/lib/dpkg/status-old".to_owned(), No),
            ("var/lib/dpkg/info/libc6.list".to_owned(), No),
            (format!("{site}/a-1.dist-info/METADATA"), Content),
            (format!("{site}/A-1.Dist-Info/PKG-INFO"), Content),
            (format!("{site}/a-1.dist-info/RECORD"), No),
            (format!("{site}/a-1.egg-info"), Content),
            (format!("{site}/a-1.egg/EGG-INFO/PKG-INFO"), Content),
            (format!("{site}/a-1-py3.12.egg"), Content),
            (format!("{site}/__editable__.a.pth"), Content),
            (format!("{site}/torch/lib/libtorch_cuda.so"), No),
            (format!("{site}/torch/_C.cpython-312-x86_64-linux-gnu.so"), No),
            ("venv/main/pyvenv.cfg".to_owned(), Content),
            ("usr/bin/python3.12".to_owned(), Content),
            ("usr/bin/dash".to_owned(), Content),
            ("usr/bin/perl".to_owned(), No),
            ("usr/lib/x86_64-linux-gnu/libpython3.12.so.1.0".to_owned(), Content),
            ("usr/lib/python3.12/site.py".to_owned(), Content),
            ("usr/lib/python3.12/os.py".to_owned(), Name),
            ("usr/lib/python3.12/json/decoder.py".to_owned(), No),
            ("usr/include/python3.10/patchlevel.h".to_owned(), Content),
            ("opt/conda/conda-meta/python-3.10.13-hd12c33a_0_cpython.json".to_owned(), Content),
            ("opt/conda/conda-meta/numpy-1.26.json".to_owned(), No),
            (format!("{site}/_virtualenv.py"), Name),
            (format!("{site}/__editable___demo_finder.py"), Name),
            (format!("{site}/_distutils_hack/__init__.py"), Name),
            ("etc/python3.11/sitecustomize.py".to_owned(), Content),
            ("workspace/model.safetensors".to_owned(), No),
        ];
        for (path, need) in table {
            assert_eq!(may_read(Path::new(&path)), need, "{path}");
        }
    }
}
