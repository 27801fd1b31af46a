//! Copying one tree: `vast-sync copy SRC DST`.
//!
//! A target that is not there, or is an empty directory, gets the finished copy in one step: it is made beside, as
//! `.copy_<name>.partial.<owner>`, flushed, compared if asked to, and renamed. Into a directory with content nothing is
//! copied unless asked to merge: then what is missing is added, each file in one step, and what is there stays as it is.
//!
//! A source that is to disappear is renamed where that is possible; where it is not, it is removed when the copy has its
//! name and is durable, and only if nothing of it was lost on the way.
//!
//! ```
//! use vast_sync::{Silent, copy};
//!
//! let root = tempfile::tempdir()?;
//! std::fs::create_dir(root.path().join("from"))?;
//! std::fs::write(root.path().join("from/file"), "content")?;
//!
//! let options = copy::Options::new(root.path().join("from"), root.path().join("to"));
//! let plan = copy::plan(&options)?;
//! assert_eq!((plan.size.entries, plan.size.bytes), (2, 7));
//! copy::apply(&plan, &options, &Silent)?;
//! assert_eq!(std::fs::read(root.path().join("to/file"))?, b"content");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open, openat, renameat, statat};
use rustix::io::Errno;

use crate::engine::facts::Facts;
use crate::engine::notes::Notes;
use crate::engine::{self, Copied, Manner, Place, remove, verify};
use crate::staging::names::{Companion, Family, Stem};
use crate::staging::owner::Owner;
use crate::staging::sweep::{Claim, Sweeper, Swept};
use crate::volume::publish::{Name, Published, publish};
use crate::volume::space::Room;
use crate::volume::{flush, listing};
use crate::{Error, Progress, fault};

pub use crate::engine::survey::Size;
pub use crate::engine::verify::{Depth, Difference, Differences};

/// What is copied where, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is copied: a directory, a file, a link. A link is copied, not followed.
    pub from: PathBuf,
    /// Where it is to be.
    pub to: PathBuf,
    /// Whether a directory that is there gets what it lacks.
    pub merge: bool,
    /// How closely the copy is compared with its source before it is published; not at all if absent.
    pub verify: Option<Depth>,
    /// Whether the source is to disappear. Not together with `merge`.
    pub remove_source: bool,
}

impl Options {
    /// A copy to a place where nothing is, without comparing.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into(), merge: false, verify: None, remove_source: false }
    }
}

/// What a copy would do, as it was when [`plan`] looked.
#[derive(Debug, Clone)]
#[must_use]
pub struct Plan {
    /// What there is to copy.
    pub size: Size,
    /// What is at the target.
    pub target: Target,
}

/// What is at the target of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing: it is created.
    Absent,
    /// An empty directory: it is replaced.
    EmptyDirectory,
    /// A directory that is filled in place: one with content, or the root of a filesystem, which cannot be replaced.
    Directory,
}

/// What was copied.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Report {
    /// Content, in bytes.
    pub bytes: u64,
    /// Entries of any kind.
    pub entries: u64,
    /// Entries of the target that were there before and stayed.
    pub kept: u64,
    /// Entries of the source that the target cannot hold, or that mean nothing in a copy.
    pub left_out: u64,
    /// What the target could not keep, a sentence each.
    pub warnings: Vec<String>,
}

/// Looks at source and target, and changes nothing but for a link that is made and removed to see whether the target can
/// hold links.
///
/// # Errors
/// [`Error::TargetExists`], [`Error::NoSpace`] and [`Error::NoSymlinks`] say beforehand what would go wrong.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    let (from, to) = (Spot::of(&options.from)?, Spot::of(&options.to)?);
    let target = to.target(options, from.is_directory())?;
    let into = match target {
        Target::Directory => Some(to.open_directory()?),
        Target::Absent | Target::EmptyDirectory => None,
    };
    let directory = into.as_ref().unwrap_or(&to.parent).as_fd();
    let room = Room::of(directory).map_err(|errno| Error::io("look at", &options.to, errno))?;
    if room.read_only {
        return Err(Error::ReadOnly { path: options.to.clone() });
    }
    let size = engine::measure(from.place(), room.block_bytes)?;
    if !options.merge {
        let probe = Stem::of(&to.name).partial(Family::Copy, &Owner::new());
        engine::check(from.parent.as_fd(), &size, Place { directory, name: &probe, path: &options.to })?;
    }
    Ok(Plan { size, target })
}

