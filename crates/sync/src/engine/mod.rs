//! The tree copy engine.
//!
//! One value's way through it: a file of the source is found by the [walk](mod@walk), counted by the [survey](mod@survey), and in a second walk
//! [copied](mod@copy): its [content] moved, its [metadata] applied, further names of it [linked](links). What the target
//! cannot keep becomes one of the [notes]. Nothing here publishes: the caller gets a complete and flushed tree under the
//! name it chose.

pub(crate) mod births;
pub(crate) mod content;
pub(crate) mod copy;
pub(crate) mod crew;
pub(crate) mod facts;
pub(crate) mod large;
pub(crate) mod links;
pub(crate) mod metadata;
pub(crate) mod notes;
pub(crate) mod remove;
pub(crate) mod scratch;
pub(crate) mod survey;
pub(crate) mod verify;
pub(crate) mod walk;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::volume::flush;
use crate::volume::kind::Kind;
use crate::volume::space::Room;
use crate::{Error, Progress, fault};
use births::Births;
use content::Channel;
use copy::{Copier, Spot};
use crew::Crew;
use facts::Facts;
use links::Links;
use notes::Notes;
use scratch::Scratch;
use survey::Size;
use walk::{Node, walk};

/// A name in an open directory. The path is for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    pub(crate) path: &'a Path,
}

/// What was copied.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// Content, in bytes.
    pub(crate) bytes: u64,
    /// Entries of any kind.
    pub(crate) entries: u64,
    /// Entries of the target that were there before and stayed.
    pub(crate) kept: u64,
    /// Entries of the source that the target cannot hold, or that mean nothing in a copy.
    pub(crate) left_out: u64,
}

/// How a tree is copied.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    /// What the tree amounts to, from [`measure`].
    pub(crate) size: Size,
    /// Whether the target may be there, and what is in it stays. Otherwise it must not be there.
    pub(crate) merge: bool,
    /// The name of a scratch directory that nobody else uses: beside a new target, or in one that is there.
    pub(crate) scratch: &'a OsStr,
    /// Where it is told what the target cannot keep.
    pub(crate) notes: &'a Notes<'a>,
    /// Entries directly below the root that are not copied.
    pub(crate) leave_out: &'a [&'a OsStr],
}

