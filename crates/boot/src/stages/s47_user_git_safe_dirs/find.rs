//! The repositories of a workspace.
//!
//! A workspace holds a hundred thousand entries and a boot has milliseconds, so directories are listed with raw system calls: names are
//! looked at in the kernel's buffer, and only a directory's is copied.

use std::ffi::{CString, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, FsWord, Mode, OFlags, RawDir, Stat, fstat, fstatfs, openat, statat};

/// Repositories deeper than this below the workspace are not looked for.
const DEPTH: usize = 4;

/// Directories that hold no repositories of the user's.
const SKIPPED: [&[u8]; 3] = [b".environment_sync", b"node_modules", b".git"];

const BUFFER_BYTES: usize = 32 * 1024;

/// The filesystems of Linux whose directories have one link for each directory in them, and two of their own: ext2 to ext4, XFS and tmpfs.
/// Others say 1, or what they like. (`find` of the GNU findutils knows directories without directories the same way.)
const COUNTING: [FsWord; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// The repositories below `workspace` (a path on this machine), as paths below `named` (what the user calls it), sorted. What cannot be
/// read holds none.
pub(super) fn repositories(workspace: &Path, named: &Path) -> Vec<OsString> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(top) = openat(CWD, workspace, flags, Mode::empty()) else { return Vec::new() };
    let Ok(facts) = fstat(&top) else { return Vec::new() };
    // Every directory that is entered is on the same device.
    let counts_links = fstatfs(&top).is_ok_and(|system| COUNTING.contains(&system.f_type));
    let name = named.as_os_str().to_owned().into_vec();
    let mut search = Search {
        device: facts.st_dev,
        counts_links,
        found: Vec::new(),
        path: name.strip_suffix(b"/").unwrap_or(&name).to_vec(),
        buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES],
    };
    search.visit(&top, &facts, 0);
    search.found.sort_unstable();
    search.found
}

struct Search {
    device: u64,
    counts_links: bool,
    found: Vec<OsString>,
    /// The directory that is visited.
    path: Vec<u8>,
    /// For the kernel's lists, one after the other.
    buffer: Vec<MaybeUninit<u8>>,
}

impl Search {
    fn visit(&mut self, directory: &OwnedFd, facts: &Stat, depth: usize) {
        if depth == DEPTH || (self.counts_links && facts.st_nlink == 2) {
            // There are no directories below, or they do not matter: one question replaces the list, which may be of many thousand files.
            if statat(directory, c".git", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                self.found.push(OsString::from_vec(self.path.clone()));
            }
            return;
        }
        let (children, is_repository) = list(directory, &mut self.buffer);
        if is_repository {
            self.found.push(OsString::from_vec(self.path.clone()));
        }
        for child in children {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(below) = openat(directory, &child, flags, Mode::empty()) else { continue };
            let Ok(facts) = fstat(&below) else { continue };
            if facts.st_dev == self.device {
                let end = self.path.len();
                self.path.push(b'/');
                self.path.extend_from_slice(child.as_bytes());
                self.visit(&below, &facts, depth + 1);
                self.path.truncate(end);
            }
        }
    }
}

/// The directories to go into, and whether there is a `.git` (a directory, or a file in a worktree or submodule).
fn list(directory: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> (Vec<CString>, bool) {
    let (mut children, mut is_repository) = (Vec::new(), false);
    let mut entries = RawDir::new(directory, buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        is_repository |= name == c".git";
        // Some filesystems do not tell the type; opening it as a directory does.
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        let bytes = name.to_bytes();
        if may_be_directory && bytes != b"." && bytes != b".." && !SKIPPED.contains(&bytes) {
            children.push(name.to_owned());
        }
    }
    (children, is_repository)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn repositories_are_found_to_their_depth_and_not_where_they_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in [
            ".git",
            "a/.git",
            "a/b/c/.git",
            "a/b/c/d/.git",
            "a/b/c/d/e/.git",
            "a/custom_nodes/x/.git",
            "a/.git/modules/y/.git",
            ".environment_sync/id/.git",
            "web/node_modules/z/.git",
            "plain/b",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::create_dir(root.join("worktree")).unwrap();
        fs::write(root.join("worktree/.git"), "gitdir: elsewhere").unwrap();
        symlink("a", root.join("link")).unwrap();
        let found = repositories(root, Path::new("/workspace/"));
        assert_eq!(
            found,
            [
                "/workspace",
                "/workspace/a",
                "/workspace/a/b/c",
                "/workspace/a/b/c/d",
                "/workspace/a/custom_nodes/x",
                "/workspace/worktree"
            ]
        );
        assert!(repositories(&root.join("missing"), Path::new("/w")).is_empty());
    }

    #[test]
    fn a_directory_is_listed_or_known_to_have_none_below_with_the_same_result() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a/b/.git", "leaf", "a/leaf", "c/d/e"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        fs::write(directory.path().join("leaf/.git"), "gitdir: elsewhere").unwrap();
        let found = [false, true].map(|counts_links| {
            let top = openat(CWD, directory.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let facts = fstat(&top).unwrap();
            let buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
            let mut search =
                Search { device: facts.st_dev, counts_links, found: Vec::new(), path: b"/w".to_vec(), buffer };
            search.visit(&top, &facts, 0);
            search.found.sort_unstable();
            search.found
        });
        assert_eq!(found[0], ["/w/a/b", "/w/leaf"]);
        assert_eq!(found[1], found[0]);
    }

    #[test]
    fn other_mounts_are_not_entered() {
        // A mount namespace of its own, so that nothing of it is left whatever happens.
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("mounted")).unwrap();
        let found = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
                use rustix::thread::{UnshareFlags, unshare_unsafe};
                #[allow(unsafe_code, reason = "a mount namespace cannot be had otherwise")]
                // SAFETY: only CLONE_NEWNS and what it implies (CLONE_FS) are unshared, in a thread that ends with the test.
                unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                let target = directory.path().join("mounted");
                mount("none", &target, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>).unwrap();
                fs::create_dir_all(target.join("repository/.git")).unwrap();
                repositories(directory.path(), Path::new("/w"))
            });
            thread.join().unwrap()
        });
        assert!(found.is_empty(), "{found:?}");
    }
}
