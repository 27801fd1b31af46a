//! Copying: what the walk does with each entry of the source.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::births::{Births, Born};
use super::content::{Begun, Channel, Failure};
use super::facts::Facts;
use super::large::Large;
use super::links::{Links, Named, Target};
use super::metadata::{self, Object};
use super::notes::{Lack, Notes};
use super::scratch::Scratch;
use super::survey::Size;
use super::walk::{Node, Visitor, Worker};
use crate::volume::publish::{Name, Published, publish};
use crate::volume::{flush, space};
use crate::{Error, Progress, fault};

/// What a directory of the source became.
pub(crate) struct Made {
    /// The directory in the target.
    pub(crate) fd: OwnedFd,
    /// What the source's is like.
    pub(crate) stat: Stat,
    /// Whether it was there before, and so keeps its own permissions and times.
    pub(crate) was_there: bool,
    /// With which permissions it was made, if it was.
    birth_mode: Mode,
}

/// One copy, from the point of view of its entries.
pub(crate) struct Copier<'a> {
    /// The root of the source, for messages.
    pub(crate) from: &'a Path,
    /// The root of the target, for messages.
    pub(crate) to: &'a Path,
    /// The directory that the target is made in, or the target itself when it was there.
    pub(crate) volume: BorrowedFd<'a>,
    /// The root of the target, if it is a directory.
    pub(crate) root: Option<BorrowedFd<'a>>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) notes: &'a Notes<'a>,
    pub(crate) scratch: &'a Scratch<'a>,
    pub(crate) size: Size,
    /// Entries directly below the root that are not copied.
    pub(crate) leave_out: &'a [&'a OsStr],
    /// Whether entries go where others may be: each is made elsewhere and published, and what is there stays.
    pub(crate) merge: bool,
    /// Whether each file is flushed by itself.
    pub(crate) flush_files: bool,
    pub(crate) channel: Channel,
    pub(crate) links: Links,
    pub(crate) births: Births,
    pub(crate) kept: AtomicU64,
    pub(crate) done_bytes: AtomicU64,
    pub(crate) done_entries: AtomicU64,
}

/// Where an entry goes.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    /// Its path from the root of the target; empty for the root.
    pub(crate) path: &'a Path,
}

/// Whether the wanted name leads to a copy of the source now. It does not when something had the name already, or when
/// the source is of a kind that is left out.
type Copied = bool;

/// How a file stands that was created.
enum Filled {
    /// Its content is there, and everything else of it.
    Whole,
    /// It is large: the open file is to be filled.
    Begun(OwnedFd),
}