/// The thing at a place, opened if it is a directory.
struct Opened {
    stat: Stat,
    directory: Option<OwnedFd>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Opened {
    fn at(place: Place<'_>) -> Result<Self, Error> {
        let failed = |action| move |errno| Error::io(action, place.path, errno);
        let stat = statat(place.directory, place.name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("read"))?;
        if stat.kind() != FileType::Directory {
            return Ok(Self { stat, directory: None });
        }
        let directory = openat(place.directory, place.name, DIRECTORY, Mode::empty()).map_err(failed("open"))?;
        let stat = fstat(&directory).map_err(failed("read"))?;
        Ok(Self { stat, directory: Some(directory) })
    }
}

/// Counts a tree, for a target with blocks of that size.
pub(crate) fn measure(from: Place<'_>, block_bytes: u64) -> Result<Size, Error> {
    let opened = Opened::at(from)?;
    survey::survey(&opened.stat, opened.directory, from.path, block_bytes)
}

/// Whether a tree of that size can be copied into a directory: there is room for it, and links can be made if it has any.
///
/// Where blocks may be shared with the source, the number of bytes says nothing and is not looked at.
pub(crate) fn check(from: BorrowedFd<'_>, size: &Size, probe: Place<'_>) -> Result<(), Error> {
    let failed = |errno| Error::io("look at", probe.path, errno);
    let room = Room::of(probe.directory).map_err(failed)?;
    let same_filesystem = fstat(from).map_err(failed)?.st_dev == fstat(probe.directory).map_err(failed)?.st_dev;
    let shares_blocks = same_filesystem && Kind::shares_blocks(probe.directory);
    room.check(probe.path, if shares_blocks { 0 } else { size.allocated_bytes }, size.inodes)?;
    if size.symlinks == 0 {
        return Ok(());
    }
    match fault::call("stage.symlink", || symlinkat(".", probe.directory, probe.name)) {
        Ok(()) => unlinkat(probe.directory, probe.name, AtFlags::empty()).map_err(failed),
        Err(errno @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
            Err(Error::NoSymlinks { path: probe.path.to_owned(), count: size.symlinks, source: errno.into() })
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Copies what is at `from` to `to`, and flushes it.
///
/// On failure an incomplete copy is at `to`; it is the caller's to remove.
pub(crate) fn transfer(
    from: Place<'_>,
    to: Place<'_>,
    manner: &Manner<'_>,
    progress: &dyn Progress,
) -> Result<Copied, Error> {
    let source = Opened::at(from)?;
    let crew = Crew::new();
    let beside = Scratch::new(to.directory, manner.scratch, to.path.with_file_name(manner.scratch));
    let mut copier = Copier {
        from: from.path,
        to: to.path,
        volume: to.directory,
        root: None,
        progress,
        notes: manner.notes,
        scratch: &beside,
        size: manner.size,
        leave_out: manner.leave_out,
        merge: manner.merge,
        // The close of a file on such a volume waits for its data anyway, but keeps an error of writing it to itself.
        flush_files: !Kind::of(to.directory).is_local(),
        channel: Channel::new(),
        links: Links::new(),
        births: Births::default(),
        kept: AtomicU64::new(0),
        done_bytes: AtomicU64::new(0),
        done_entries: AtomicU64::new(0),
    };
    let name = c_name(to.name);
    let spot = Spot { directory: to.directory, name: &name, path: Path::new("") };
    let Some(directory) = source.directory else {
        copier.copy_alone(from.directory, &c_name(from.name), source.stat.kind(), spot)?;
        let done = copier.into_copied();
        flush_entry(to)?;
        return Ok(done);
    };
    let Some(made) = copier.make_directory(spot, source.stat)? else {
        return Err(Error::TargetExists { path: to.path.to_owned() });
    };
    if !made.was_there {
        metadata::disinherit(made.fd.as_fd());
    }
    // One for the walk, one for what needs the root from everywhere.
    let root = made.fd.try_clone().map_err(|error| Error::io("open", to.path, error))?;
    let mut inside = Scratch::new(root.as_fd(), manner.scratch, to.path.join(manner.scratch));
    copier.root = Some(root.as_fd());
    if manner.merge {
        copier.volume = root.as_fd();
        copier.scratch = &inside;
    }
    walk(Node::root(directory, made), from.path, &crew, &copier)?;
    let done = copier.into_copied();
    inside.clear()?;
    drop(beside);
    flush::filesystem(&root).map_err(|errno| Error::io("flush", to.path, errno))?;
    Ok(done)
}

impl Copier<'_> {
    fn into_copied(self) -> Copied {
        Copied {
            bytes: self.done_bytes.into_inner(),
            entries: self.done_entries.into_inner(),
            kept: self.kept.into_inner(),
            left_out: self.notes.skipped(),
        }
    }
}

/// Flushes a single file: that is cheaper than its filesystem, which other tenants of a machine write to as well.
fn flush_entry(place: Place<'_>) -> Result<(), Error> {
    let failed = |errno| Error::io("flush", place.path, errno);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match statat(place.directory, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.kind() == FileType::RegularFile => {
            let file = openat(place.directory, place.name, flags, Mode::empty()).map_err(failed)?;
            flush::file(file).map_err(failed)
        }
        // What is no file has no data of its own: it is durable with the directory that it is in. One that was left out
        // is not there.
        Ok(_) | Err(Errno::NOENT) => flush::file(place.directory).map_err(failed),
        Err(errno) => Err(failed(errno)),
    }
}

/// A name that came from a directory or from an argument has no zero byte; one that has leads nowhere.
fn c_name(name: &OsStr) -> CString {
    CString::new(name.as_bytes()).unwrap_or_default()
}
