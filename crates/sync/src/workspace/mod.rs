//! The workspace: each top-level item of the image's own directory is published on the volume unless something of that name
//! is there.
//!
//! Several instances may boot on one volume at once, some with images that know only the lock's name. An item's life:
//!
//! 1. Something has its name, a dangling link included: it is the user's, and nothing happens to it.
//! 2. Nothing has: the instance takes `.sync_<item>.lock`. Items that others hold are put off, so that instances share the
//!    work instead of queueing, and then waited for.
//! 3. With the lock, it looks again, clears away what dead owners left, copies the item to
//!    `.sync_<item>.partial.<owner>`, flushes the filesystem, and renames the copy in a way that replaces nothing.
//!
//! At any instant the item's name is either free or leads to a complete and durable copy. Where there are no locks, two
//! instances may copy the same item; one of them publishes it.

mod apply;
mod item;
mod plan;
mod report;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Progress};

pub use crate::engine::survey::Size;
pub use plan::{Item, Plan};
pub use report::{ItemReport, Outcome, Report};
pub use status::{Leftover, LeftoverOwner, LockState, Status, StatusItem, status};

/// Files that the platform may put into the workspace, and that boot removes from it.
const PLATFORM_FILES: [&str; 2] = ["onstart.sh", "ports.log"];

/// Where the items come from and where they go.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image's directory of items, `/opt/workspace-internal`. That it is missing is no error: there is nothing to do.
    pub source: PathBuf,
    /// The directory they are published in, `$WORKSPACE`. It is created when missing.
    pub workspace: PathBuf,
    /// How long to wait for the lock of one item that another instance holds.
    pub lock_wait: Duration,
}

impl Options {
    /// Options with the default wait of one hour.
    pub fn new(source: impl Into<PathBuf>, workspace: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), workspace: workspace.into(), lock_wait: Duration::from_hours(1) }
    }
}

/// Looks at source and workspace, takes no lock and changes nothing.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    plan::plan(options)
}

/// Does what the plan says. Items do not depend on each other: one that fails does not keep the others from being
/// published.
///
/// # Errors
/// [`Error::Incomplete`] when some items could not be published; any other error concerns the workspace as a whole.
pub fn apply(plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    apply::apply(plan, options, progress)
}
