//! The directories that a walk is in.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that the walk is in.
pub(crate) struct Node<S> {
    /// The directory itself.
    pub(crate) fd: OwnedFd,
    /// What the visitor keeps of it.
    pub(crate) state: S,
    name: CString,
    parent: Option<Arc<Node<S>>>,
    /// Its own listing, while that is being read, and every job and directory below that is not finished.
    unfinished: AtomicUsize,
}

impl<S> Node<S> {
    /// The directory where a walk starts.
    pub(crate) fn root(fd: OwnedFd, state: S) -> Self {
        Self { fd, state, name: CString::default(), parent: None, unfinished: AtomicUsize::new(1) }
    }

    /// A directory found in another.
    pub(super) fn below(parent: Arc<Self>, name: CString, fd: OwnedFd, state: S) -> Self {
        Self { fd, state, name, parent: Some(parent), unfinished: AtomicUsize::new(1) }
    }

    /// The directory's name in its parent; empty for the root.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// The directory it was found in; `None` for the root.
    pub(crate) fn parent(&self) -> Option<&Self> {
        self.parent.as_deref()
    }

    pub(super) fn above(&self) -> Option<Arc<Self>> {
        self.parent.clone()
    }

    /// One more has work in this directory. Whoever says so has some too, so the count cannot have reached zero.
    pub(super) fn share(&self) {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// One has no more work in this directory. Whether it was the last.
    pub(super) fn unshare(&self) -> bool {
        self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The path from the root to an entry of this directory.
    pub(crate) fn path_to(&self, name: &CStr) -> PathBuf {
        let mut names = vec![name];
        let mut node = self;
        while let Some(parent) = &node.parent {
            names.push(&node.name);
            node = parent;
        }
        names.iter().rev().filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())).collect()
    }
}