/// Copies as planned.
pub fn apply(plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let (from, to) = (Spot::of(&options.from)?, Spot::of(&options.to)?);
    if options.remove_source && plan.target != Target::Directory && rename(plan.target, &from, &to)? {
        return Ok(Report { bytes: plan.size.bytes, entries: plan.size.entries, ..Report::default() });
    }
    let notes = Notes::new(progress);
    progress.start(plan.size.bytes, plan.size.entries);
    let done = match plan.target {
        Target::Directory => merge(plan, options, &from, &to, &notes, progress),
        Target::Absent | Target::EmptyDirectory => replace(plan, options, &from, &to, &notes, progress),
    };
    progress.finish();
    let Copied { bytes, entries, kept, left_out } = done?;
    if options.remove_source && kept == 0 && notes.texts().is_empty() {
        // The copy's name has to be durable before the source goes.
        flush::file(&to.parent).map_err(|errno| Error::io("flush", to.path, errno))?;
        remove::tree(from.parent.as_fd(), &from.name, from.path)?;
    } else if options.remove_source {
        progress.warning(&format!("`{}` stays, since not everything of it is in the copy", from.path.display()));
    }
    Ok(Report { bytes, entries, kept, left_out, warnings: notes.texts() })
}

/// Fills a directory in place.
fn merge(
    plan: &Plan,
    options: &Options,
    from: &Spot<'_>,
    to: &Spot<'_>,
    notes: &Notes<'_>,
    progress: &dyn Progress,
) -> Result<Copied, Error> {
    let me = Owner::new();
    let stem = Stem::of(OsStr::new("merge"));
    let directory = to.open_directory()?;
    sweep(directory.as_fd(), &options.to, &stem, &me, progress);
    let scratch = stem.partial(Family::Copy, &me);
    let manner = Manner { size: plan.size, merge: true, scratch: &scratch, notes, leave_out: &[] };
    let into = Place { directory: directory.as_fd(), name: OsStr::new("."), path: &options.to };
    let copied = engine::transfer(from.place(), into, &manner, progress)?;
    compare(options, from.place(), into, true, notes)?;
    Ok(copied)
}

/// Makes the copy beside its target, and gives it the name in the end.
fn replace(
    plan: &Plan,
    options: &Options,
    from: &Spot<'_>,
    to: &Spot<'_>,
    notes: &Notes<'_>,
    progress: &dyn Progress,
) -> Result<Copied, Error> {
    let me = Owner::new();
    let stem = Stem::of(&to.name);
    let above = to.path.parent().unwrap_or(Path::new("."));
    sweep(to.parent.as_fd(), above, &stem, &me, progress);
    let partial = stem.partial(Family::Copy, &me);
    let path = above.join(&partial);
    let beside = Place { directory: to.parent.as_fd(), name: &partial, path: &path };
    let scratch = Companion::Scratch.of(&partial);
    let manner = Manner { size: plan.size, merge: false, scratch: &scratch, notes, leave_out: &[] };
    let done = engine::transfer(from.place(), beside, &manner, progress).and_then(|copied| {
        compare(options, from.place(), beside, false, notes)?;
        give_name(plan.target, beside, to)?;
        Ok(copied)
    });
    if done.is_err() {
        // What happened is what the caller is told; the next copy to this place sweeps what cannot be removed now.
        let _ = remove::tree(beside.directory, beside.name, beside.path);
    }
    done
}

