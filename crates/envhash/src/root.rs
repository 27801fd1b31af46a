//! Reading below a root directory without ever leaving it.
//!
//! A root is an image laid out in a directory, or the running system itself. Its symbolic links were made for a
//! system that has it as `/`: an absolute target, or one with too many `..`, means a place inside the root. The
//! kernel resolves so with `openat2(RESOLVE_IN_ROOT)` (Linux 5.6); where that is missing or forbidden (old kernels,
//! strict seccomp filters, gVisor), the same walk is done here, one component at a time, never following a link blindly.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::Error;

/// How many symbolic links one path may pass, as in the kernel.
const LINK_LIMIT: usize = 40;

/// How large a text file may be that is read whole. The largest metadata of the Python index is under 2 MiB, and the package
/// database of a full desktop under 10 MiB; what is larger is an accident or an attack.
const TEXT_LIMIT: u64 = 64 << 20;

/// A directory that is treated as `/`.
#[derive(Debug)]
pub struct Root {
    dir: PathBuf,
    fd: OwnedFd,
    resolver: Resolver,
}

/// Who resolves paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolver {
    /// `openat2`, and the walk where the kernel refuses.
    Kernel,
    /// The walk in this module alone, as on a kernel without `openat2`.
    #[cfg(test)]
    Walk,
}

