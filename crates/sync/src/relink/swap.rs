//! The swap, both ways, and completing one that was interrupted.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fstat, open, openat, readlinkat, renameat, renameat_with, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::journal::{Intent, Journal, Way};
use crate::engine::facts::Facts;
use crate::engine::notes::Notes;
use crate::engine::{self, Manner, remove};
use crate::relocation::on_host;
use crate::volume::{flush, listing};
use crate::{Error, Progress, fault};

/// How what lies beside a directory that was swapped is called: this and the directory's name.
pub(crate) const ASIDE: &str = ".vast-relink.";

/// A directory of the container and what is to become of it. Paths are those of the container.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    /// What stands for the container's `/` here.
    pub(crate) root: &'a Path,
    /// The directory.
    pub(crate) path: &'a Path,
    /// What the link leads to.
    pub(crate) target: &'a Path,
    /// The entry of the directory that is removed last.
    pub(crate) keep_last: Option<&'a OsStr>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Directory,
    /// A link, and where it leads.
    Link(PathBuf),
    /// Something else.
    Other,
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// The link is in place.
    Yes,
    /// The directory is in place: with the link, it did not work, for this reason.
    RolledBack(String),
    /// The directory is the root of a mount, which cannot be replaced.
    Mount,
}

impl Place<'_> {
    /// The directory, as a path of this machine.
    pub(crate) fn here(&self) -> PathBuf {
        on_host(self.root, self.path)
    }

    fn parent(&self) -> Result<OwnedFd, Error> {
        let here = self.here();
        let parent = here.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(parent, flags, Mode::empty()).map_err(|errno| Error::io("open", parent, errno))
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Beside the directory: the link before the swap, the directory after an exchange.
    fn aside(&self) -> OsString {
        let mut name = OsString::from(ASIDE);
        name.push(self.name());
        name
    }

    /// Beside the directory: its copy, while it is restored.
    fn copy(&self) -> OsString {
        let mut name = OsString::from(".vast-restore.");
        name.push(self.name());
        name
    }

    fn error(&self, action: &'static str) -> impl FnOnce(Errno) -> Error {
        let here = self.here();
        move |errno| Error::io(action, here, errno)
    }

    fn intent(&self, way: Way) -> Intent {
        Intent {
            path: self.path.to_owned(),
            target: self.target.to_owned(),
            keep_last: self.keep_last.map(OsStr::to_owned),
            way,
        }
    }
}

/// What is at a path of this machine.
pub(crate) fn look(path: &Path) -> Result<Found, Error> {
    match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => Ok(Found::Directory),
        Ok(facts) if facts.is_symlink() => {
            fs::read_link(path).map(Found::Link).map_err(|source| Error::io("read", path, source))
        }
        Ok(_) => Ok(Found::Other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(source) => Err(Error::io("look at", path, source)),
    }
}

/// Puts a link in the directory's place. `works` looks at the result, and the directory comes back if it does not.
pub(crate) fn swap(
    place: &Place<'_>,
    journal: &Journal,
    works: &dyn Fn() -> Result<(), String>,
    progress: &dyn Progress,
) -> Result<Swapped, Error> {
    let parent = place.parent()?;
    let (name, aside) = (place.name(), place.aside());
    let is_mount = match (fstat(&parent), statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)) {
        (Ok(above), Ok(itself)) => above.st_dev != itself.st_dev,
        _ => false,
    };
    if is_mount {
        return Ok(Swapped::Mount);
    }
    clear_aside(place, &parent)?;
    fault::call("relink.symlink", || symlinkat(place.target, &parent, &*aside)).map_err(place.error("link"))?;
    let exchanged =
        fault::call("relink.exchange", || renameat_with(&parent, &*aside, &parent, name, RenameFlags::EXCHANGE));
    match exchanged {
        Ok(()) => {}
        // A mount whose filesystem is that of its parent.
        Err(Errno::BUSY) => {
            unlinkat(&parent, &*aside, AtFlags::empty()).map_err(place.error("remove the link beside"))?;
            return Ok(Swapped::Mount);
        }
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            return without_exchange(place, &parent, journal, works, progress);
        }
        Err(errno) => return Err(place.error("exchange with a link")(errno)),
    }
    if let Err(reason) = works() {
        bring_back(place, &parent)?;
        return Ok(Swapped::RolledBack(reason));
    }
    flush::file(&parent).map_err(place.error("flush"))?;
    clear_aside(place, &parent)?;
    Ok(Swapped::Yes)
}

