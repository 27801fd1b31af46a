//! Python and Node environments: on the volume they outlive the container, and instances share one copy.
//!
//! `/venv/<name>`, `/.uv` and `/opt/nvm` move to `$WORKSPACE/.environment_sync/<id>/{venv/<name>,uv,nvm}` and become links.
//! The id is the image's environment hash, so that images with other packages do not share. Programs find themselves by
//! their old paths, which lead through the link.
//!
//! A tree is replaced by a link only if its interpreter starts on the volume, and comes back if it does not start through
//! the link.
//!
//! ```
//! use vast_sync::{Cancel, Silent, SystemPrograms, environment};
//!
//! let root = tempfile::tempdir()?;
//! let venv = root.path().join("venv/main");
//! std::fs::create_dir_all(venv.join("bin"))?;
//! std::fs::create_dir(root.path().join("workspace"))?;
//! std::fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin")?;
//! std::os::unix::fs::symlink("/bin/true", venv.join("bin/python"))?;
//!
//! let id = "0123abcd".parse()?;
//! let options = environment::Options::new(root.path(), "/workspace", id);
//! let report = environment::apply(&options, &SystemPrograms::default(), &Silent, &Cancel::new())?;
//! assert_eq!(report.linked(), 1);
//! let target = std::path::Path::new("/workspace/.environment_sync/0123abcd/venv/main");
//! assert_eq!(std::fs::read_link(&venv)?, target);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod id;
mod interpreter;
mod sources;

use std::path::{Path, PathBuf};

use crate::program::Programs;
use crate::relocation::{self, Manner, Relocation, Tree};
use crate::{Cancel, Error, Progress};

pub use crate::lease::observer::Timing;
pub use crate::relocation::{Outcome, Plan, PlannedTree, Report, Role, SharedState, TreeReport, TreeState};
pub use id::{Id, InvalidId};

/// Where environments are in a workspace.
pub const DIRECTORY: &str = ".environment_sync";

/// Where an image leaves the id of its environment, as a path of the container.
pub const ID_FILE: &str = "/.env_hash";

/// The subdirectory by whose entries an older image's finished tree is known.
pub(crate) const SIGN: &str = "venv";

/// What moves where.
#[derive(Debug, Clone)]
pub struct Options {
    /// What stands for the container's `/`.
    pub root: PathBuf,
    /// `$WORKSPACE`, as a path of the container.
    pub workspace: PathBuf,
    /// The id of the environment.
    pub id: Id,
    /// What people call this instance; empty if nothing.
    pub instance: String,
    /// How long owners may be silent, and how long they are waited for.
    pub timing: Timing,
}

impl Options {
    /// Options of a nameless instance with the usual timing.
    pub fn new(root: impl Into<PathBuf>, workspace: impl Into<PathBuf>, id: Id) -> Self {
        Self { root: root.into(), workspace: workspace.into(), id, instance: String::new(), timing: Timing::default() }
    }

    fn relocation(&self) -> Result<Relocation, Error> {
        Ok(Relocation {
            root: self.root.clone(),
            workspace: self.workspace.clone(),
            above: self.workspace.join(DIRECTORY),
            name: self.id.as_str().to_owned(),
            sign: SIGN,
            trees: sources::find(&self.root)?,
            instance: self.instance.clone(),
            timing: self.timing,
        })
    }
}

/// Looks at the environments, and at the volume only if one of them is not a link yet. Changes nothing.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    relocation::plan(&options.relocation()?)
}

/// Moves the environments to the volume, or waits for the instance that does, and links them.
///
/// # Errors
/// [`Error::Unfinished`] when another instance did not finish in time; nothing is linked then. That single trees stay in
/// the container is no error, but told in the [`Report`].
pub fn apply(
    options: &Options,
    programs: &dyn Programs,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Report, Error> {
    let recovered = relocation::recover(&options.root, progress, cancel)?;
    let mut report = relocation::apply(&options.relocation()?, &Environments { programs }, progress, cancel)?;
    report.recovered = recovered;
    Ok(report)
}

/// Brings the environments back into the container: each link is replaced by a copy of what it leads to. The volume
/// stays as it is.
///
/// # Errors
/// The first failure; what was brought back until then is in place.
pub fn undo(options: &Options, progress: &dyn Progress) -> Result<Vec<PathBuf>, Error> {
    relocation::recover(&options.root, progress, &Cancel::new())?;
    relocation::undo(&options.relocation()?, progress)
}

struct Environments<'a> {
    programs: &'a dyn Programs,
}

impl Manner for Environments<'_> {
    fn works(&self, tree: &Tree, at: &Path) -> Result<(), String> {
        interpreter::works(self.programs, &tree.to, at)
    }
}
