//! Taking the inventory of a root.

use std::path::{Path, PathBuf};

use crate::dpkg::{self, Database};
use crate::error::Error;
use crate::inventory::{Apt, Inventory, Package};
use crate::root::Root;
use crate::{system, venv};

/// What the caller knows that the files do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The root is the running system: its kernel is asked for the machine, and where the files leave the interpreter of
    /// an environment uncertain, the interpreter is asked. `false`: nothing from the root is run.
    pub live: bool,
    /// `platform.machine()` of the root, such as `aarch64`, where the caller knows it (from an image's configuration).
    /// `None`: from the root's package database and programs.
    pub machine: Option<String>,
    /// The home directory of the user who runs the interpreters, for Python's user site (only environments that include
    /// the system's packages, and conda's, look there). `None`: that of the root's user 0, on the running system of the one who
    /// asks.
    pub home: Option<PathBuf>,
}

/// Takes the inventory of the environment below `root`, and its hash.
///
/// # Errors
/// [`Error`], naming the path inside the root, where something that counts cannot be read or understood.
pub fn hash(root: &Path, options: &Options) -> Result<Inventory, Error> {
    let root = Root::open(root)?;
    let mut notes = Vec::new();
    let database = Database::read(&root)?;
    let machine = machine(&root, &database, options, &mut notes);
    let native = database.architecture().or_else(|| system::architecture_of_machine(&machine)).unwrap_or_default();
    let mut packages = database.installed(native);
    packages.retain(dpkg::counts);
    if !dpkg::is_installed(&root) {
        packages.clear();
    }
    let user = if options.live { rustix::process::getuid().as_raw() } else { 0 };
    let home = options.home.clone().map_or_else(|| home_of(&root, user), |home| Ok(Some(home)))?;
    let context = venv::Context { root: &root, database: &database, live: options.live, home: home.as_deref() };
    let venvs = venv::read_all(context, &mut notes)?;
    Ok(Inventory::new(system::read(&root, machine)?, Apt::new(packages), venvs, notes))
}

/// Every Debian package of `root` that `dpkg -l` shows as installed (`ii`), those too that do not count for the hash, sorted by
/// name.
///
/// # Errors
/// [`Error`], where the package database cannot be read or understood.
pub fn installed(root: &Path, options: &Options) -> Result<Vec<Package>, Error> {
    let root = Root::open(root)?;
    let database = Database::read(&root)?;
    let machine = machine(&root, &database, options, &mut Vec::new());
    let native = database.architecture().or_else(|| system::architecture_of_machine(&machine)).unwrap_or_default();
    Ok(database.installed(native))
}

fn machine(root: &Root, database: &Database, options: &Options, notes: &mut Vec<String>) -> String {
    if let Some(machine) = &options.machine {
        return machine.clone();
    }
    if options.live {
        return system::running_machine();
    }
    let stated = database.architecture().and_then(system::machine_of_architecture);
    stated.or_else(|| system::machine_of_programs(root)).map_or_else(
        || {
            let machine = system::running_machine();
            notes.push(format!("nothing in the root tells its machine; taken for {machine}, as this system is"));
            machine
        },
        str::to_owned,
    )
}

/// The home directory of a user by number: `root:x:0:0:root:/root:/bin/bash`.
fn home_of(root: &Root, user: u32) -> Result<Option<PathBuf>, Error> {
    let text = root.read_if_there(Path::new("/etc/passwd"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let home = text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.len() >= 6 && fields[2].parse() == Ok(user)).then(|| fields[5].to_owned())
    });
    Ok(home.map(PathBuf::from))
}
