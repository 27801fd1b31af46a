//! Doing it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, mkdirat, open, statat};
use rustix::io::Errno;

use super::plan::{measure, state};
use super::{Manner, Outcome, PROBE, Relocation, Report, Role, Tree, TreeReport, TreeState, on_host};
use crate::cancel::Cancel;
use crate::engine::facts::Facts;
use crate::engine::notes::Notes;
use crate::engine::survey::Size;
use crate::engine::{self, Place, remove};
use crate::lease::hold::Hold;
use crate::lease::shared::Acquired;
use crate::relink::{self, Swapped};
use crate::staging::owner::Owner;
use crate::volume::flush;
use crate::volume::publish::Published;
use crate::volume::space::Room;
use crate::{Error, Progress, fault};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Fills the shared directory or waits until it is complete, and links what is in it.
pub(crate) fn apply(
    relocation: &Relocation,
    manner: &dyn Manner,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Report, Error> {
    let run = Run { relocation, manner, progress, cancel, sizes: RefCell::default() };
    let mut report = Report::default();
    let trees = run.states()?;
    if trees.iter().any(|(_, state)| *state == TreeState::Directory) {
        run.complete(&trees, &mut report)?;
    }
    if trees.iter().all(|(_, state)| *state == TreeState::Linked) {
        report.trees.extend(trees.into_iter().map(|(tree, _)| run.told(tree, Outcome::Kept)));
        return Ok(report);
    }
    let _lock = relink::lock::take(&relocation.root, progress, cancel)?;
    // Whoever filled the directory has flushed it.
    let mut is_durable = report.role != Role::None;
    // Another process of this container may have been at it meanwhile.
    for (tree, state) in run.states()? {
        // A stop waits for a swap that has begun, as long as it can.
        let Some(_section) = cancel.section() else { return Err(Error::Cancelled) };
        let target = relocation.target(tree);
        let linked = run.link(tree, &target, state, &mut is_durable);
        let outcome = linked.unwrap_or_else(|error| Outcome::Failed(Arc::new(error)));
        report.trees.push(run.told(tree, outcome));
    }
    Ok(report)
}

struct Run<'a> {
    relocation: &'a Relocation,
    manner: &'a dyn Manner,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// What trees amount to, once that was counted.
    sizes: RefCell<BTreeMap<PathBuf, Size>>,
}

type Trees<'a> = Vec<(&'a Tree, TreeState)>;

impl<'a> Run<'a> {
    fn told(&self, tree: &Tree, outcome: Outcome) -> TreeReport {
        TreeReport { path: tree.path.clone(), target: self.relocation.target(tree), outcome }
    }

