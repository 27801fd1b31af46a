//! Removing what nobody needs.
//!
//! An environment goes unless it is kept by name or an instance is filling it. Nothing on a volume tells whether an instance
//! elsewhere has its links lead to a finished one: whoever removes it knows, or keeps it.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Mode, OFlags, RenameFlags, open, renameat, renameat_with};
use rustix::io::Errno;

use super::{Entry, Stock, claimed};
use crate::cancel::Cancel;
use crate::engine::remove;
use crate::environment::Id;
use crate::lease::observer::{Observer, Step, Syncing, Timing};
use crate::lease::{CLAIM, DEAD};
use crate::relocation::{PROBE, SharedState};
use crate::staging::owner::Owner;
use crate::{Error, Progress, fault, workspace};

/// What is removed and what is not.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workspace, as a path of this machine.
    pub workspace: PathBuf,
    /// The environments that stay, the container's own among them.
    pub keep: Vec<Id>,
    /// How long owners may be silent.
    pub timing: Timing,
}

/// What there is to remove.
#[derive(Debug)]
#[must_use]
pub struct Plan {
    /// Every environment.
    pub environments: Vec<Planned>,
    /// Leftovers in directories that stay, and beside them.
    pub leftovers: Vec<PathBuf>,
    /// Unpublished copies of workspace items. Those of owners who may be alive stay.
    pub partials: Vec<PathBuf>,
}

/// An environment and what becomes of it.
#[derive(Debug)]
pub struct Planned {
    /// The environment.
    pub entry: Entry,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Remove,
    /// It stays, because it was named.
    Kept,
    /// It stays, because an instance is filling it, or may be.
    Filling,
    /// It stays, because it is not this program's.
    Foreign,
}

impl Plan {
    /// Whether there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.partials.is_empty() && self.removed().next().is_none()
    }

    /// The environments that go.
    pub fn removed(&self) -> impl Iterator<Item = &Entry> {
        self.environments.iter().filter(|planned| planned.verdict == Verdict::Remove).map(|planned| &planned.entry)
    }
}

