//! The workspace: each top-level item of the image's own directory is published on the volume unless something of
//! that name is there.

mod report;

use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Progress};

pub use report::{ItemReport, Outcome, Report};

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

/// What there is to do, as it was when [`plan`] looked.
#[derive(Debug, Clone, Default)]
pub struct Plan {}

impl Plan {
    /// Whether the workspace is as it should be already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
}

/// Looks at source and workspace, and changes nothing.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    let _ = options;
    Ok(Plan::default())
}

/// Does what the plan says. Items do not depend on each other: one that fails does not keep the others from being
/// published.
///
/// # Errors
/// [`Error::Incomplete`] when some items could not be published; any other error concerns the workspace as a whole.
pub fn apply(plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let _ = (plan, options, progress);
    Ok(Report::default())
}