    fn states(&self) -> Result<Trees<'a>, Error> {
        let mut trees = Vec::new();
        for tree in &self.relocation.trees {
            if let Some(state) = state(self.relocation, tree)? {
                trees.push((tree, state));
            }
        }
        Ok(trees)
    }

    /// Returns when the shared directory is complete.
    fn complete(&self, trees: &Trees<'_>, report: &mut Report) -> Result<(), Error> {
        let shared = self.relocation.shared();
        let moving: Vec<&Tree> =
            trees.iter().filter(|(_, state)| *state == TreeState::Directory).map(|(tree, _)| *tree).collect();
        loop {
            let (hold, took_over) = match shared.acquire(&mut || self.check(&moving), self.progress, self.cancel)? {
                Acquired::Finished => return Ok(()),
                Acquired::Held(hold, took_over) => (hold, took_over),
            };
            match self.fill(&hold, &moving, report) {
                Ok(()) => {
                    match hold.finish(&self.mark(report)) {
                        Ok(()) => {
                            shared.clear_claims();
                            report.role = if took_over { Role::TookOver } else { Role::Copied };
                            return Ok(());
                        }
                        // Taken over in the last moment: whoever did finds everything in place.
                        Err(Error::Lost { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(_) if self.cancel.is_fired() => return Err(Error::Cancelled),
                Err(Error::Lost { .. }) => {}
                Err(error) => {
                    // What went wrong may be that the files were taken away under it.
                    if hold.check().is_ok() {
                        return Err(error);
                    }
                }
            }
            if self.cancel.is_fired() {
                return Err(Error::Cancelled);
            }
            let path = shared.path();
            self.progress.message(&format!("another instance has taken over `{}` meanwhile", path.display()));
        }
    }

    /// Fails when the volume cannot hold the trees, before anything is written.
    fn check(&self, trees: &[&Tree]) -> Result<(), Error> {
        // A workspace that is missing is made; the volume then is that of the nearest directory that is there.
        let workspace = self.relocation.here(&self.relocation.workspace);
        let volume = workspace.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let directory = open(volume, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", volume, errno))?;
        let room = Room::of(&directory).map_err(|errno| Error::io("look at", volume, errno))?;
        if room.read_only {
            return Err(Error::ReadOnly { path: volume.to_owned() });
        }
        let mut sum = Size { symlinks: 1, ..Size::default() };
        let mut source = None;
        for tree in trees {
            sum = add(sum, self.size(tree, room.block_bytes)?);
            source = source.or_else(|| open(self.relocation.here(&tree.path), DIRECTORY, Mode::empty()).ok());
        }
        let probe = OsString::from(format!("{PROBE}{}", Owner::new()));
        let place = Place { directory: directory.as_fd(), name: &probe, path: &self.relocation.shared().path() };
        engine::check(source.as_ref().unwrap_or(&directory).as_fd(), &sum, place)
    }

    /// Counts a tree, the first time it is asked for.
    fn size(&self, tree: &Tree, block_bytes: u64) -> Result<Size, Error> {
        if let Some(size) = self.sizes.borrow().get(&tree.path) {
            return Ok(*size);
        }
        let size = measure(&self.relocation.here(&tree.path), block_bytes)?;
        self.sizes.borrow_mut().insert(tree.path.clone(), size);
        Ok(size)
    }

    /// Stages and publishes every tree that is not there.
    fn fill(&self, hold: &Hold, trees: &[&Tree], report: &mut Report) -> Result<(), Error> {
        let mut missing = Vec::new();
        let room = Room::of(hold.directory()).map_err(|errno| Error::io("look at", &self.relocation.above, errno))?;
        for tree in trees {
            match statat(hold.directory(), &tree.to, AtFlags::SYMLINK_NOFOLLOW) {
                // Only complete trees get there, whoever copied them.
                Ok(_) => {
                    self.progress.message(&format!("`{}` is on the volume already", tree.path.display()));
                }
                Err(Errno::NOENT) => {
                    missing.push((*tree, self.size(tree, room.block_bytes)?));
                }
                Err(errno) => {
                    return Err(Error::io("look at", self.relocation.here(&self.relocation.target(tree)), errno));
                }
            }
        }
        let sum = missing.iter().fold(Size::default(), |sum, (_, size)| add(sum, *size));
        self.progress.start(sum.bytes, sum.entries);
        let notes = Notes::new(self.progress);
        let done = missing.iter().try_for_each(|(tree, size)| self.copy(hold, tree, *size, &notes, report));
        self.progress.finish();
        report.warnings.extend(notes.texts());
        done
    }

    fn copy(&self, hold: &Hold, tree: &Tree, size: Size, notes: &Notes<'_>, report: &mut Report) -> Result<(), Error> {
        let staging = hold.staging()?;
        let shared = self.relocation.shared().path();
        // `venv/main` needs a `venv`, in staging and where it goes.
        if let Some(above) = tree.to.parent().filter(|above| !above.as_os_str().is_empty()) {
            for above in [Path::new(&staging).join(above), above.to_owned()] {
                let made = fault::call("stage.mkdir", || mkdirat(hold.directory(), &above, Mode::from_raw_mode(0o755)));
                match made {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Error::io("create", shared.join(&above), errno)),
                }
            }
        }
        let staged = Path::new(&staging).join(&tree.to);
        let (here, path) = (self.relocation.here(&tree.path), shared.join(&staged));
        let above = here.parent().unwrap_or(Path::new("/"));
        let source = open(above, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", above, errno))?;
        let from = Place { directory: source.as_fd(), name: here.file_name().unwrap_or_default(), path: &here };
        let to = Place { directory: hold.directory(), name: staged.as_os_str(), path: &path };
        let probe = Path::new(&staging).join(".probe");
        engine::check(from.directory, &size, Place { name: probe.as_os_str(), path: &shared, ..to })?;
        let scratch = Path::new(&staging).join(".scratch");
        let leave_out: Vec<&OsStr> = tree.leave_out.iter().map(OsString::as_os_str).collect();
        let manner = engine::Manner { size, merge: false, scratch: scratch.as_os_str(), notes, leave_out: &leave_out };
        let copied = engine::transfer(from, to, &manner, self.progress)?;
        self.manner.stage(tree, &path)?;
        match hold.publish(&tree.to, &tree.to)? {
            Published::Yes => {
                report.bytes += copied.bytes;
                report.entries += copied.entries;
            }
            // Of the owner before, in the moment in which this one took over: complete as well.
            Published::NameTaken => remove::tree(to.directory, to.name, to.path)?,
        }
        Ok(())
    }

    /// What `.synced` says. Older images look only at whether it is there.
    fn mark(&self, report: &Report) -> String {
        let finished = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let instance: String = self.relocation.instance.chars().filter(|character| !character.is_control()).collect();
        format!(
            "vast-sync synced 1\ninstance {instance}\nfinished {finished}\nbytes {}\nentries {}\n",
            report.bytes, report.entries
        )
    }

    /// Replaces a tree by a link, if it is not one yet.
    fn link(&self, tree: &Tree, target: &Path, state: TreeState, is_durable: &mut bool) -> Result<Outcome, Error> {
        let (here, published) = (self.relocation.here(&tree.path), self.relocation.here(target));
        let place = self.relocation.place(tree, target);
        match state {
            TreeState::Linked => return Ok(Outcome::Kept),
            TreeState::Dangling => return Ok(Outcome::Dangling),
            TreeState::LinkedNotCleared => {
                let works = || self.manner.works(tree, &published);
                return Ok(match relink::finish(&place, &works)? {
                    Swapped::RolledBack(reason) => Outcome::Stays(reason),
                    _ => Outcome::Kept,
                });
            }
            TreeState::Directory => {}
        }
        let Ok(opened) = open(&published, DIRECTORY, Mode::empty()) else { return Ok(Outcome::NotOnVolume) };
        if let Err(reason) = self.manner.works(tree, &published) {
            return Ok(Outcome::Stays(reason));
        }
        self.manner.before_link(tree, &published)?;
        // Another instance may have published it just now; here the original is about to go.
        if !*is_durable {
            flush::filesystem(&opened).map_err(|errno| Error::io("flush", &published, errno))?;
            *is_durable = true;
        }
        let is_itself = fstat(&opened).is_ok_and(|one| {
            open(&here, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                .and_then(fstat)
                .is_ok_and(|other| one.id() == other.id())
        });
        if is_itself {
            return Ok(Outcome::Stays("it is on the volume itself".to_owned()));
        }
        let works = || if self.relocation.is_live() { self.manner.works(tree, &here) } else { Ok(()) };
        Ok(match relink::swap(&place, &self.relocation.journal(), &works, self.progress)? {
            Swapped::Yes => Outcome::Linked,
            Swapped::RolledBack(reason) => Outcome::Stays(reason),
            Swapped::Mount => Outcome::Stays("it is a mount of its own".to_owned()),
        })
    }
}

/// Completes the swaps that earlier runs of this container began.
pub(crate) fn recover(root: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<Vec<PathBuf>, Error> {
    let journal = relink::Journal::of(root);
    if journal.read()?.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = relink::lock::take(root, progress, cancel)?;
    relink::recover(root, &journal, progress)
}

/// Whether something is at a path of the container that is, or leads to, a directory there or was moved by this program.
pub(crate) fn is_candidate(root: &Path, path: &Path) -> bool {
    let here = on_host(root, path);
    here.symlink_metadata().is_ok_and(|facts| facts.is_dir() || facts.is_symlink())
}

fn add(one: Size, other: Size) -> Size {
    Size {
        bytes: one.bytes + other.bytes,
        allocated_bytes: one.allocated_bytes + other.allocated_bytes,
        entries: one.entries + other.entries,
        inodes: one.inodes + other.inodes,
        symlinks: one.symlinks + other.symlinks,
    }
}

/// Brings back every tree that is a link; the paths of the container that this concerned.
pub(crate) fn undo(relocation: &Relocation, progress: &dyn Progress) -> Result<Vec<PathBuf>, Error> {
    let _lock = relink::lock::take(&relocation.root, progress, &Cancel::new())?;
    let mut restored = Vec::new();
    for tree in &relocation.trees {
        let target = relocation.target(tree);
        let place = relocation.place(tree, &target);
        match state(relocation, tree)? {
            Some(TreeState::Linked | TreeState::LinkedNotCleared) => {
                progress.message(&format!("bringing `{}` back into the container", tree.path.display()));
                relink::restore(&place, &relocation.journal(), progress)?;
                restored.push(tree.path.clone());
            }
            Some(TreeState::Dangling) => {
                return Err(Error::Interrupted { path: place.here(), target: relocation.here(&target) });
            }
            Some(TreeState::Directory) | None => {}
        }
    }
    Ok(restored)
}
