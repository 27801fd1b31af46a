//! Walks over real trees, by crews of any size.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use rustix::io::Errno;

use super::*;

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
