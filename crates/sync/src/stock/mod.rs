//! What this program and older images have put on a volume, and what of it nobody needs.
//!
//! [`take`] looks and changes nothing. [`gc::plan`] decides what may go, watching for a lease's time whom it knows nothing
//! of; [`gc::apply`] removes that.

pub mod gc;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Mode, OFlags, open};

use crate::Error;
use crate::engine::survey::Size;
use crate::engine::{self, Place};
use crate::environment::{self, Id};
use crate::lease::observer::{Reading, Syncing, Timing};
use crate::lease::shared::Shared;
use crate::lease::{CLAIM, DEAD, STAGING, SYNCED, SYNCING, TAKEOVER};
use crate::relocation::{PROBE, SharedState};
use crate::{home, lease};

use std::os::fd::AsFd;

/// Everything of this program's below a workspace, but for what [`workspace::status`](crate::workspace::status) tells.
#[derive(Debug, Default)]
pub struct Stock {
    /// Environments, in the order of their ids.
    pub environments: Vec<Entry>,
    /// The homes; absent if there is nothing of that name.
    pub home: Option<Entry>,
    /// What was being claimed or removed when its owner died, or is right now.
    pub stray: Vec<PathBuf>,
}

/// A shared directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it is, as a path of this machine.
    pub path: PathBuf,
    /// What it is like.
    pub state: SharedState,
    /// What people call the instance that fills it, or has filled it.
    pub instance: Option<String>,
    /// When that instance began, or had finished, in seconds since 1970 by its own clock.
    pub since: Option<u64>,
    /// What it takes; absent when it changes too fast to count.
    pub size: Option<Size>,
    /// What is in it that a finished directory does not need: marks of work, and unpublished copies.
    pub leftovers: Vec<PathBuf>,
    pub(crate) shared: Shared,
    pub(crate) reading: Reading,
}

/// Looks at a workspace, given as a path of this machine.
pub fn take(workspace: &Path) -> Result<Stock, Error> {
    let mut stock = Stock::default();
    let environments = workspace.join(environment::DIRECTORY);
    for name in names(&environments)? {
        if name.starts_with('.') {
            stock.stray.push(environments.join(name));
        } else if Id::from_str(&name).is_ok() && environments.join(&name).is_dir() {
            stock.environments.push(Entry::read(&environments, name, environment::SIGN)?);
        }
    }
    if workspace.join(home::DIRECTORY).symlink_metadata().is_ok() {
        stock.home = Some(Entry::read(workspace, home::DIRECTORY.to_owned(), home::SIGN)?);
    }
    // Each is there for an instant, or its maker is dead.
    let probes = names(workspace)?.into_iter().filter(|name| name.starts_with(PROBE));
    stock.stray.extend(probes.map(|name| workspace.join(name)));
    let claims = shared(workspace, home::DIRECTORY.to_owned(), home::SIGN).claims();
    stock.stray.extend(claims.into_iter().map(|claim| workspace.join(claim)));
    Ok(stock)
}

fn shared(parent: &Path, name: String, sign: &'static str) -> Shared {
    Shared { parent: parent.to_owned(), name, sign, timing: Timing::default(), instance: String::new() }
}

impl Entry {
    fn read(parent: &Path, name: String, sign: &'static str) -> Result<Self, Error> {
        let shared = shared(parent, name.clone(), sign);
        let reading = shared.read()?;
        let path = shared.path();
        let state = SharedState::of(&reading);
        let mark = Mark::read(&path.join(SYNCED));
        let (instance, since) = match &reading.syncing {
            Some(Syncing::Lease(lease)) if !reading.synced => (lease::shared::owner_of(&reading), Some(lease.started)),
            _ => (mark.instance, mark.finished),
        };
        let leftovers = names(&path)?
            .into_iter()
            .filter(|name| name == SYNCING || [STAGING, TAKEOVER, DEAD].iter().any(|prefix| name.starts_with(prefix)))
            .map(|name| path.join(name))
            .collect();
        let size = measure(&path);
        Ok(Self { name, path, state, instance, since, size, leftovers, shared, reading })
    }
}

/// What `.synced` says, if one of ours made it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mark {
    instance: Option<String>,
    finished: Option<u64>,
}

impl Mark {
    fn read(path: &Path) -> Self {
        fs::read_to_string(path).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("vast-sync synced 1") {
            return Self::default();
        }
        let values: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
        Self {
            instance: values.get("instance").filter(|instance| !instance.is_empty()).map(|text| (*text).to_owned()),
            finished: values.get("finished").and_then(|seconds| seconds.parse().ok()),
        }
    }
}

fn measure(path: &Path) -> Option<Size> {
    let (above, name) = (path.parent()?, path.file_name()?);
    let directory = open(above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    engine::measure(Place { directory: directory.as_fd(), name, path }, 1).ok()
}

/// The names in a directory that are text, in order; none if it is not there.
fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(Error::io("list", path, source)),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether it is the name of a prepared directory, and of which shared one.
fn claimed(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(CLAIM)?;
    rest.rsplit_once('.').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_ours_says_who_and_when_and_one_of_an_older_image_nothing() {
        let mark = Mark::parse("vast-sync synced 1\ninstance C.1\nfinished 17\nbytes 1\nentries 2\n");
        assert_eq!(mark, Mark { instance: Some("C.1".to_owned()), finished: Some(17) });
        assert_eq!(Mark::parse(""), Mark::default());
    }

    #[test]
    fn a_claim_names_its_directory_whatever_dots_that_has() {
        assert_eq!(claimed(".claim.3.12-cu128.5a1c9e02-4711-88213-9f00ab12"), Some("3.12-cu128"));
        assert_eq!(claimed(".dead.x"), None);
    }
}
