//! Choosing and setting up the CUDA toolkit that fits the driver (boot stage 05).
//!
//! The driver of the host decides the newest CUDA version that runs; the image brings one or more toolkits. [`gather`] collects the
//! facts, [`Facts::compat_candidate`] and [`plan`] decide without touching anything, [`apply`] makes the changes as one transaction, and
//! [`configure`] is all of it in the order of a boot.

mod apply;
mod environment;
mod gather;
mod loader;
mod plan;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub use apply::apply;
pub use environment::Environment;
pub use gather::{driver_library, driver_version, gather};
pub use plan::{Change, Choice, Driver, Facts, Maximum, Plan, plan};

use crate::error::Error;
use crate::runner::Runner;

/// Why the last boot could not set up CUDA as it should; gone at every boot.
pub const FAILED_MARKER: &str = "/run/vast-cuda-config-failed";

/// The version of the toolkit that forward compatibility was established for.
pub const COMPAT_MARKER: &str = "/etc/vast-cuda-compat-established";

/// Present between the first change of a set-up and the loader's new cache.
pub const PENDING_MARKER: &str = "/etc/.vast-cuda-pending";

/// The loader's first configuration file: the libraries that forward compatibility puts before the driver's.
pub const COMPAT_CONF: &str = "/etc/ld.so.conf.d/0-compat-cuda.conf";

/// The loader's configuration file for the toolkit in use.
pub const CUDA_CONF: &str = "/etc/ld.so.conf.d/10-cuda.conf";

/// How often and how far apart forward compatibility is tried: the driver may not be ready yet.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries in all.
    pub tries: u32,
    /// Between two of them.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 3, pause: Duration::from_secs(2) }
    }
}

/// The whole stage: gathers the facts under `root`, tries forward compatibility where it is called for, plans and applies.
///
/// The changes to the environment are the caller's to make: [`Plan::environment`].
///
/// # Errors
/// What could not be read or changed. The files are then as they were, and [`FAILED_MARKER`] says why if it could be written.
pub fn configure(
    root: &Path,
    env: &BTreeMap<String, String>,
    runner: &dyn Runner,
    patience: Patience,
) -> Result<Plan, Error> {
    let plan = prepare(root, env, runner, patience).inspect_err(|error| apply::record(root, error))?;
    apply(&plan, root, runner)?;
    Ok(plan)
}

/// [`configure`] without changing anything. Forward compatibility is tried all the same: in a process of its own, it leaves nothing behind.
///
/// # Errors
/// What could not be read.
pub fn prepare(
    root: &Path,
    env: &BTreeMap<String, String>,
    runner: &dyn Runner,
    patience: Patience,
) -> Result<Plan, Error> {
    let facts = gather(root, env, runner)?;
    let proof = facts.compat_candidate().map(|candidate| prove(root, &candidate.path, runner, patience));
    Ok(plan(&facts, proof.as_ref()))
}

fn prove(root: &Path, compat: &Path, runner: &dyn Runner, patience: Patience) -> Result<(), String> {
    let directory = crate::toolkit::under(root, compat);
    let mut outcome = Err("it was not tried".to_owned());
    for attempt in 0..patience.tries {
        if attempt > 0 {
            thread::sleep(patience.pause);
        }
        outcome = runner.init_with_compat(&directory);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
