//! What the jobs of a walk are: entering a directory, reading it, visiting its entries.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Scope;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use super::pool::{Job, Walk};
use super::{Large, Node, Visitor, Worker};
use crate::Error;

/// How many names one job holds at most.
pub(super) const BATCH: usize = 64;

/// What a worker reads of a directory at a time, in bytes.
const LISTING_BYTES: usize = 32 * 1024;

impl<'env, V: Visitor> Walk<'env, V> {
    pub(super) fn enter<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        parent: &Arc<Node<V::State>>,
        name: CString,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>
    where
        'env: 'scope,
    {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&parent.fd, &name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => Error::SourceChanged { path: self.path.join(parent.path_to(&name)) },
            errno => Error::io("open", self.path.join(parent.path_to(&name)), errno),
        })?;
        match self.crew.visit(worker, |_| self.visitor.enter(parent, &name, &fd))? {
            None => self.finish(Arc::clone(parent)),
            Some(state) => self.read(scope, &Arc::new(Node::below(Arc::clone(parent), name, fd, state)), worker),
        }
    }

    /// Reads a directory and sees to it that everything in it is visited.
    pub(super) fn read<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        directory: &Arc<Node<V::State>>,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>
    where
        'env: 'scope,
    {
        let failed = |errno| Error::io("list", self.path.join(directory.path_to(c"")), errno);
        let mut listing = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut stream = RawDir::new(&directory.fd, &mut listing);
        let mut entries = Vec::new();
        while let Some(entry) = stream.next() {
            if self.stopped() {
                return Ok(());
            }
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(errno) => return Err(Error::io("read", self.path.join(directory.path_to(name)), errno)),
                },
                kind => kind,
            };
            let name = name.to_owned();
            if kind == FileType::Directory {
                directory.share();
                let job = Job::Enter { parent: Arc::clone(directory), name };
                if let Err(Job::Enter { parent, name }) = self.offer(scope, job) {
                    self.enter(scope, &parent, name, worker)?;
                }
                continue;
            }
            entries.push((name, kind));
            if entries.len() == BATCH {
                directory.share();
                let job = Job::Entries { directory: Arc::clone(directory), entries: std::mem::take(&mut entries) };
                if let Err(Job::Entries { directory, entries }) = self.offer(scope, job) {
                    self.visit(scope, &directory, entries, worker)?;
                }
            }
        }
        // The listing is read: what it took is free before the rest of the work, which may go deep.
        drop(listing);
        self.visit(scope, directory, entries, worker)
    }

    /// Visits entries, and hands half of those left to whoever has nothing to do.
    pub(super) fn visit<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        directory: &Arc<Node<V::State>>,
        mut entries: Vec<(CString, FileType)>,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>
    where
        'env: 'scope,
    {
        while let Some((name, kind)) = entries.pop() {
            if self.stopped() {
                return Ok(());
            }
            if !entries.is_empty() && self.hungry.load(Ordering::Relaxed) {
                let half = entries.split_off(entries.len() / 2);
                directory.share();
                let job = Job::Entries { directory: Arc::clone(directory), entries: half };
                if let Err(Job::Entries { entries: half, .. }) = self.offer(scope, job) {
                    entries.extend(half);
                    directory.unshare();
                }
            }
            self.crew.visit(worker, |worker| self.visitor.entry(directory, &name, kind, worker))?;
            if let Some(large) = worker.large.take() {
                self.join(scope, directory, &Arc::new(large), worker)?;
            }
        }
        self.finish(Arc::clone(directory))
    }

    /// Does parts of a large file until none is left, and calls whoever has nothing to do. Then others may still be at
    /// theirs; they have a share of the directory.
    pub(super) fn join<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        directory: &Arc<Node<V::State>>,
        large: &Arc<Large>,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>
    where
        'env: 'scope,
    {
        loop {
            if self.stopped() {
                return Ok(());
            }
            if large.has_more() && self.hungry.load(Ordering::Relaxed) {
                directory.share();
                let job = Job::Join { directory: Arc::clone(directory), large: Arc::clone(large) };
                if self.offer(scope, job).is_err() {
                    directory.unshare();
                }
            }
            if !self.visitor.part(large, worker)? {
                return Ok(());
            }
        }
    }

    /// Gives back one share of a directory; the last one leaves it, and so gives back one of its parent's.
    pub(super) fn finish(&self, mut directory: Arc<Node<V::State>>) -> Result<(), Error> {
        while directory.unshare() {
            self.visitor.leave(&directory)?;
            match directory.above() {
                Some(parent) => directory = parent,
                None => break,
            }
        }
        Ok(())
    }
}
