//! A parallel walk over a tree, in bounded memory, that cannot be led out of it.
//!
//! Every directory is opened by name from its parent's descriptor and without following a link, so replacing a
//! directory by a link while the walk is under way leads nowhere. Work waits in a stack of at most [`QUEUE`] jobs; a
//! worker that finds it full does the job itself, depth first. So memory and open files depend on the depth of a tree
//! and not on its size, whether it is wide, deep or one directory with a million files.
//!
//! What is done with the entries is a [`Visitor`]: counting, copying, comparing, removing.

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use super::crew::Crew;
use crate::Error;

/// How many jobs wait at most. Each holds up to [`BATCH`] names and keeps one directory open.
const QUEUE: usize = 256;

/// How many names one job holds at most.
const BATCH: usize = 64;

/// What a worker reads of a directory at a time, in bytes.
const LISTING_BYTES: usize = 32 * 1024;

/// A worker's stack, in bytes; memory only as far as it is used. A job done on the spot goes one level deeper for each
/// directory, a few hundred bytes each.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What is done on a walk. Called from several threads at once.
pub(crate) trait Visitor: Sync {
    /// What the visitor keeps of a directory while the walk is in it.
    type State: Send + Sync;

    /// The walk is about to enter a directory, opened as `fd`. `None`: it does not.
    fn enter(&self, parent: &Node<Self::State>, name: &CStr, fd: &OwnedFd) -> Result<Option<Self::State>, Error>;

    /// An entry that is no directory.
    fn entry(
        &self,
        directory: &Node<Self::State>,
        name: &CStr,
        kind: FileType,
        worker: &mut Worker<'_>,
    ) -> Result<(), Error>;

    /// All entries of the directory, and everything below, were visited.
    fn leave(&self, directory: &Node<Self::State>) -> Result<(), Error>;
}

/// What a worker brings to a visit.
pub(crate) struct Worker<'a> {
    /// Has whatever the last visit left in it.
    pub(crate) buffer: Vec<u8>,
    /// How much content it has moved; whoever wants to know sets it to zero before.
    pub(crate) moved_bytes: u64,
    stopped: &'a AtomicBool,
}

