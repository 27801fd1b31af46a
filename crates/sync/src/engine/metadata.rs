//! Everything of a file that is not its content: owner, permissions, attributes and access control lists, times.
//!
//! Applied in that order, because each may undo the next: a change of owner clears set-user-ID bits and capabilities, and
//! any change moves the times. What a new file was born with is not set again: on a volume with a millisecond for each
//! operation that saves two of the eight that a small file would cost.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Stat, Uid, XattrFlags, chmod, chownat, fchmod, fchown, fgetxattr, flistxattr, fremovexattr,
    fsetxattr, fstat, futimens, lgetxattr, llistxattr, lsetxattr, statat, utimensat,
};
use rustix::io::Errno;

use super::births::Born;
use super::facts::Facts;
use super::notes::{EntryNotes, Lack};
use crate::Error;

/// By how much a target may be off that keeps modification times, but not to the nanosecond: FAT counts in twos of seconds.
pub(crate) const COARSE_TIME_NS: u128 = 2_000_000_000;

/// Where the facts of a copied file go: an open one, or a name that must not be followed or cannot be opened.
#[derive(Clone, Copy)]
pub(crate) enum Object<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a CStr),
}

/// Gives `to`, which was `born` in some way, what `from` has beyond its content. What the target cannot keep is noted once
/// and left out.
pub(crate) fn apply(
    from: Object<'_>,
    stat: &Stat,
    to: Object<'_>,
    born: Born,
    notes: EntryNotes<'_>,
) -> Result<(), Error> {
    let failed = |action| move |errno| notes.error(action, errno);
    let mut owner_changed = false;
    if (born.user, born.group) != (stat.st_uid, stat.st_gid) && !notes.lacks(Lack::Ownership) {
        match to.chown(Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)) {
            Ok(()) => owner_changed = true,
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => notes.lack(Lack::Ownership),
            Err(errno) => return Err(failed("set the owner of")(errno)),
        }
    }
    // Links have no permissions of their own.
    let is_link = stat.kind() == FileType::Symlink;
    if !is_link && (born.mode != stat.mode() || owner_changed) {
        match to.chmod(stat) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => notes.lack(Lack::Modes),
            Err(errno) => return Err(failed("set the permissions of")(errno)),
        }
    }
    copy_attributes(from, to, notes)?;
    match to.set_times(stat) {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            notes.lack(Lack::Times);
            Ok(())
        }
        Err(errno) => Err(failed("set the times of")(errno)),
    }
}

/// Notes what `to` was given and does not have: FAT takes permissions and fractions of a second, and forgets them.
pub(crate) fn notice(stat: &Stat, to: Object<'_>, notes: EntryNotes<'_>) -> Result<(), Error> {
    let has = to.stat().map_err(|errno| notes.error("read back", errno))?;
    if has.mode() != stat.mode() {
        notes.lack(Lack::Modes);
    }
    if has.modified_ns() != stat.modified_ns() {
        let is_close = has.modified_ns().abs_diff(stat.modified_ns()) <= COARSE_TIME_NS;
        notes.lack(if is_close { Lack::FineTimes } else { Lack::Times });
    }
    Ok(())
}

/// Takes away the access control lists that a new entry inherited from the directory it was made in: the source's own
/// count.
pub(crate) fn disinherit(entry: BorrowedFd<'_>) {
    for name in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        // There is none, most of the time, or no such thing here.
        let _ = fremovexattr(entry, name);
    }
}

fn copy_attributes(from: Object<'_>, to: Object<'_>, notes: EntryNotes<'_>) -> Result<(), Error> {
    if notes.lacks(Lack::Attributes) {
        return Ok(());
    }
    for name in attributes(from).map_err(|errno| notes.error("read the attributes for", errno))? {
        let value = match from.attribute(&name) {
            Ok(value) => value,
            // Gone meanwhile, or not for us to see.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOENT) => continue,
            Err(errno) => return Err(notes.error("read the attributes for", errno)),
        };
        match to.set_attribute(&name, &value) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                notes.lack(Lack::Attributes);
                return Ok(());
            }
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOENT) => notes.lack(Lack::PrivilegedAttributes),
            // An attribute has a block of its own at most: this is its size, not the volume's room.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => notes.lack(Lack::LargeAttributes),
            Err(errno) => return Err(notes.error("set an attribute of", errno)),
        }
    }
    Ok(())
}

