//! Publishing: a finished copy gets its final name, and nothing that has the name already is replaced.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use crate::fault;

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The name now leads to what was published.
    Yes,
    /// Something had the name. What was to be published is where it was.
    NameTaken,
}

/// Where something is, or is to be: a name in an open directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
}

/// Gives `partial` its final name, in a directory of the same filesystem.
///
/// Where the filesystem has no rename that replaces nothing (NFS, many user-space ones), a file gets its name by a hard
/// link, which replaces nothing either. A directory cannot be linked: it is renamed after a look that the name is free. If
/// someone takes the name between the look and the rename, POSIX has the rename fail, but for one case: an *empty
/// directory* made in those microseconds would be replaced. The alternative, claiming the name with `mkdir` first, would
/// leave an empty directory under the final name for good if the process died in between, which is worse. Where there are
/// no hard links either, files go the same way.
pub(crate) fn publish(partial: Name<'_>, wanted: Name<'_>) -> Result<Published, Errno> {
    let exclusive = fault::call("publish.rename", || {
        renameat_with(partial.directory, partial.name, wanted.directory, wanted.name, RenameFlags::NOREPLACE)
    });
    match exclusive {
        Ok(()) => Ok(Published::Yes),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        // EINVAL: this filesystem; ENOSYS: this kernel; EPERM: a seccomp profile that does not know the call.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => without_exclusive_rename(partial, wanted),
        Err(error) => Err(error),
    }
}

fn without_exclusive_rename(partial: Name<'_>, wanted: Name<'_>) -> Result<Published, Errno> {
    let stat = statat(partial.directory, partial.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        match fault::call("publish.link", || {
            linkat(partial.directory, partial.name, wanted.directory, wanted.name, AtFlags::empty())
        }) {
            Ok(()) => {
                // It is published. A name too many is swept like any leftover.
                let _ = fault::call("publish.unlink", || unlinkat(partial.directory, partial.name, AtFlags::empty()));
                return Ok(Published::Yes);
            }
            Err(Errno::EXIST) => return Ok(Published::NameTaken),
            // No hard links here: as with a directory.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(error) => return Err(error),
        }
    }
    match statat(wanted.directory, wanted.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Ok(Published::NameTaken),
        Err(error) => return Err(error),
    }
    match fault::call("publish.plain-rename", || {
        renameat(partial.directory, partial.name, wanted.directory, wanted.name)
    }) {
        Ok(()) => Ok(Published::Yes),
        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => Ok(Published::NameTaken),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    type Way = fn(Name<'_>, Name<'_>) -> Result<Published, Errno>;
    const WAYS: [(&str, Way); 2] = [("exclusive rename", publish), ("without it", without_exclusive_rename)];

    fn named<'a>(directory: &'a File, name: &'a str) -> Name<'a> {
        Name { directory: directory.as_fd(), name: OsStr::new(name) }
    }

    fn make(path: &Path, kind: &str) {
        match kind {
            "file" => fs::write(path, "mine").unwrap(),
            "directory" => fs::create_dir(path).unwrap(),
            "full directory" => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("inside"), "mine").unwrap();
            }
            "link" => symlink("target", path).unwrap(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_free_name_is_given() {
        for (way, publish) in WAYS {
            for kind in ["file", "full directory", "link"] {
                let root = tempfile::tempdir().unwrap();
                make(&root.path().join("partial"), kind);
                let fd = File::open(root.path()).unwrap();
                assert_eq!(publish(named(&fd, "partial"), named(&fd, "item")), Ok(Published::Yes), "{way}: {kind}");
                assert!(fs::symlink_metadata(root.path().join("item")).is_ok());
                assert!(fs::symlink_metadata(root.path().join("partial")).is_err());
            }
        }
    }

    #[test]
    fn nothing_is_replaced_not_even_a_dangling_link_or_an_empty_directory() {
        for (way, publish) in WAYS {
            for kind in ["file", "full directory", "link"] {
                for there in ["file", "directory", "full directory", "link"] {
                    let root = tempfile::tempdir().unwrap();
                    make(&root.path().join("partial"), kind);
                    make(&root.path().join("item"), there);
                    let before = fs::symlink_metadata(root.path().join("item")).unwrap();
                    let fd = File::open(root.path()).unwrap();
                    let published = publish(named(&fd, "partial"), named(&fd, "item"));
                    assert_eq!(published, Ok(Published::NameTaken), "{way}: {kind} onto {there}");
                    let after = fs::symlink_metadata(root.path().join("item")).unwrap();
                    assert_eq!(
                        std::os::unix::fs::MetadataExt::ino(&before),
                        std::os::unix::fs::MetadataExt::ino(&after)
                    );
                    assert!(fs::symlink_metadata(root.path().join("partial")).is_ok());
                }
            }
        }
    }
}
