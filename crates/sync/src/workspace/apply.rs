//! Doing what the plan says, item by item.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::item::{Copying, Patience};
use super::plan::{self, Plan};
use super::report::{ItemReport, Outcome, Report};
use super::{Options, Size};
use crate::staging::names::{Family, Stem};
use crate::staging::owner::Owner;
use crate::staging::sweep::{Claim, Sweeper, Swept};
use crate::volume::kind::Kind;
use crate::volume::lock::{Lock, try_lock};
use crate::volume::space::Room;
use crate::{Error, Progress};

/// See [`apply`](super::apply()).
pub(super) fn apply(plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let mut run = Run { report: Report::default(), progress, options };
    for item in plan.items.iter().filter(|item| item.missing.is_none()) {
        run.note(&item.name, Outcome::Kept);
    }
    for name in &plan.reserved {
        run.warn(format!("`{}` is not published: that is the name of a lock or of an unfinished copy", name.display()));
    }
    if plan.is_empty() {
        return run.end();
    }
    let workspace = open_workspace(options)?;
    if Room::of(&workspace).is_ok_and(|room| room.read_only) {
        return Err(Error::ReadOnly { path: options.workspace.clone() });
    }
    run.publish_missing(plan, &workspace)?;
    run.sweep_the_rest(plan, &workspace);
    run.remove_platform_files(plan, &workspace);
    run.end()
}

fn open_workspace(options: &Options) -> Result<File, Error> {
    let path = &options.workspace;
    if let Some(workspace) = plan::open_directory(path)? {
        return Ok(workspace);
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| Error::Io { action: "create", path: path.clone(), source })?;
    plan::open_directory(path)?.ok_or_else(|| Error::io("create", path, Errno::NOENT))
}

struct Run<'a> {
    report: Report,
    progress: &'a dyn Progress,
    options: &'a Options,
}

impl Run<'_> {
    fn publish_missing(&mut self, plan: &Plan, workspace: &File) -> Result<(), Error> {
        let mut pending: Vec<(&OsStr, &Size)> = plan.missing().collect();
        let Some(source) = plan::open_directory(&self.options.source)?.filter(|_| !pending.is_empty()) else {
            return Ok(());
        };
        let sum = |of: fn(&Size) -> u64| pending.iter().map(|(_, size)| of(size)).sum();
        self.progress.start(sum(|size| size.bytes), sum(|size| size.entries));
        let kind = Kind::of(workspace);
        // First what nobody is at; then, one after the other, what others held.
        for patience in [Patience::None, Patience::UpTo(self.options.lock_wait)] {
            let mut busy = Vec::new();
            for (name, size) in pending {
                let copying = Copying {
                    name,
                    size: *size,
                    source: source.as_fd(),
                    workspace: workspace.as_fd(),
                    kind,
                    options: self.options,
                    progress: self.progress,
                };
                let mut swept = Swept::default();
                match copying.run(patience, &mut self.report, &mut swept) {
                    Some(outcome) => self.note(name, outcome),
                    None => busy.push((name, size)),
                }
                self.count(swept);
            }
            pending = busy;
        }
        self.progress.finish();
        Ok(())
    }

    /// Leftovers of items that are in place, or that other images have.
    fn sweep_the_rest(&mut self, plan: &Plan, workspace: &File) {
        let handled: Vec<Stem> = plan.missing().map(|(name, _)| Stem::of(name)).collect();
        let exact = Kind::of(workspace).locks_are_shared();
        let me = Owner::new();
        for stem in plan.leftovers.keys().filter(|stem| !handled.contains(stem)) {
            let (directory, path) = (workspace.as_fd(), self.options.workspace.as_path());
            // Whoever has the lock is at the item, and sweeps it.
            let lock = try_lock(directory, &stem.lock());
            let claim = match &lock {
                Lock::Held(_) if exact => Claim::Exclusive,
                Lock::Held(_) | Lock::Unusable(_) => Claim::Shared,
                Lock::Busy => continue,
            };
            let mut swept = Swept::default();
            match (Sweeper { family: Family::Sync, directory, path, stem, me: &me }).sweep(claim, &mut swept) {
                Ok(watched) => self.report.leftovers_kept += watched.copies(),
                Err(error) => swept.failures.push(error),
            }
            self.count(swept);
        }
    }

    fn remove_platform_files(&mut self, plan: &Plan, workspace: &File) {
        for name in &plan.platform_files {
            match unlinkat(workspace, &**name, AtFlags::empty()) {
                Ok(()) => self.report.removed.push(name.clone()),
                // A directory of that name is not the platform's.
                Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => {
                    let path = self.options.workspace.join(name);
                    self.warn(format!("cannot remove `{}`: {errno}", path.display()));
                }
            }
        }
    }

    fn note(&mut self, name: &OsStr, outcome: Outcome) {
        self.report.items.push(ItemReport { name: OsString::from(name), outcome });
    }

    fn count(&mut self, swept: Swept) {
        self.report.leftovers_removed += swept.removed;
        for failure in swept.failures {
            self.warn(format!("an unfinished copy stays: {}", crate::error::chain(&failure)));
        }
    }

    fn warn(&mut self, text: String) {
        self.progress.warning(&text);
        self.report.warnings.push(text);
    }

    fn end(mut self) -> Result<Report, Error> {
        self.report.items.sort_by(|one, other| one.name.cmp(&other.name));
        match self.report.first_failure() {
            Some(source) => Err(Error::Incomplete { report: Box::new(self.report), source }),
            None => Ok(self.report),
        }
    }
}
