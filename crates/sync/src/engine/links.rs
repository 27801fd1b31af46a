//! Hard links: several names in the source, one inode in the target.
//!
//! The first name of an inode is copied, and every further one linked to it. Where the first name went is kept in memory
//! for as long as names are missing. A tree can have more such inodes than memory should hold, so beyond a limit the
//! target remembers: the first name gets one more, made of the inode's number, in the [scratch directory](Scratch).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, linkat, openat};
use rustix::io::Errno;

use super::facts::Facts;
use super::scratch::Scratch;
use crate::{Error, fault};

/// How many first names are kept in memory, about a hundred bytes each.
const KNOWN_MOST: usize = 1 << 16;

/// Creating the first name of an inode stops others who are at another name of it, and of a few more; so many groups.
const SHARDS: usize = 64;

/// Where the first names went.
pub(crate) struct Links {
    shards: [Mutex<HashMap<(u64, u64), Known>>; SHARDS],
    known: AtomicUsize,
    known_most: usize,
    /// Whether memory was full once. From then on an inode that is not known may be one that the target remembers.
    overflowed: AtomicBool,
}

struct Known {
    /// Relative to the root of the target.
    path: Box<OsStr>,
    names_left: u64,
}

/// What became of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named<T> {
    /// It is the first, and was created.
    First(T),
    /// It is a link to the first.
    Linked,
    /// It is a further one, and something else had it.
    Taken,
    /// It is a further one, but the target would not link: the caller copies it.
    Refused,
    /// It is a further one, and linking failed.
    Failed(Errno),
    /// It is the first, but what has the name now is not the source's file.
    Nothing,
}

/// The target, as far as links concern it.
pub(crate) struct Target<'a> {
    /// The root of the tree that paths are relative to.
    pub(crate) root: BorrowedFd<'a>,
    /// Where the name is to be, and the name.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    /// Its path from the root.
    pub(crate) path: &'a Path,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self::with_memory_for(KNOWN_MOST)
    }

    fn with_memory_for(known_most: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            known: AtomicUsize::new(0),
            known_most,
            overflowed: AtomicBool::new(false),
        }
    }

    /// Creates the first name of an inode, or links a further one to it.
    ///
    /// `create` gives `None` when what has the name now is not the source's file: then nothing may be linked to it.
    pub(crate) fn name<T>(
        &self,
        stat: &Stat,
        target: &Target<'_>,
        scratch: &Scratch<'_>,
        create: impl FnOnce() -> Result<Option<T>, Error>,
    ) -> Result<Named<T>, Error> {
        let id = stat.id();
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the number spread the inodes")]
        let mut shard = self.shards[stat.st_ino as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let number = format!("{:x}-{:x}", id.0, id.1);
        match shard.entry(id) {
            Entry::Occupied(mut known) => {
                let linked = link_to_path(target, &known.get().path);
                known.get_mut().names_left -= 1;
                if known.get().names_left == 0 {
                    known.remove();
                    self.known.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(outcome(linked))
            }
            Entry::Vacant(vacant) => {
                if self.known.load(Ordering::Relaxed) >= self.known_most {
                    self.overflowed.store(true, Ordering::Relaxed);
                }
                let overflowed = self.overflowed.load(Ordering::Relaxed);
                if overflowed {
                    match link(scratch.directory()?, OsStr::new(&number), target) {
                        Err(Errno::NOENT) => {}
                        linked => return Ok(outcome(linked)),
                    }
                }
                let Some(created) = create()? else { return Ok(Named::Nothing) };
                if overflowed {
                    // Refused: then every further name is refused too, and copied.
                    let _ = linkat(target.directory, target.name, scratch.directory()?, &*number, AtFlags::empty());
                } else {
                    let path = target.path.as_os_str().into();
                    vacant.insert(Known { path, names_left: stat.names() - 1 });
                    self.known.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Named::First(created))
            }
        }
    }
}

fn outcome<T>(linked: Result<(), Errno>) -> Named<T> {
    match linked {
        Ok(()) => Named::Linked,
        Err(Errno::EXIST) => Named::Taken,
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::XDEV) => Named::Refused,
        Err(errno) => Named::Failed(errno),
    }
}

fn link(from: BorrowedFd<'_>, name: &OsStr, target: &Target<'_>) -> Result<(), Errno> {
    fault::call("stage.link", || linkat(from, name, target.directory, target.name, AtFlags::empty()))
}

/// Links to a path below the root, one directory after the other, so that no link on the way is followed.
fn link_to_path(target: &Target<'_>, path: &OsStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory: Option<OwnedFd> = None;
    let mut names = Path::new(path).components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut last = names.next().ok_or(Errno::NOENT)?;
    for name in names {
        let at = directory.as_ref().map_or(target.root, AsFd::as_fd);
        directory = Some(openat(at, last, flags, Mode::empty())?);
        last = name;
    }
    link(directory.as_ref().map_or(target.root, AsFd::as_fd), OsStr::from_bytes(last.as_bytes()), target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    /// Names three inodes by three names each, in turns, and returns the inodes that the names have.
    fn name_all(known_most: usize) -> Vec<u64> {
        let source = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let root = File::open(target.path()).unwrap();
        let scratch_path = target.path().join("scratch");
        let mut scratch = Scratch::new(root.as_fd(), OsStr::new("scratch"), scratch_path.clone());
        let links = Links::with_memory_for(known_most);
        fs::create_dir_all(target.path().join("a/b")).unwrap();
        let directory = File::open(target.path().join("a/b")).unwrap();
        let mut inodes = Vec::new();
        for turn in 0..3 {
            for file in 0..3 {
                let first = source.path().join(format!("{file}"));
                if turn == 0 {
                    fs::write(&first, "").unwrap();
                    fs::hard_link(&first, source.path().join(format!("{file}-1"))).unwrap();
                    fs::hard_link(&first, source.path().join(format!("{file}-2"))).unwrap();
                }
                let stat = rustix::fs::stat(&first).unwrap();
                let name = format!("{file}-{turn}");
                let path = PathBuf::from("a/b").join(&name);
                let place =
                    Target { root: root.as_fd(), directory: directory.as_fd(), name: OsStr::new(&name), path: &path };
                let create = || {
                    fs::write(target.path().join(&path), "").unwrap();
                    Ok(Some(()))
                };
                let named = links.name(&stat, &place, &scratch, create).unwrap();
                assert_eq!(named, if turn == 0 { Named::First(()) } else { Named::Linked });
                inodes.push(fs::metadata(target.path().join(&path)).unwrap().ino());
            }
        }
        assert_eq!(links.known.load(Ordering::Relaxed), 0, "nothing is kept once all names are there");
        scratch.clear().unwrap();
        assert!(!scratch_path.exists());
        inodes
    }

    #[test]
    fn names_of_one_inode_get_one_inode_whether_memory_or_the_target_remembers() {
        for known_most in [10, 1, 0] {
            let inodes = name_all(known_most);
            assert_eq!(inodes[0..3], inodes[3..6], "{known_most}");
            assert_eq!(inodes[0..3], inodes[6..9], "{known_most}");
            assert_ne!(inodes[0], inodes[1]);
        }
    }
}