/// Decides what may go. Changes nothing, and takes a lease's time if there is anyone of whom nothing is known.
///
/// # Errors
/// [`Error::Cancelled`] when a stop came meanwhile.
pub fn plan(options: &Options, progress: &dyn Progress, cancel: &Cancel) -> Result<Plan, Error> {
    let Stock { environments, home, stray } = super::take(&options.workspace)?;
    let mut plan = Plan { environments: Vec::new(), leftovers: Vec::new(), partials: Vec::new() };
    let unknown: Vec<&Entry> = environments.iter().filter(|entry| needs_watching(entry, options)).collect();
    let (claims, dead): (Vec<PathBuf>, Vec<PathBuf>) =
        stray.into_iter().partition(|path| name_of(path).starts_with(CLAIM));
    let is_left = |path: &PathBuf| [DEAD, PROBE].iter().any(|prefix| name_of(path).starts_with(prefix));
    plan.leftovers.extend(dead.into_iter().filter(is_left));
    // A claim of a directory that is there can only fail.
    let (pointless, claims): (Vec<PathBuf>, Vec<PathBuf>) = claims.into_iter().partition(|claim| {
        claimed(name_of(claim)).is_some_and(|name| claim.with_file_name(name).symlink_metadata().is_ok())
    });
    let alive = watch(&unknown, &claims, options, progress, cancel)?;
    // What is claimed is renamed at once: what is still there after a lease's time is of one who died.
    plan.leftovers.extend(pointless.into_iter().chain(claims).filter(|claim| claim.symlink_metadata().is_ok()));
    for entry in environments.into_iter().chain(home) {
        let is_home = entry.name == crate::home::DIRECTORY && entry.path.parent() == Some(&*options.workspace);
        if entry.state == SharedState::Finished && !entry.leftovers.is_empty() {
            plan.leftovers.extend(entry.leftovers.iter().cloned());
        }
        if is_home {
            continue;
        }
        let is_kept = options.keep.iter().any(|id| id.as_str() == entry.name);
        let verdict = match entry.state {
            _ if is_kept => Verdict::Kept,
            SharedState::Foreign => Verdict::Foreign,
            SharedState::Filling { .. } if alive.contains(&entry.name) => Verdict::Filling,
            _ => Verdict::Remove,
        };
        if verdict == Verdict::Remove {
            plan.leftovers.retain(|path| !path.starts_with(&entry.path));
        }
        plan.environments.push(Planned { entry, verdict });
    }
    let found = workspace::plan(&nothing_to_publish(&options.workspace))?;
    plan.partials.extend(found.leftovers().map(|name| options.workspace.join(name)));
    Ok(plan)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn needs_watching(entry: &Entry, options: &Options) -> bool {
    matches!(entry.state, SharedState::Filling { .. }) && !options.keep.iter().any(|id| id.as_str() == entry.name)
}

/// Watches unfinished environments for a lease's time; the names of those whose owner lives, or may live.
fn watch(
    entries: &[&Entry],
    claims: &[PathBuf],
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<String>, Error> {
    let began = Instant::now();
    // Of an older image's mark nothing can be learnt by watching.
    let opaque = |entry: &&&Entry| matches!(entry.reading.syncing, Some(Syncing::Opaque));
    let mut alive: Vec<String> = entries.iter().filter(opaque).map(|entry| entry.name.clone()).collect();
    let mut watched: Vec<(&Entry, Observer)> =
        entries.iter().filter(|entry| !opaque(entry)).map(|entry| (*entry, Observer::new(options.timing))).collect();
    if watched.is_empty() && claims.is_empty() {
        return Ok(alive);
    }
    let seconds = options.timing.lease.as_secs();
    progress.message(&format!("watching unfinished work for {seconds} s, to see whether anyone is at it"));
    while !watched.is_empty() || (!claims.is_empty() && began.elapsed() < options.timing.lease) {
        let mut undecided = Vec::new();
        for (entry, mut observer) in watched {
            let reading = entry.shared.read()?;
            let has_moved = reading.syncing != entry.reading.syncing || reading.takeover != entry.reading.takeover;
            match observer.observe(&reading, began.elapsed()) {
                Step::TakeOver(_) => {}
                // Nobody has marked it in all that time, nor is there a sign of one of ours who died.
                Step::Wait if reading.syncing.is_none() && began.elapsed() >= options.timing.lease => {
                    alive.push(entry.name.clone());
                }
                Step::Wait if !has_moved => undecided.push((entry, observer)),
                _ => alive.push(entry.name.clone()),
            }
        }
        watched = undecided;
        if cancel.sleep(options.timing.poll()) {
            return Err(Error::Cancelled);
        }
    }
    Ok(alive)
}

fn nothing_to_publish(workspace: &Path) -> workspace::Options {
    workspace::Options::new(workspace.join(".vast-sync-no-source"), workspace)
}

/// What was removed.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    /// Paths that are gone, as paths of this machine.
    pub removed: Vec<PathBuf>,
    /// What they took, in bytes, as far as it was counted.
    pub bytes: u64,
    /// Unpublished copies of workspace items that stay, because their owners may be alive.
    pub partials_kept: u64,
    /// What could not be removed, one sentence each.
    pub failures: Vec<String>,
}

/// Removes what the plan says.
pub fn apply(plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let mut report = Report::default();
    for entry in plan.removed() {
        progress.message(&format!("removing `{}`", entry.path.display()));
        match remove(&entry.path) {
            Ok(()) => {
                report.bytes += entry.size.map_or(0, |size| size.allocated_bytes);
                report.removed.push(entry.path.clone());
            }
            Err(error) => report.failures.push(crate::error::chain(&error)),
        }
    }
    for path in &plan.leftovers {
        match remove(path) {
            Ok(()) => report.removed.push(path.clone()),
            Err(error) => report.failures.push(crate::error::chain(&error)),
        }
    }
    if !plan.partials.is_empty() {
        let sweep = nothing_to_publish(&options.workspace);
        let mut found = workspace::plan(&sweep)?;
        // Those are boot's to remove.
        found.platform_files.clear();
        let swept = workspace::apply(&found, &sweep, progress)?;
        report.partials_kept = swept.leftovers_kept;
        report.failures.extend(swept.warnings);
        report.removed.extend(plan.partials.iter().filter(|path| path.symlink_metadata().is_err()).cloned());
    }
    Ok(report)
}

/// Removes a tree, out of everybody's reach from the first moment.
fn remove(path: &Path) -> Result<(), Error> {
    let above = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match open(above, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(|errno| Error::io("open", above, errno))?,
    };
    let name = path.file_name().unwrap_or_default();
    let mut taken = name.to_owned();
    if !name_of(path).starts_with(DEAD) {
        taken = format!("{DEAD}{}", Owner::new()).into();
        let renamed = fault::call("sweep.rename", || {
            match renameat_with(&directory, name, &directory, &*taken, RenameFlags::NOREPLACE) {
                // The name has this attempt's own random part: nothing is there to be replaced.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => renameat(&directory, name, &directory, &*taken),
                renamed => renamed,
            }
        });
        match renamed {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::io("take away", path, errno)),
        }
    }
    remove::tree(directory.as_fd(), &taken, &path.with_file_name(&taken))
}