impl Worker<'_> {
    /// One who works alone, outside a walk.
    pub(crate) fn alone() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { buffer: Vec::new(), moved_bytes: 0, stopped: &NEVER }
    }

    /// Whether the walk has failed elsewhere, so that a long visit may as well be abandoned. What it returns is not looked
    /// at any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

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

    /// The directory's name in its parent; empty for the root.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// The directory it was found in; `None` for the root.
    pub(crate) fn parent(&self) -> Option<&Self> {
        self.parent.as_deref()
    }

    /// One more has work in this directory. Whoever says so has some too, so the count cannot have reached zero.
    fn share(&self) {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
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

enum Job<S> {
    Enter { parent: Arc<Node<S>>, name: CString },
    Entries { directory: Arc<Node<S>>, entries: Vec<(CString, FileType)> },
}

struct Queue<S> {
    jobs: Vec<Job<S>>,
    workers: usize,
    idle: usize,
}

struct Walk<'a, V: Visitor> {
    visitor: &'a V,
    path: &'a Path,
    crew: &'a Crew,
    queue: Mutex<Queue<V::State>>,
    wake: Condvar,
    /// Whether someone would take a job at once; a hint, read without the lock.
    hungry: AtomicBool,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// Visits everything below `root`, whose path is used in messages alone. The first failure ends the walk.
pub(crate) fn walk<V: Visitor>(root: Node<V::State>, path: &Path, crew: &Crew, visitor: &V) -> Result<(), Error> {
    let walk = Walk {
        visitor,
        path,
        crew,
        queue: Mutex::new(Queue { jobs: Vec::new(), workers: 1, idle: 0 }),
        wake: Condvar::new(),
        hungry: AtomicBool::new(crew.limit() > 1),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    thread::scope(|scope| {
        let mut worker = walk.worker();
        let first = walk.read(scope, &Arc::new(root), &mut worker);
        walk.note(first);
        walk.work(scope, worker);
    });
    match walk.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

impl<'env, V: Visitor> Walk<'env, V> {
    /// One worker's life: jobs until there are none and nobody can make new ones.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, 'env>, mut worker: Worker<'scope>)
    where
        'env: 'scope,
    {
        let _bell = PanicBell(self);
        while let Some(job) = self.next(scope) {
            let done = match job {
                Job::Enter { parent, name } => self.enter(scope, &parent, name, &mut worker),
                Job::Entries { directory, entries } => self.visit(scope, &directory, entries, &mut worker),
            };
            self.note(done);
        }
    }

    fn next<'scope>(&'scope self, scope: &'scope Scope<'scope, 'env>) -> Option<Job<V::State>>
    where
        'env: 'scope,
    {
        let mut queue = self.lock();
        loop {
            if self.stopped() {
                return None;
            }
            // There are more than help: this one goes.
            if queue.workers > self.crew.limit() {
                queue.workers -= 1;
                // Someone has to take what it may have been woken for, or to notice that all is done.
                if queue.idle == queue.workers || !queue.jobs.is_empty() {
                    self.wake.notify_one();
                }
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                self.reinforce(scope, &mut queue);
                self.update_hunger(&queue);
                return Some(job);
            }
            queue.idle += 1;
            if queue.idle == queue.workers {
                self.stop();
                return None;
            }
            self.update_hunger(&queue);
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Hands a job to the others, or back when enough is waiting.
    fn offer<'scope>(&'scope self, scope: &'scope Scope<'scope, 'env>, job: Job<V::State>) -> Result<(), Job<V::State>>
    where
        'env: 'scope,
    {
        let mut queue = self.lock();
        if queue.jobs.len() >= QUEUE {
            return Err(job);
        }
        queue.jobs.push(job);
        if queue.idle > 0 {
            self.wake.notify_one();
        }
        self.reinforce(scope, &mut queue);
        self.update_hunger(&queue);
        Ok(())
    }

    /// Gets one more worker if there is work that nobody is free for.
    fn reinforce<'scope>(&'scope self, scope: &'scope Scope<'scope, 'env>, queue: &mut Queue<V::State>)
    where
        'env: 'scope,
    {
        if queue.jobs.is_empty() || queue.idle > 0 || queue.workers >= self.crew.limit() {
            return;
        }
        let thread = thread::Builder::new().name("vast-sync".to_owned()).stack_size(STACK_BYTES);
        // A machine that is out of threads is no reason to fail: those who are there do the work.
        if thread.spawn_scoped(scope, move || self.work(scope, self.worker())).is_ok() {
            queue.workers += 1;
        }
    }

    fn enter<'scope>(
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
            Some(state) => {
                let parent = Some(Arc::clone(parent));
                let node = Node { fd, state, name, parent, unfinished: AtomicUsize::new(1) };
                self.read(scope, &Arc::new(node), worker)
            }
        }
    }

    /// Reads a directory and sees to it that everything in it is visited.
    fn read<'scope>(
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
    fn visit<'scope>(
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
                    directory.unfinished.fetch_sub(1, Ordering::AcqRel);
                }
            }
            self.crew.visit(worker, |worker| self.visitor.entry(directory, &name, kind, worker))?;
        }
        self.finish(Arc::clone(directory))
    }

    /// Gives back one share of a directory; the last one leaves it, and so gives back one of its parent's.
    fn finish(&self, mut directory: Arc<Node<V::State>>) -> Result<(), Error> {
        while directory.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.visitor.leave(&directory)?;
            match &directory.parent {
                Some(parent) => directory = Arc::clone(parent),
                None => break,
            }
        }
        Ok(())
    }

    fn worker(&self) -> Worker<'_> {
        Worker { buffer: Vec::new(), moved_bytes: 0, stopped: &self.stopped }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<V::State>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_hunger(&self, queue: &Queue<V::State>) {
        let hungry = queue.jobs.is_empty() && (queue.idle > 0 || queue.workers < self.crew.limit());
        self.hungry.store(hungry, Ordering::Relaxed);
    }

    fn note(&self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            let _queue = self.lock();
            self.stop();
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends the walk for everyone. The caller holds the queue, so nobody misses the call between looking and sleeping.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }
}

/// Wakes everyone when a worker panics, who would otherwise wait for its jobs for ever.
struct PanicBell<'a, 'env, V: Visitor>(&'a Walk<'env, V>);

