//! What a copy has to say that is no failure: each thing once, however many files it concerns.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::{Error, Progress};

/// What a target cannot keep, or a copy leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    Ownership,
    Modes,
    Times,
    FineTimes,
    Attributes,
    PrivilegedAttributes,
    LargeAttributes,
    HardLinks,
    SpecialFiles,
    Sockets,
}

impl Lack {
    const COUNT: usize = Self::Sockets as usize + 1;

    fn text(self) -> &'static str {
        match self {
            Self::Ownership => "the target keeps no ownership: files there belong to whoever copied them",
            Self::Modes => "the target keeps no permissions",
            Self::Times => "the target keeps no modification times",
            Self::FineTimes => "the target keeps modification times to the second or two only",
            Self::Attributes => "the target keeps no extended attributes or access control lists",
            Self::PrivilegedAttributes => "some extended attributes may not be set here, and are left out",
            Self::LargeAttributes => "some extended attributes are too large for the target, and are left out",
            Self::HardLinks => "the target has no hard links: each name gets a copy of its own",
            Self::SpecialFiles => "the target holds no FIFOs or devices, and they are left out",
            Self::Sockets => "sockets are left out: they mean nothing without the process that listens",
        }
    }
}

/// The notes of one copy.
pub(crate) struct Notes<'a> {
    progress: &'a dyn Progress,
    noted: [AtomicBool; Lack::COUNT],
    texts: Mutex<Vec<String>>,
    skipped: AtomicU64,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Self {
        let noted = [const { AtomicBool::new(false) }; Lack::COUNT];
        Self { progress, noted, texts: Mutex::default(), skipped: AtomicU64::new(0) }
    }

    /// Notes that the target lacks something, aloud the first time. `example` is where it was noticed.
    pub(crate) fn lack(&self, lack: Lack, example: &Path) {
        if !self.noted[lack as usize].swap(true, Ordering::Relaxed) {
            let text = format!("{} (first at `{}`)", lack.text(), example.display());
            self.progress.warning(&text);
            self.texts.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }

    /// Whether the target is known to lack it, so that trying is a waste.
    pub(crate) fn lacks(&self, lack: Lack) -> bool {
        self.noted[lack as usize].load(Ordering::Relaxed)
    }

    /// Notes that an entry is left out, and counts it.
    pub(crate) fn leave_out(&self, lack: Lack, example: &Path) {
        self.lack(lack, example);
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// The notes of one entry, whose path is only put together when there is something to say.
    pub(crate) fn at<'b>(&'b self, root: &'b Path, path: &'b Path) -> EntryNotes<'b> {
        EntryNotes { notes: self, root, path }
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The notes of a copy, as they concern one entry of the target.
#[derive(Clone, Copy)]
pub(crate) struct EntryNotes<'a> {
    notes: &'a Notes<'a>,
    root: &'a Path,
    path: &'a Path,
}

impl EntryNotes<'_> {
    pub(crate) fn lack(self, lack: Lack) {
        self.notes.lack(lack, &self.root.join(self.path));
    }

    pub(crate) fn lacks(self, lack: Lack) -> bool {
        self.notes.lacks(lack)
    }

    pub(crate) fn error(self, action: &'static str, errno: Errno) -> Error {
        Error::io(action, self.root.join(self.path), errno)
    }
}