impl Copier<'_> {
    /// Copies an entry that is no directory, outside a walk.
    pub(crate) fn copy_alone(
        &self,
        source: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        spot: Spot<'_>,
    ) -> Result<(), Error> {
        let mut worker = Worker::alone();
        self.copy_entry(source, name, kind, spot, &mut worker)?;
        if let Some(large) = worker.large.take() {
            while self.part(&large, &mut worker)? {}
        }
        Ok(())
    }

    /// Copies an entry that is no directory.
    pub(crate) fn copy_entry(
        &self,
        source: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        spot: Spot<'_>,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error> {
        if self.merge && self.is_taken(spot)? {
            self.keep();
            return Ok(());
        }
        if kind == FileType::Socket {
            self.notes.leave_out(Lack::Sockets, &self.source_path(spot.path));
            return Ok(());
        }
        let file = match kind {
            FileType::RegularFile => Some(self.open_file(source, name, spot.path)?),
            _ => None,
        };
        let stat = match &file {
            Some(file) => fstat(file),
            None => statat(source, name, AtFlags::SYMLINK_NOFOLLOW),
        }
        .map_err(|errno| self.source_error("read", spot.path, errno))?;
        if stat.kind() != kind {
            return Err(Error::SourceChanged { path: self.source_path(spot.path) });
        }
        let from = file.as_ref().map_or(Object::Named(source, name), |file| Object::Open(file.as_fd()));
        let filled = match self.root {
            Some(root) if stat.is_linked() && !self.notes.lacks(Lack::HardLinks) => {
                self.copy_linked(root, from, &stat, spot, worker)?
            }
            _ if self.merge => self.make_elsewhere(from, &stat, spot, worker).map(|_| Filled::Whole)?,
            _ => self.make(from, &stat, spot, worker)?.unwrap_or(Filled::Whole),
        };
        if let (Filled::Begun(to), Some(from)) = (filled, file) {
            worker.large = Some(Large::new(from, to, stat, spot.path.to_owned()));
        }
        Ok(())
    }

    fn open_file(&self, source: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<OwnedFd, Error> {
        // NONBLOCK: what was a file in the listing may be a FIFO by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(source, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NXIO => Error::SourceChanged { path: self.source_path(path) },
            errno => self.source_error("open", path, errno),
        })
    }

    /// Copies a file that may have other names in the tree.
    fn copy_linked(
        &self,
        root: BorrowedFd<'_>,
        from: Object<'_>,
        stat: &Stat,
        spot: Spot<'_>,
        worker: &mut Worker<'_>,
    ) -> Result<Filled, Error> {
        let name = OsStr::from_bytes(spot.name.to_bytes());
        let target = Target { root, directory: spot.directory, name, path: spot.path };
        // The other names wait for this one: until the file is there, or, where files are published, until it is whole.
        let named = self.links.name(stat, &target, self.scratch, || {
            if stat.kind() == FileType::RegularFile && !self.merge {
                return Ok(Some(Some(self.create_file(spot, stat)?)));
            }
            let copied = if self.merge {
                self.make_elsewhere(from, stat, spot, worker)?
            } else {
                self.make(from, stat, spot, worker)?.is_some()
            };
            Ok(copied.then_some(None))
        })?;
        match named {
            Named::First(Some(file)) => return self.fill_file(from, stat, file, spot.path, worker),
            Named::First(None) | Named::Nothing => {}
            Named::Linked => self.done(),
            Named::Taken if self.merge => self.keep(),
            Named::Taken => return Err(self.target_error("link", spot.path, Errno::EXIST)),
            Named::Failed(errno) => return Err(self.target_error("link", spot.path, errno)),
            Named::Refused => {
                self.notes.lack(Lack::HardLinks, &self.to.join(spot.path));
                if !self.merge {
                    return Ok(self.make(from, stat, spot, worker)?.unwrap_or(Filled::Whole));
                }
                self.make_elsewhere(from, stat, spot, worker)?;
            }
        }
        Ok(Filled::Whole)
    }

    /// Copies an entry to where nobody looks, and gives it its name when it is whole: others may be there.
    fn make_elsewhere(
        &self,
        from: Object<'_>,
        stat: &Stat,
        spot: Spot<'_>,
        worker: &mut Worker<'_>,
    ) -> Result<Copied, Error> {
        let (scratch, partial) = (self.scratch.directory()?, self.scratch.fresh_name());
        match (self.make(from, stat, Spot { directory: scratch, name: &partial, ..spot }, worker)?, from) {
            (None, _) => return Ok(false),
            (Some(Filled::Begun(to)), Object::Open(from)) => {
                let from =
                    from.try_clone_to_owned().map_err(|error| Error::io("open", self.source_path(spot.path), error))?;
                let large = Large::new(from, to, *stat, spot.path.to_owned());
                while self.part(&large, worker)? {}
            }
            _ => {}
        }
        let name_of = |name: &CStr| OsStr::from_bytes(name.to_bytes()).to_owned();
        let (made, wanted) = (name_of(&partial), name_of(spot.name));
        let made = Name { directory: scratch, name: &made };
        match publish(made, Name { directory: spot.directory, name: &wanted }) {
            Ok(Published::Yes) => Ok(true),
            Ok(Published::NameTaken) => {
                self.kept.fetch_add(1, Ordering::Relaxed);
                unlinkat(scratch, &*partial, AtFlags::empty())
                    .map_err(|errno| self.target_error("remove the copy of", spot.path, errno))?;
                Ok(false)
            }
            Err(errno) => Err(self.target_error("publish", spot.path, errno)),
        }
    }

    /// Copies an entry under its own name. `None`: the source is of a kind that is left out.
    fn make(
        &self,
        from: Object<'_>,
        stat: &Stat,
        spot: Spot<'_>,
        worker: &mut Worker<'_>,
    ) -> Result<Option<Filled>, Error> {
        let made = match from {
            Object::Open(_) => {
                let file = self.create_file(spot, stat)?;
                return self.fill_file(from, stat, file, spot.path, worker).map(Some);
            }
            Object::Named(source, name) if stat.kind() == FileType::Symlink => {
                let target = readlinkat(source, name, Vec::new())
                    .map_err(|errno| self.source_error("read", spot.path, errno))?;
                fault::call("stage.symlink", || symlinkat(&target, spot.directory, spot.name))
            }
            Object::Named(..) => match make_special(spot, stat) {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.notes.leave_out(Lack::SpecialFiles, &self.to.join(spot.path));
                    return Ok(None);
                }
                made => made,
            },
        };
        made.map_err(|errno| self.target_error("create", spot.path, errno))?;
        let to = Object::Named(spot.directory, spot.name);
        self.finish(from, stat, to, self.born(stat.kind(), stat.mode(), to, spot.path)?, spot.path)?;
        Ok(Some(Filled::Whole))
    }

    fn create_file(&self, spot: Spot<'_>, stat: &Stat) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fault::call("stage.create", || openat(spot.directory, spot.name, flags, mode_at_birth(stat)))
            .map_err(|errno| self.target_error("create", spot.path, errno))
    }

    fn fill_file(
        &self,
        from: Object<'_>,
        stat: &Stat,
        file: OwnedFd,
        path: &Path,
        worker: &mut Worker<'_>,
    ) -> Result<Filled, Error> {
        if let Object::Open(source) = from {
            let begun = self.channel.begin(source, stat, file.as_fd(), worker, &|bytes| self.advance(bytes));
            if begun.map_err(|failure| self.failed(failure, path))? == Begun::Large {
                return Ok(Filled::Begun(file));
            }
        }
        self.complete(from, stat, file.as_fd(), path)?;
        Ok(Filled::Whole)
    }

    /// Sees to what comes after the content of a file.
    fn complete(&self, from: Object<'_>, stat: &Stat, file: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        if self.flush_files {
            flush::file(file).map_err(|errno| self.target_error("write", path, errno))?;
        }
        let to = Object::Open(file);
        let born = self.born(FileType::RegularFile, mode_at_birth(stat), to, path)?;
        self.finish(from, stat, to, born, path)
    }

    /// What a new entry is like before anything is set.
    fn born(&self, kind: FileType, mode: Mode, entry: Object<'_>, path: &Path) -> Result<Born, Error> {
        self.births.of(kind, mode, || entry.stat()).map_err(|errno| self.target_error("read back", path, errno))
    }

    fn finish(&self, from: Object<'_>, stat: &Stat, to: Object<'_>, born: Born, path: &Path) -> Result<(), Error> {
        let notes = self.notes.at(self.to, path);
        metadata::apply(from, stat, to, born, notes)?;
        if self.births.deserves_look(stat, born) {
            metadata::notice(stat, to, notes)?;
        }
        self.done();
        Ok(())
    }

    fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress.advance(bytes, 0);
    }

    fn failed(&self, failure: Failure, path: &Path) -> Error {
        match failure {
            Failure::Read(errno) => self.source_error("read", path, errno),
            Failure::Write(errno) => self.target_error("write", path, errno),
            Failure::Shrunk => Error::SourceChanged { path: self.source_path(path) },
        }
    }

    fn done(&self) {
        self.done_entries.fetch_add(1, Ordering::Relaxed);
        self.progress.advance(0, 1);
    }

    fn keep(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.done();
    }

    fn is_taken(&self, spot: Spot<'_>) -> Result<bool, Error> {
        match statat(spot.directory, spot.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.target_error("look at", spot.path, errno)),
        }
    }

    /// Makes a directory in the target. `None`: something else has the name, and stays.
    pub(crate) fn make_directory(&self, spot: Spot<'_>, stat: Stat) -> Result<Option<Made>, Error> {
        // Nobody else looks into the root before it has its own permissions, which it gets when it is complete; so those
        // below may have them at once, which saves setting them.
        let is_root = spot.path.as_os_str().is_empty();
        let birth_mode = if is_root || self.merge { Mode::RWXU } else { mode_at_birth(&stat) | Mode::RWXU };
        let was_there = match fault::call("stage.mkdir", || mkdirat(spot.directory, spot.name, birth_mode)) {
            Ok(()) => false,
            Err(Errno::EXIST) if self.merge => true,
            Err(errno) => return Err(self.target_error("create", spot.path, errno)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(spot.directory, spot.name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Made { fd, stat, was_there, birth_mode })),
            Err(Errno::LOOP | Errno::NOTDIR) if self.merge => {
                self.keep();
                Ok(None)
            }
            Err(errno) => Err(self.target_error("open", spot.path, errno)),
        }
    }

    fn is_left_out(&self, directory: &Node<Made>, name: &CStr) -> bool {
        directory.parent().is_none() && self.leave_out.contains(&OsStr::from_bytes(name.to_bytes()))
    }

    fn source_path(&self, path: &Path) -> PathBuf {
        join(self.from, path)
    }

    fn source_error(&self, action: &'static str, path: &Path, errno: Errno) -> Error {
        Error::io(action, self.source_path(path), errno)
    }

    /// Tells an error of the target: what is full is told with what was needed and what there is.
    pub(crate) fn target_error(&self, action: &'static str, path: &Path, errno: Errno) -> Error {
        let path = join(self.to, path);
        if space::is_full(errno) {
            space::full(self.volume, &path, &self.size, errno)
        } else {
            Error::io(action, path, errno)
        }
    }
}

