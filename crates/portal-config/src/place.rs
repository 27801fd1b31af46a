//! Where the portal keeps its files: `/etc`, or `/run/vast-portal` where that is read-only.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Not within `/run/vast`, which boot makes writable for the root group: `user` belongs to it, and could put a key of its own here.
const BESIDE: &str = "run/vast-portal";

/// The place of the file `name` under `root`: `/etc/NAME`, or `/run/vast-portal/NAME` where `/etc` is read-only and has none. A file
/// that is there stays where it is, so that an image may bring one.
///
/// Every program asks here, those that write and those that read, so that they find each other's files.
#[must_use]
pub fn kept(root: &Path, name: &str) -> PathBuf {
    let etc = root.join("etc");
    let path = etc.join(name);
    // Not access(2): it tells whoever may not write anyway only that.
    let read_only = || statvfs(&etc).is_ok_and(|etc| etc.f_flag.contains(StatVfsMountFlags::RDONLY));
    if fs::symlink_metadata(&path).is_err() && read_only() { root.join(BESIDE).join(name) } else { path }
}

/// Makes the directory of such a file where there is none: nobody but its owner may write there, whatever the umask leaves to the group.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}