/// Completes a swap that an exchange has carried out: the link is there, and beside it is the directory.
pub(crate) fn finish(place: &Place<'_>, works: &dyn Fn() -> Result<(), String>) -> Result<Swapped, Error> {
    let parent = place.parent()?;
    let aside = place.aside();
    let is_directory =
        statat(&parent, &*aside, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.kind() == FileType::Directory);
    if is_directory && let Err(reason) = works() {
        bring_back(place, &parent)?;
        return Ok(Swapped::RolledBack(reason));
    }
    clear_aside(place, &parent)?;
    Ok(Swapped::Yes)
}

/// Undoes an exchange.
fn bring_back(place: &Place<'_>, parent: &OwnedFd) -> Result<(), Error> {
    let (name, aside) = (place.name(), place.aside());
    fault::call("relink.exchange-back", || renameat_with(parent, &*aside, parent, name, RenameFlags::EXCHANGE))
        .map_err(place.error("bring back"))?;
    unlinkat(parent, &*aside, AtFlags::empty()).map_err(place.error("remove the link beside"))
}

/// Removes what an earlier swap left beside: a link that was not needed, or the directory after an exchange.
fn clear_aside(place: &Place<'_>, parent: &OwnedFd) -> Result<(), Error> {
    let aside = place.aside();
    remove::tree(parent.as_fd(), &aside, &place.here().with_file_name(&aside))
}

fn without_exchange(
    place: &Place<'_>,
    parent: &OwnedFd,
    journal: &Journal,
    works: &dyn Fn() -> Result<(), String>,
    progress: &dyn Progress,
) -> Result<Swapped, Error> {
    journal.begin(&place.intent(Way::Link))?;
    replace(place, parent)?;
    let worked = works();
    if worked.is_ok() {
        journal.end(place.path)?;
        return Ok(Swapped::Yes);
    }
    restore(place, journal, progress)?;
    worked.map_or_else(|reason| Ok(Swapped::RolledBack(reason)), |()| Ok(Swapped::Yes))
}

/// Removes the directory, as far as it is there, and puts the link in its place. The link may be prepared already.
fn replace(place: &Place<'_>, parent: &OwnedFd) -> Result<(), Error> {
    let (name, aside) = (place.name(), place.aside());
    match fault::call("relink.symlink", || symlinkat(place.target, parent, &*aside)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(place.error("link")(errno)),
    }
    empty(place, parent)?;
    // From here to the rename there is neither the directory nor the link: nothing slow is done between.
    match fault::call("relink.rmdir", || unlinkat(parent, name, AtFlags::REMOVEDIR)) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(place.error("remove")(errno)),
    }
    fault::call("relink.rename", || renameat(parent, &*aside, parent, name)).map_err(place.error("link"))?;
    flush::file(parent).map_err(place.error("flush"))
}

/// Removes what is in the directory; the entry that is to last goes last, and of what is in it, in the end the keys.
fn empty(place: &Place<'_>, parent: &OwnedFd) -> Result<(), Error> {
    let here = place.here();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(parent, place.name(), flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(place.error("open")(errno)),
    };
    let names = listing::names(&directory, usize::MAX).map_err(place.error("list"))?.names;
    let (last, others): (Vec<OsString>, Vec<OsString>) =
        names.into_iter().partition(|name| Some(&**name) == place.keep_last);
    for name in &others {
        fault::call("relink.remove", || Ok(())).map_err(place.error("empty"))?;
        remove::tree(directory.as_fd(), name, &here.join(name))?;
    }
    for name in last {
        if let Ok(inside) = openat(&directory, &*name, flags, Mode::empty()) {
            let names = listing::names(&inside, usize::MAX).map_err(place.error("list"))?.names;
            for other in names.iter().filter(|other| *other != "authorized_keys") {
                remove::tree(inside.as_fd(), other, &here.join(&name).join(other))?;
            }
        }
        fault::call("relink.remove", || Ok(())).map_err(place.error("empty"))?;
        remove::tree(directory.as_fd(), &name, &here.join(&name))?;
    }
    Ok(())
}