/// Special bits come with the owner; the rest is right from the start, mostly, and need not be set again.
fn mode_at_birth(stat: &Stat) -> Mode {
    stat.mode() & (Mode::RWXU | Mode::RWXG | Mode::RWXO)
}

/// Makes a FIFO or a device. Some filesystems in user space (exFAT's) make an empty regular file instead, which the kernel
/// answers with EIO or not at all; whoever opened that would not know what it was, so it goes again.
fn make_special(spot: Spot<'_>, stat: &Stat) -> Result<(), Errno> {
    let made = mknodat(spot.directory, spot.name, stat.kind(), stat.mode(), stat.st_rdev);
    if !matches!(made, Ok(()) | Err(Errno::IO)) {
        return made;
    }
    match statat(spot.directory, spot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if there.kind() != stat.kind() => {
            unlinkat(spot.directory, spot.name, AtFlags::empty())?;
            Err(Errno::OPNOTSUPP)
        }
        Ok(_) => made,
        Err(errno) => made.and(Err(errno)),
    }
}

/// Like [`Path::join`], but the root itself gets no slash.
fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

impl Visitor for Copier<'_> {
    type State = Made;

    fn enter(&self, parent: &Node<Made>, name: &CStr, fd: &OwnedFd) -> Result<Option<Made>, Error> {
        if self.is_left_out(parent, name) {
            return Ok(None);
        }
        let path = parent.path_to(name);
        let stat = fstat(fd).map_err(|errno| self.source_error("read", &path, errno))?;
        if let Some(root) = self.root
            && fstat(root).is_ok_and(|root| root.id() == stat.id())
        {
            return Err(Error::TargetInsideSource { from: self.from.to_owned(), target: self.to.to_owned() });
        }
        self.make_directory(Spot { directory: parent.state.fd.as_fd(), name, path: &path }, stat)
    }

    fn entry(&self, directory: &Node<Made>, name: &CStr, kind: FileType, worker: &mut Worker<'_>) -> Result<(), Error> {
        if self.is_left_out(directory, name) {
            return Ok(());
        }
        let path = directory.path_to(name);
        let spot = Spot { directory: directory.state.fd.as_fd(), name, path: &path };
        self.copy_entry(directory.fd.as_fd(), name, kind, spot, worker)
    }

    fn part(&self, large: &Large, worker: &mut Worker<'_>) -> Result<bool, Error> {
        let Some(range) = large.take() else { return Ok(false) };
        let (from, to) = (large.from.as_fd(), large.to.as_fd());
        self.channel
            .fill_range(from, &large.stat, to, range.clone(), worker, &|bytes| self.advance(bytes))
            .map_err(|failure| self.failed(failure, &large.path))?;
        if large.give(&range) {
            self.complete(Object::Open(from), &large.stat, to, &large.path)?;
        }
        Ok(true)
    }

    fn leave(&self, directory: &Node<Made>) -> Result<(), Error> {
        let made = &directory.state;
        if made.was_there {
            self.done();
            return Ok(());
        }
        let path = directory.path_to(c"");
        let (from, to) = (Object::Open(directory.fd.as_fd()), Object::Open(made.fd.as_fd()));
        // Where others may be, a directory inherits what is not known, and so does the root.
        let born = if self.merge || directory.parent().is_none() {
            Born::of(&to.stat().map_err(|errno| self.target_error("read back", &path, errno))?)
        } else {
            self.born(FileType::Directory, made.birth_mode, to, &path)?
        };
        self.finish(from, &made.stat, to, born, &path)
    }
}
