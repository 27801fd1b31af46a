//! `.ssh` stays in the container.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, open, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::engine::notes::Notes;
use crate::engine::{self, Place, remove};
use crate::relink::{Found, look};
use crate::relocation::on_host;
use crate::volume::flush;
use crate::{Error, Silent, fault};

pub(super) const DIRECTORY: &str = ".ssh";

/// Where the `.ssh` of each user is kept, as a path of the container. Boot's stage 46 knows it too.
const KEPT: &str = "/home_ssh";

/// Where the `.ssh` of the user whose home goes `to` that place of the shared directory is kept.
fn kept(to: &Path) -> PathBuf {
    Path::new(KEPT).join(to).join(DIRECTORY)
}

/// Keeps the `.ssh` of a home that is about to become a link. Until then, the home's own is the one that is used.
pub(super) fn keep(root: &Path, to: &Path, home: &Path) -> Result<(), Error> {
    let (own, kept) = (home.join(DIRECTORY), on_host(root, &kept(to)));
    let owner = fs::metadata(home).map_err(|source| Error::io("look at", home, source))?;
    // `sshd` follows the link and wants everything above the keys to be root's or the user's, and only theirs to change.
    let above = kept.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
    made.map_err(|source| Error::io("create", above, source))?;
    for directory in [above.parent().unwrap_or(Path::new("/")), above] {
        mode(directory, 0o755)?;
    }
    match look(&own)? {
        Found::Directory => copy(&own, &kept)?,
        Found::Link(to_kept) if on_host(root, &to_kept) == kept => {}
        Found::Nothing => {}
        // Where it leads may depend on where it is; a login is not risked for it.
        _ => return Err(Error::NoDirectory { path: own }),
    }
    match DirBuilder::new().mode(0o700).create(&kept) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::io("create", kept, source)),
    }
    mode(&kept, 0o700)?;
    lchown(&kept, Some(owner.uid()), Some(owner.gid())).or_else(|source| {
        // Not being root: the directory is this user's own then.
        if source.kind() == ErrorKind::PermissionDenied { Ok(()) } else { Err(Error::io("own", &kept, source)) }
    })?;
    flush_directory(above)
}

fn mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| Error::io("set the mode of", path, source))
}

/// Makes `kept` what `own` is, in one step.
fn copy(own: &Path, kept: &Path) -> Result<(), Error> {
    let home = open_directory(own.parent().unwrap_or(Path::new("/")))?;
    let above = open_directory(kept.parent().unwrap_or(Path::new("/")))?;
    let staged = Path::new(".ssh.partial");
    let path = kept.with_file_name(staged);
    remove::tree(above.as_fd(), staged.as_os_str(), &path)?;
    let from = Place { directory: home.as_fd(), name: DIRECTORY.as_ref(), path: own };
    let to = Place { directory: above.as_fd(), name: staged.as_os_str(), path: &path };
    let size = engine::measure(from, 4096)?;
    let notes = Notes::new(&Silent);
    let scratch = Path::new(".ssh.scratch").as_os_str();
    let manner = engine::Manner { size, merge: false, scratch, notes: &notes, leave_out: &[] };
    let done = engine::transfer(from, to, &manner, &Silent).and_then(|_| {
        let placed = fault::call("ssh.rename", || {
            match renameat_with(&above, staged, &above, DIRECTORY, RenameFlags::EXCHANGE) {
                // There is none yet; or, in a lower layer, one that cannot be exchanged, nor is used while the home has its own.
                Err(Errno::NOENT) => renameat(&above, staged, &above, DIRECTORY),
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    let _ = remove::tree(above.as_fd(), DIRECTORY.as_ref(), kept);
                    renameat(&above, staged, &above, DIRECTORY)
                }
                exchanged => exchanged,
            }
        });
        placed.map_err(|errno| Error::io("put in place", kept, errno))
    });
    // After an exchange, that is the one that was there before.
    let removed = remove::tree(above.as_fd(), staged.as_os_str(), &path);
    done.and(removed)
}

/// Makes the `.ssh` of a home on the volume a link to the one in the container.
pub(super) fn link(to: &Path, home: &Path) -> Result<(), Error> {
    let (link, kept) = (home.join(DIRECTORY), kept(to));
    let failed = |action| {
        let link = link.clone();
        move |source: std::io::Error| Error::Io { action, path: link, source }
    };
    match look(&link)? {
        Found::Link(there) if there == kept => return Ok(()),
        Found::Nothing => {}
        Found::Link(_) => {
            let _ = fault::call("ssh.unlink", || unlinkat(CWD, &link, AtFlags::empty()));
        }
        // An older image's copy, or the user's: it stays, under another name.
        Found::Directory | Found::Other => {
            let aside = (1..100)
                .map(|number| home.join(format!(".ssh.volume.{number}")))
                .find(|aside| aside.symlink_metadata().is_err());
            let Some(aside) = aside else { return Err(failed("set aside")(Errno::EXIST.into())) };
            fault::call("ssh.aside", || renameat_with(CWD, &link, CWD, &aside, RenameFlags::NOREPLACE))
                .or_else(|errno| if errno == Errno::INVAL { renameat(CWD, &link, CWD, &aside) } else { Err(errno) })
                .map_err(|errno| failed("set aside")(errno.into()))?;
        }
    }
    match fault::call("ssh.symlink", || {
        symlink(&kept, &link).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }) {
        // Another instance was faster; every one makes the same link.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed("link")(errno.into())),
    }
}

/// Makes a directory where a home's link leads, when that is on the container's own disk because the volume is not mounted:
/// the keys are found from there. A volume that appears hides it, and the home is what it was.
pub(super) fn stand_in(root: &Path, workspace: &Path, to: &Path, target: &Path) {
    let (kept, target) = (kept(to), on_host(root, target));
    let workspace = on_host(root, workspace);
    let own = fs::metadata(root).map(|facts| facts.dev());
    let Ok(owner) = fs::metadata(on_host(root, &kept)) else { return };
    // A workspace that is there and a mount is a volume, only another one: what is made on it would be there for others.
    if workspace.is_dir() && own.ok() != fs::metadata(&workspace).map(|facts| facts.dev()).ok() {
        return;
    }
    let above = target.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
    if made.and_then(|()| DirBuilder::new().mode(0o700).create(&target)).is_ok() {
        let _ = lchown(&target, Some(owner.uid()), Some(owner.gid()));
        let _ = symlink(&kept, target.join(DIRECTORY));
    }
}

/// Makes a home that is not there, because its swap was interrupted and its volume is missing, a directory from which the
/// keys are found. As soon as the volume is there, the swap is completed.
pub(super) fn rescue(root: &Path, home: &Path) {
    let kept = kept(Path::new(home.file_name().unwrap_or_default()));
    let Ok(owner) = fs::metadata(on_host(root, &kept)) else { return };
    if DirBuilder::new().mode(0o700).create(home).is_ok() {
        let _ = lchown(home, Some(owner.uid()), Some(owner.gid()));
        let _ = symlink(&kept, home.join(DIRECTORY));
    }
}

fn open_directory(path: &Path) -> Result<rustix::fd::OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| Error::io("open", path, errno))
}

fn flush_directory(path: &Path) -> Result<(), Error> {
    flush::file(open_directory(path)?).map_err(|errno| Error::io("flush", path, errno))
}
