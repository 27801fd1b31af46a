//! The workers and the jobs that wait for them.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use rustix::fs::FileType;

use super::{Crew, Large, Node, Visitor, Worker};
use crate::Error;

/// How many jobs wait at most. Each holds up to [`BATCH`](super::visit::BATCH) names and keeps one directory open.
const QUEUE: usize = 256;

/// A worker's stack, in bytes; memory only as far as it is used. A job done on the spot goes one level deeper for each
/// directory, a few hundred bytes each.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What waits for a worker. Each job has a share of its directory.
pub(super) enum Job<S> {
    /// A directory to be entered.
    Enter { parent: Arc<Node<S>>, name: CString },
    /// Entries to be visited.
    Entries { directory: Arc<Node<S>>, entries: Vec<(CString, FileType)> },
    /// A file that more than one may work on.
    Join { directory: Arc<Node<S>>, large: Arc<Large> },
}

struct Queue<S> {
    jobs: Vec<Job<S>>,
    workers: usize,
    idle: usize,
}

pub(super) struct Walk<'a, V: Visitor> {
    pub(super) visitor: &'a V,
    pub(super) path: &'a Path,
    pub(super) crew: &'a Crew,
    queue: Mutex<Queue<V::State>>,
    wake: Condvar,
    /// Whether someone would take a job at once; a hint, read without the lock.
    pub(super) hungry: AtomicBool,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// Walks, with this thread as the first worker.
pub(super) fn run<V: Visitor>(root: Node<V::State>, path: &Path, crew: &Crew, visitor: &V) -> Result<(), Error> {
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
        let mut worker = Worker::new(&walk.stopped);
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
                Job::Join { directory, large } => {
                    self.join(scope, &directory, &large, &mut worker).and_then(|()| self.finish(directory))
                }
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
    pub(super) fn offer<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        job: Job<V::State>,
    ) -> Result<(), Job<V::State>>
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
        if thread.spawn_scoped(scope, move || self.work(scope, Worker::new(&self.stopped))).is_ok() {
            queue.workers += 1;
        }
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

    pub(super) fn stopped(&self) -> bool {
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