/// The names of the attributes that a copy keeps, in a stable order.
pub(crate) fn attributes(of: Object<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let list = of.attribute_names()?;
    for name in list.split_inclusive(|byte| *byte == 0) {
        if let Ok(name) = CStr::from_bytes_with_nul(name)
            && is_kept(name.to_bytes())
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Labels of a security module, integrity hashes and the marks of an overlay belong to the machine or the mount they are
/// on, and not to the file. XFS lists its access control lists a second time, in a format of its own.
fn is_kept(name: &[u8]) -> bool {
    let not_its_own = |prefix: &[u8]| name.starts_with(prefix);
    name.starts_with(b"user.")
        || (name.starts_with(b"trusted.") && !not_its_own(b"trusted.overlay.") && !not_its_own(b"trusted.SGI_"))
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

impl Object<'_> {
    pub(crate) fn stat(self) -> Result<Stat, Errno> {
        match self {
            Self::Open(fd) => fstat(fd),
            Self::Named(directory, name) => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chown(self, user: Uid, group: Gid) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchown(fd, Some(user), Some(group)),
            Self::Named(directory, name) => {
                chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn chmod(self, stat: &Stat) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchmod(fd, stat.mode()),
            Self::Named(directory, name) => {
                // Only this way is a name that someone makes a link in the meantime not followed: `chmod` itself has
                // no such flag.
                use rustix::fs::{Mode, OFlags, openat};
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let handle = openat(directory, name, flags, Mode::empty())?;
                if fstat(&handle)?.kind() == FileType::Symlink {
                    return Err(Errno::LOOP);
                }
                chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), stat.mode())
            }
        }
    }

    fn set_times(self, stat: &Stat) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => futimens(fd, &stat.times()),
            Self::Named(directory, name) => utimensat(directory, name, &stat.times(), AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// The names, each ended by a zero byte. A filesystem without attributes has none.
    fn attribute_names(self) -> Result<Vec<u8>, Errno> {
        let list = |buffer: &mut Vec<u8>| match self {
            Self::Open(fd) => flistxattr(fd, buffer.as_mut_slice()),
            Self::Named(directory, name) => llistxattr(through_proc(directory, name), buffer.as_mut_slice()),
        };
        match read_growing(256, list) {
            // ENOENT: there is no `/proc` here.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOENT) => Ok(Vec::new()),
            names => names,
        }
    }

    pub(crate) fn attribute(self, attribute: &CStr) -> Result<Vec<u8>, Errno> {
        read_growing(256, |buffer| match self {
            Self::Open(fd) => fgetxattr(fd, attribute, buffer.as_mut_slice()),
            Self::Named(directory, name) => lgetxattr(through_proc(directory, name), attribute, buffer.as_mut_slice()),
        })
    }

    fn set_attribute(self, attribute: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Self::Named(directory, name) => {
                lsetxattr(through_proc(directory, name), attribute, value, XattrFlags::empty())
            }
        }
    }
}

/// Attributes have no system call that takes a directory and a name; the kernel's own link to the directory serves.
fn through_proc(directory: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Reads into a buffer that is made larger until the answer fits: it may grow between asking its size and reading it.
fn read_growing(
    first_bytes: usize,
    mut read: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    // The kernel's limit for a value and for a list of names, `XATTR_SIZE_MAX`.
    const MOST_BYTES: usize = 64 * 1024;
    let mut buffer = vec![0; first_bytes];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < MOST_BYTES => buffer.resize((buffer.len() * 8).min(MOST_BYTES), 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_machine_is_not_copied() {
        for (name, kept) in [
            ("user.origin", true),
            ("trusted.mine", true),
            ("trusted.overlay.opaque", false),
            ("trusted.SGI_ACL_FILE", false),
            ("security.capability", true),
            ("security.selinux", false),
            ("security.ima", false),
            ("system.posix_acl_access", true),
            ("system.nfs4_acl", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