impl<V: Visitor> Drop for PanicBell<'_, '_, V> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _queue = self.0.lock();
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs::{self, File};

    /// Counts visits, and checks that a directory is left after everything in it.
    struct Census<'a> {
        crew: &'a Crew,
        visits: Mutex<BTreeMap<PathBuf, usize>>,
        /// What to do at each visit, from how many there were.
        at: &'a (dyn Fn(&Crew, usize) -> Result<(), Error> + Sync),
    }

    impl Census<'_> {
        fn count(&self, path: PathBuf) -> Result<(), Error> {
            let visits = {
                let mut visits = self.visits.lock().unwrap();
                *visits.entry(path).or_default() += 1;
                visits.len()
            };
            (self.at)(self.crew, visits)
        }
    }

    impl Visitor for Census<'_> {
        /// How many entries were visited in it.
        type State = AtomicUsize;

        fn enter(&self, parent: &Node<AtomicUsize>, name: &CStr, _fd: &OwnedFd) -> Result<Option<AtomicUsize>, Error> {
            self.count(parent.path_to(name))?;
            Ok(Some(AtomicUsize::new(0)))
        }

        fn entry(
            &self,
            directory: &Node<AtomicUsize>,
            name: &CStr,
            _kind: FileType,
            _worker: &mut Worker<'_>,
        ) -> Result<(), Error> {
            directory.state.fetch_add(1, Ordering::Relaxed);
            self.count(directory.path_to(name))
        }

        fn leave(&self, directory: &Node<AtomicUsize>) -> Result<(), Error> {
            let inside = directory.state.load(Ordering::Relaxed);
            if let Some(parent) = directory.parent() {
                parent.state.fetch_add(inside, Ordering::Relaxed);
            } else {
                assert_eq!(inside, FILES, "the root is left last");
            }
            Ok(())
        }
    }

    const DIRECTORIES: usize = 30;
    const FILES: usize = DIRECTORIES * 80;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in 0..DIRECTORIES {
            let path = root.path().join(format!("{}/{directory}", directory % 7));
            fs::create_dir_all(&path).unwrap();
            for file in 0..80 {
                fs::write(path.join(file.to_string()), "").unwrap();
            }
        }
        root
    }

    fn census(
        root: &Path,
        crew: &Crew,
        at: &(dyn Fn(&Crew, usize) -> Result<(), Error> + Sync),
    ) -> Result<BTreeMap<PathBuf, usize>, Error> {
        let census = Census { crew, visits: Mutex::default(), at };
        walk(Node::root(File::open(root).unwrap().into(), AtomicUsize::new(0)), root, crew, &census)?;
        Ok(census.visits.into_inner().unwrap())
    }

    #[test]
    fn everything_is_visited_once_by_any_number_of_workers_even_while_it_changes() {
        let root = tree();
        for workers in [1, 2, 9] {
            let visits = census(root.path(), &Crew::of(workers), &|_, _| Ok(())).unwrap();
            assert_eq!(visits.len(), FILES + DIRECTORIES + 7);
            assert!(visits.values().all(|visits| *visits == 1));
        }
        for round in 0..20 {
            let change = |crew: &Crew, visits: usize| {
                crew.set_limit(1 + (visits / 50 * 7 + round) % 8);
                Ok(())
            };
            let visits = census(root.path(), &Crew::of(8), &change).unwrap();
            assert_eq!(visits.len(), FILES + DIRECTORIES + 7);
            assert!(visits.values().all(|visits| *visits == 1));
        }
    }

    #[test]
    fn the_first_failure_ends_the_walk_and_is_returned() {
        let root = tree();
        let fail = |_: &Crew, visits: usize| match visits {
            200.. => Err(Error::io("visit", "here", Errno::IO)),
            _ => Ok(()),
        };
        for workers in [1, 4] {
            let error = census(root.path(), &Crew::of(workers), &fail).unwrap_err();
            assert_eq!(error.to_string(), "cannot visit `here`");
        }
    }

    #[test]
    fn a_panic_of_one_worker_ends_the_walk_instead_of_leaving_the_others_waiting() {
        let root = tree();
        let panics = std::panic::catch_unwind(|| {
            let crew = Crew::of(4);
            census(root.path(), &crew, &|_, visits| {
                assert!(visits < 300, "as the test wants");
                Ok(())
            })
        });
        assert!(panics.is_err());
    }
}
