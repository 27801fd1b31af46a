//! Home directories: on the volume they outlive the container, and instances share them.
//!
//! `/root` and each `/home/<user>` move to `$WORKSPACE/home/{root,<user>}` and become links. Two kinds of things in them are
//! not for sharing, and stay in the container:
//!
//! - `.ssh` goes to `/home_ssh/<user>/.ssh`, and a link in the home on the volume leads there. A volume never holds a key,
//!   may lack the ownership and permissions that `sshd` asks for, and must not decide who gets in. As long as a home is
//!   not a link, its own `.ssh` stays where it is.
//! - The platform's files of root, which are about this instance: each is at its place in the container, and a link in
//!   root's home leads there.

mod platform;
mod sources;
mod ssh;

use std::path::{Path, PathBuf};

use crate::relocation::{self, Manner, Relocation, Tree};
use crate::{Cancel, Error, Progress};

pub use crate::lease::observer::Timing;
pub use crate::relocation::{Outcome, Plan, PlannedTree, Report, Role, SharedState, TreeReport, TreeState};

/// Where homes are in a workspace.
pub const DIRECTORY: &str = "home";

/// The subdirectory by whose entries an older image's finished tree is known.
pub(crate) const SIGN: &str = "root";

/// What moves where.
#[derive(Debug, Clone)]
pub struct Options {
    /// What stands for the container's `/`.
    pub root: PathBuf,
    /// `$WORKSPACE`, as a path of the container.
    pub workspace: PathBuf,
    /// What people call this instance; empty if nothing.
    pub instance: String,
    /// How long owners may be silent, and how long they are waited for.
    pub timing: Timing,
}

impl Options {
    /// Options of a nameless instance with the usual timing.
    pub fn new(root: impl Into<PathBuf>, workspace: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), workspace: workspace.into(), instance: String::new(), timing: Timing::default() }
    }

    fn relocation(&self) -> Result<Relocation, Error> {
        Ok(Relocation {
            root: self.root.clone(),
            workspace: self.workspace.clone(),
            above: self.workspace.clone(),
            name: DIRECTORY.to_owned(),
            sign: SIGN,
            trees: sources::find(&self.root)?,
            instance: self.instance.clone(),
            timing: self.timing,
        })
    }
}

/// Looks at the homes, and at the volume only if one of them is not a link yet. Changes nothing.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    relocation::plan(&options.relocation()?)
}

/// Moves the homes to the volume, or waits for the instance that does, and links them.
///
/// # Errors
/// [`Error::Unfinished`] when another instance did not finish in time; nothing is linked then. That single homes stay in
/// the container is no error, but told in the [`Report`].
pub fn apply(options: &Options, progress: &dyn Progress, cancel: &Cancel) -> Result<Report, Error> {
    let recovered = relocation::recover(&options.root, progress, cancel).inspect_err(|error| {
        if let Error::Interrupted { path, .. } = error {
            ssh::rescue(&options.root, path);
        }
    })?;
    let mut report = relocation::apply(&options.relocation()?, &Homes { root: &options.root }, progress, cancel)?;
    report.recovered = recovered;
    for tree in report.trees.iter().filter(|tree| matches!(tree.outcome, Outcome::Dangling)) {
        let to = tree.target.file_name().map_or(Path::new(""), Path::new);
        ssh::stand_in(&options.root, &options.workspace, to, &tree.target);
    }
    Ok(report)
}

/// Brings the homes back into the container: each link is replaced by a copy of what it leads to. The volume stays as it
/// is, and so does `/home_ssh`, to which the `.ssh` of each home goes on to lead.
///
/// # Errors
/// The first failure; what was brought back until then is in place.
pub fn undo(options: &Options, progress: &dyn Progress) -> Result<Vec<PathBuf>, Error> {
    relocation::recover(&options.root, progress, &Cancel::new())?;
    relocation::undo(&options.relocation()?, progress)
}

struct Homes<'a> {
    root: &'a Path,
}

impl Manner for Homes<'_> {
    fn stage(&self, tree: &Tree, staged: &Path) -> Result<(), Error> {
        ssh::link(&tree.to, staged)?;
        platform::link(tree, staged)
    }

    fn before_link(&self, tree: &Tree, published: &Path) -> Result<(), Error> {
        let home = relocation::on_host(self.root, &tree.path);
        ssh::keep(self.root, &tree.to, &home)?;
        ssh::link(&tree.to, published)?;
        platform::keep(self.root, tree, &home)?;
        platform::link(tree, published)
    }

    fn works(&self, _tree: &Tree, at: &Path) -> Result<(), String> {
        match std::fs::read_dir(at) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("`{}` cannot be entered: {error}", at.display())),
        }
    }
}
