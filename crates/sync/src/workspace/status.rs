//! What a workspace looks like from here, for a person.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, openat, statat};
use rustix::io::Errno;

use super::Options;
use super::plan::{self, Plan};
use crate::Error;
use crate::engine::facts::Facts;
use crate::engine::{self, Place};
use crate::staging::names::{Companion, Family, Partial, Stem};
use crate::staging::owner::{Life, Owner};
use crate::volume::kind::Kind;

/// A workspace's items, locks and unpublished copies.
#[derive(Debug, Default)]
pub struct Status {
    /// Every item of the source, in the order of their names.
    pub items: Vec<StatusItem>,
    /// Unpublished copies, of these items or others.
    pub leftovers: Vec<Leftover>,
    /// Whether the locks of the workspace's filesystem are known to hold among all instances.
    pub locks_are_shared: bool,
}

/// An item of the source.
#[derive(Debug)]
pub struct StatusItem {
    /// Its name.
    pub name: OsString,
    /// Whether something has that name in the workspace.
    pub in_place: bool,
    /// Its lock.
    pub lock: LockState,
}

/// What a lock is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// Nobody has taken it yet.
    Never,
    /// Nobody has it now.
    Free,
    /// Someone is at the item.
    Held,
    /// It cannot be asked.
    Unusable,
}

/// An unpublished copy.
#[derive(Debug)]
pub struct Leftover {
    /// Its name in the workspace.
    pub name: OsString,
    /// The item it is of.
    pub item: OsString,
    /// What is known of who made it.
    pub owner: LeftoverOwner,
    /// What it takes, in bytes; absent when it changes too fast to count.
    pub bytes: Option<u64>,
}

/// What is known of who made an unpublished copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftoverOwner {
    /// A process of this machine and container, which is at it.
    Alive,
    /// A process of this machine and container, which has ended.
    Dead,
    /// A process of another machine, container or boot.
    Elsewhere,
}

/// Looks at a workspace and changes nothing.
pub fn status(options: &Options) -> Result<Status, Error> {
    let plan: Plan = plan::plan(options)?;
    let Some(workspace) = plan::open_directory(&options.workspace)? else {
        let item = |item: &super::Item| StatusItem { name: item.name.clone(), in_place: false, lock: LockState::Never };
        return Ok(Status { items: plan.items.iter().map(item).collect(), ..Status::default() });
    };
    let items = plan
        .items
        .iter()
        .map(|item| StatusItem {
            name: item.name.clone(),
            in_place: item.missing.is_none(),
            lock: lock_state(&workspace, &Stem::of(&item.name).lock()),
        })
        .collect();
    let leftovers = plan.leftovers().filter_map(|name| leftover(&workspace, options, name)).collect();
    Ok(Status { items, leftovers, locks_are_shared: Kind::of(&workspace).locks_are_shared() })
}

fn leftover(workspace: &File, options: &Options, name: &OsStr) -> Option<Leftover> {
    let partial = Partial::parse(Family::Sync, name)?;
    if matches!(partial.companion, Some(Companion::Beat | Companion::Scratch)) {
        return None;
    }
    let owner = match partial.owner.as_ref().map_or(Life::Unknown, Owner::life) {
        Life::Alive => LeftoverOwner::Alive,
        Life::Dead => LeftoverOwner::Dead,
        Life::Unknown => LeftoverOwner::Elsewhere,
    };
    let path = options.workspace.join(name);
    let size = engine::measure(Place { directory: workspace.as_fd(), name, path: &path }, 1);
    let bytes = size.ok().map(|size| size.allocated_bytes);
    Some(Leftover { name: name.to_owned(), item: partial.stem.as_os_str().to_owned(), owner, bytes })
}

/// Asks for a lock that is there, shared and for an instant; makes none.
fn lock_state(workspace: &File, name: &OsStr) -> LockState {
    match statat(workspace, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return LockState::Never,
        Ok(stat) if stat.kind() == FileType::RegularFile => {}
        _ => return LockState::Unusable,
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(workspace, name, flags, Mode::empty()) else { return LockState::Unusable };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => LockState::Free,
        Err(Errno::WOULDBLOCK) => LockState::Held,
        Err(_) => LockState::Unusable,
    }
}