/// Puts a copy of the target in the link's place, as if there had never been a link.
pub(crate) fn restore(place: &Place<'_>, journal: &Journal, progress: &dyn Progress) -> Result<(), Error> {
    let parent = place.parent()?;
    let (name, copy) = (place.name(), place.copy());
    journal.begin(&place.intent(Way::Restore))?;
    let target = on_host(place.root, place.target);
    let path = place.here().with_file_name(&copy);
    remove::tree(parent.as_fd(), &copy, &path)?;
    let above = target.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = open(above, flags, Mode::empty()).map_err(|errno| Error::io("open", above, errno))?;
    let from = engine::Place { directory: from.as_fd(), name: target.file_name().unwrap_or_default(), path: &target };
    let size = engine::measure(from, 4096)?;
    let to = engine::Place { directory: parent.as_fd(), name: &copy, path: &path };
    engine::check(from.directory, &size, engine::Place { path: &path, name: &place.aside(), ..to })?;
    let notes = Notes::new(progress);
    let mut scratch = copy.clone();
    scratch.push(".scratch");
    let manner = Manner { size, merge: false, scratch: &scratch, notes: &notes, leave_out: &[] };
    progress.start(size.bytes, size.entries);
    let copied = engine::transfer(from, to, &manner, progress);
    progress.finish();
    if let Err(error) = copied {
        let _ = remove::tree(parent.as_fd(), &copy, &path);
        return Err(error);
    }
    // Where the link is, or nothing is because an earlier attempt died here.
    let exchanged =
        fault::call("restore.exchange", || renameat_with(&parent, &*copy, &parent, name, RenameFlags::EXCHANGE));
    if exchanged.is_err() {
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(place.error("remove the link")(errno)),
        }
        fault::call("restore.rename", || renameat(&parent, &*copy, &parent, name)).map_err(place.error("restore"))?;
    }
    flush::file(&parent).map_err(place.error("flush"))?;
    // After an exchange it is the link.
    remove::tree(parent.as_fd(), &copy, &path)?;
    journal.end(place.path)
}

/// Completes what an earlier run began, and returns the paths of the container that this concerned.
pub(crate) fn recover(root: &Path, journal: &Journal, progress: &dyn Progress) -> Result<Vec<PathBuf>, Error> {
    let mut recovered = Vec::new();
    for intent in journal.read()? {
        let keep_last = intent.keep_last.as_deref();
        let place = Place { root, path: &intent.path, target: &intent.target, keep_last };
        complete(&place, intent.way, journal, progress)?;
        recovered.push(intent.path);
    }
    Ok(recovered)
}

fn complete(place: &Place<'_>, way: Way, journal: &Journal, progress: &dyn Progress) -> Result<(), Error> {
    let found = look(&place.here())?;
    let is_linked = matches!(&found, Found::Link(to) if to == place.target);
    let target = on_host(place.root, place.target);
    let target_is_there = fs::metadata(&target).is_ok_and(|facts| facts.is_dir());
    match (way, found) {
        (Way::Link, Found::Directory | Found::Nothing) if target_is_there => {
            progress.message(&format!("completing the interrupted move of `{}`", place.path.display()));
            let parent = place.parent()?;
            // A link that leads elsewhere was left by another version; the one that is needed is made anew.
            let aside = place.aside();
            if readlinkat(&parent, &*aside, Vec::new())
                .is_ok_and(|to| to.to_bytes() != place.target.as_os_str().as_encoded_bytes())
            {
                clear_aside(place, &parent)?;
            }
            replace(place, &parent)?;
        }
        (Way::Restore, Found::Nothing) if target_is_there => return restore(place, journal, progress),
        (Way::Restore, Found::Link(_)) if is_linked && target_is_there => return restore(place, journal, progress),
        (Way::Link, Found::Directory | Found::Nothing) | (Way::Restore, Found::Nothing) => {
            return Err(Error::Interrupted { path: place.here(), target });
        }
        // Carried out, but for the last step; or someone has put something else there.
        _ => {
            let parent = place.parent()?;
            let (aside, copy) = (place.aside(), place.copy());
            for name in [aside, copy] {
                let is_ours = statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| matches!(stat.kind(), FileType::Symlink | FileType::Directory));
                if is_ours {
                    remove::tree(parent.as_fd(), &name, &place.here().with_file_name(&name))?;
                }
            }
        }
    }
    journal.end(place.path)
}