/// Gives the source itself the name of the target, if they are on one filesystem. Whether that was possible.
fn rename(target: Target, from: &Spot<'_>, to: &Spot<'_>) -> Result<bool, Error> {
    match give_name(target, from.place(), to) {
        Ok(()) => {
            flush::file(&to.parent).map_err(|errno| Error::io("flush", to.path, errno))?;
            flush::file(&from.parent).map_err(|errno| Error::io("flush", from.path, errno))?;
            Ok(true)
        }
        // Another filesystem; a directory of an overlay's lower layer; a mount.
        Err(Error::Io { source, .. })
            if [Errno::XDEV, Errno::BUSY].map(|errno| Some(errno.raw_os_error())).contains(&source.raw_os_error()) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn give_name(target: Target, partial: Place<'_>, to: &Spot<'_>) -> Result<(), Error> {
    let wanted = Name { directory: to.parent.as_fd(), name: &to.name };
    let published = if target == Target::EmptyDirectory {
        let renamed = fault::call("publish.plain-rename", || {
            renameat(partial.directory, partial.name, wanted.directory, wanted.name)
        });
        match renamed {
            // It is not empty any more, or no directory.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(Published::NameTaken),
            renamed => renamed.map(|()| Published::Yes),
        }
    } else {
        publish(Name { directory: partial.directory, name: partial.name }, wanted)
    };
    match published {
        Ok(Published::Yes) => Ok(()),
        Ok(Published::NameTaken) => Err(Error::TargetExists { path: to.path.to_owned() }),
        Err(errno) => Err(Error::io("publish", to.path, errno)),
    }
}

fn compare(options: &Options, from: Place<'_>, to: Place<'_>, merged: bool, notes: &Notes<'_>) -> Result<(), Error> {
    let Some(depth) = options.verify else { return Ok(()) };
    let differences = verify::compare(from, to, depth, merged, notes)?;
    if differences.count == 0 { Ok(()) } else { Err(Error::Differs(differences)) }
}

/// Clears away what copies to the same place left behind when they died on this machine. There are no locks here, so
/// nothing is known of those elsewhere, and theirs stay.
fn sweep(directory: BorrowedFd<'_>, path: &Path, stem: &Stem, me: &Owner, progress: &dyn Progress) {
    let mut swept = Swept::default();
    match (Sweeper { family: Family::Copy, directory, path, stem, me }).sweep(Claim::Shared, &mut swept) {
        Ok(watched) if watched.copies() > 0 => progress.warning(&format!(
            "{} unfinished copies of other instances lie in `{}`, named `.copy_{}.partial.…`",
            watched.copies(),
            path.display(),
            stem.as_os_str().display()
        )),
        Ok(_) => {}
        Err(error) => swept.failures.push(error),
    }
    for failure in swept.failures {
        progress.warning(&format!("an unfinished copy stays: {}", crate::error::chain(&failure)));
    }
}

/// A path taken apart: a name in an open directory.
struct Spot<'a> {
    parent: OwnedFd,
    name: OsString,
    path: &'a Path,
}

impl<'a> Spot<'a> {
    /// Opens the directory that a path's last name is in. A path without one, such as `.` or `/`, is itself that directory.
    fn of(path: &'a Path) -> Result<Self, Error> {
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => (path, OsStr::new(".")),
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(parent, flags, Mode::empty()).map_err(|errno| Error::io("open", parent, errno))?;
        Ok(Self { parent: opened, name: name.to_owned(), path })
    }

    fn place(&self) -> Place<'_> {
        Place { directory: self.parent.as_fd(), name: &self.name, path: self.path }
    }

    fn is_directory(&self) -> bool {
        let stat = statat(&self.parent, &*self.name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.kind() == FileType::Directory)
    }

    fn open_directory(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.parent, &*self.name, flags, Mode::empty()).map_err(|errno| Error::io("open", self.path, errno))
    }

    /// What is there, if it can be the target of such a copy.
    fn target(&self, options: &Options, from_is_directory: bool) -> Result<Target, Error> {
        let failed = |errno| Error::io("look at", self.path, errno);
        let stat = match statat(&self.parent, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Target::Absent),
            Err(errno) => return Err(failed(errno)),
        };
        if stat.kind() != FileType::Directory || !from_is_directory {
            return Err(Error::TargetExists { path: self.path.to_owned() });
        }
        let directory = self.open_directory()?;
        let is_empty = listing::names(&directory, 0).map_err(failed)?.complete;
        let is_mount = fstat(&self.parent).map_err(failed)?.st_dev != stat.st_dev || self.name == ".";
        match (is_empty, options.merge) {
            (false, false) => Err(Error::TargetExists { path: self.path.to_owned() }),
            (true, false) if !is_mount => Ok(Target::EmptyDirectory),
            _ => Ok(Target::Directory),
        }
    }
}