impl Root {
    /// Opens a directory as a root.
    ///
    /// # Errors
    /// [`Error::Root`] where it is not a directory that can be opened.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::with_resolver(dir, Resolver::Kernel)
    }

    fn with_resolver(dir: &Path, resolver: Resolver) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir, flags, Mode::empty())
            .map_err(|errno| Error::Root { path: dir.to_path_buf(), source: errno.into() })?;
        Ok(Self { dir: dir.to_path_buf(), fd, resolver })
    }

    /// The directory, as given to [`Root::open`].
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads a regular file whole. `path` is absolute inside the root; links are followed inside it.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for what is no regular file, `FileTooLarge` beyond 64 MiB.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (file, size) = self.open_regular(path)?;
        if size > TEXT_LIMIT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(TEXT_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`Root::read`]; `None` where nothing is there, or a directory stands in the file's or a file in a directory's place.
    pub(crate) fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::read(path, error)),
        }
    }

    /// Opens a regular file for reading and gives its size in bytes.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn open_regular(&self, path: &Path) -> io::Result<(File, u64)> {
        // A FIFO must not block us, a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_at(path, flags)?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0))),
            FileType::Directory => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// The names in a directory, unsorted, without `.` and `..`.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// What is at the end of a path, links followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open_at(path, OFlags::PATH | OFlags::CLOEXEC)?)?)
    }

    /// Whether a path leads to anything.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        self.stat(path).is_ok()
    }

    /// Whether a path leads to a directory.
    #[must_use]
    pub fn is_dir(&self, path: &Path) -> bool {
        self.stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Whether a path leads to a regular file.
    #[must_use]
    pub fn is_file(&self, path: &Path) -> bool {
        self.stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// The same place without symbolic links, `.` or `..`: an absolute path inside the root.
    ///
    /// # Errors
    /// What the system says; the place has to exist.
    pub fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.walk(path)?.canonical())
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        if self.resolver == Resolver::Kernel {
            match open_in_root(self.fd.as_fd(), path, flags) {
                // Too old (ENOSYS), forbidden by a filter (EPERM), or disturbed by renames (EAGAIN).
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
        let place = self.walk(path)?;
        let (directory, name) = place.last_step();
        Ok(rustix::fs::openat(directory.unwrap_or(self.fd.as_fd()), name, flags | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// Walks a path one component at a time, holding every directory on the way.
    fn walk(&self, path: &Path) -> io::Result<Place> {
        let mut place = Place { steps: Vec::new() };
        let mut todo = components(path.as_os_str());
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let (parent, kind) = match place.steps.last() {
                Some(step) => (step.fd.as_fd(), step.kind),
                None => (self.fd.as_fd(), FileType::Directory),
            };
            if kind != FileType::Directory {
                return Err(Errno::NOTDIR.into());
            }
            if name == ".." {
                place.steps.pop();
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, &name, flags, Mode::empty())?;
            let kind = FileType::from_raw_mode(rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?.st_mode);
            if kind != FileType::Symlink {
                place.steps.push(Step { name, fd, kind });
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
            if target.as_bytes().starts_with(b"/") {
                place.steps.clear();
            }
            for name in components(OsStr::from_bytes(target.as_bytes())).into_iter().rev() {
                todo.push_front(name);
            }
        }
        Ok(place)
    }
}

/// Whether an error means that there is nothing to read at a path.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// The components of a path that matter to a walk: names and `..`.
fn components(path: &OsStr) -> VecDeque<OsString> {
    let named = |component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    Path::new(path).components().filter_map(named).collect()
}

/// Where a walk ended, and the way to it.
struct Place {
    steps: Vec<Step>,
}

struct Step {
    name: OsString,
    fd: OwnedFd,
    kind: FileType,
}

impl Place {
    fn canonical(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(self.steps.iter().map(|step| &step.name));
        path
    }

    /// The directory (`None` for the root) and the name in it to open.
    fn last_step(&self) -> (Option<BorrowedFd<'_>>, &OsStr) {
        match self.steps.as_slice() {
            [] => (None, OsStr::new(".")),
            [step] => (None, &step.name),
            [.., parent, step] => (Some(parent.fd.as_fd()), &step.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root with links of every kind, beside a directory that no path may reach.
    fn tree() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("usr/lib/os-release"), "inside").unwrap();
        fs::write(top.path().join("secret"), "outside").unwrap();
        fs::write(root.join("secret"), "decoy").unwrap();
        symlink("../usr/lib/os-release", root.join("etc/relative")).unwrap();
        symlink("/usr/lib/os-release", root.join("etc/absolute")).unwrap();
        symlink("../../../../secret", root.join("etc/climbing")).unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("lib", root.join("chain")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink(top.path().join("secret"), root.join("etc/escaping")).unwrap();
        symlink("missing", root.join("etc/dangling")).unwrap();
        top
    }

    fn roots(top: &tempfile::TempDir) -> [Root; 2] {
        let directory = top.path().join("root");
        [Resolver::Kernel, Resolver::Walk].map(|resolver| Root::with_resolver(&directory, resolver).unwrap())
    }

    #[test]
    fn both_resolvers_stay_inside_the_root_and_agree() {
        let top = tree();
        let table = [
            ("/usr/lib/os-release", Ok("inside")),
            ("usr/lib/../lib/./os-release", Ok("inside")),
            ("/etc/relative", Ok("inside")),
            ("/etc/absolute", Ok("inside")),
            ("/lib/os-release", Ok("inside")),
            ("/chain/os-release", Ok("inside")),
            ("/chain/../lib/os-release", Ok("inside")),
            ("/etc/climbing", Ok("decoy")),
            ("/../../secret", Ok("decoy")),
            ("/etc/escaping", Err("entity not found")),
            ("/etc/dangling", Err("entity not found")),
            ("/loop", Err("filesystem loop or indirection limit (e.g. symlink loop)")),
            ("/secret/x", Err("not a directory")),
            ("/secret/../secret", Err("not a directory")),
            ("/usr", Err("is a directory")),
        ];
        for root in roots(&top) {
            for (path, expected) in table {
                let found = root.read(Path::new(path)).map(|bytes| String::from_utf8(bytes).unwrap());
                let found = found.map_err(|error| error.kind().to_string());
                let (found, expected) = (found.as_deref().map_err(|error| &**error), expected);
                assert_eq!(found, expected, "{path} by {:?}", root.resolver);
            }
        }
    }

    #[test]
    fn canonical_paths_have_no_links() {
        let top = tree();
        for root in roots(&top) {
            assert_eq!(root.canonical(Path::new("/chain/os-release")).unwrap(), Path::new("/usr/lib/os-release"));
            assert_eq!(root.canonical(Path::new("/etc/../..")).unwrap(), Path::new("/"));
        }
    }

    #[test]
    fn directories_list_through_links_and_pipes_do_not_block() {
        let top = tree();
        let pipe = top.path().join("root/pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        for root in roots(&top) {
            assert_eq!(root.list(Path::new("/chain")).unwrap(), ["os-release"]);
            assert_eq!(root.list(Path::new("/..")).unwrap().len(), 7);
            assert_eq!(root.read(Path::new("/pipe")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
