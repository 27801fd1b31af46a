//! `vast-sync migrate`: what the user had installed into an environment that a new image no longer uses.

mod installed;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use vast_sync::Error;
use vast_sync::environment;

use super::args::MigrateArgs;
use super::{Failure, PROGRAM, output};
use installed::Installed;

/// A venv of both environments, and what only the old one has.
struct Missing {
    venv: String,
    packages: Vec<Installed>,
    /// Where the venv of the new environment is, as a path of this machine.
    into: PathBuf,
}

pub(super) fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let (old, new) = args.directories()?;
    let missing = compare(&old, &new)?;
    if args.json {
        let venvs = missing.iter().map(|missing| {
            let packages = missing.packages.iter().map(|package| {
                json!({ "name": package.name, "version": package.version, "requirement": package.requirement() })
            });
            json!({ "venv": missing.venv, "packages": packages.collect::<Vec<_>>() })
        });
        output::json(&json!({ "event": "plan", "venvs": venvs.collect::<Vec<_>>() }));
    } else {
        tell(args, &missing);
    }
    if args.install { install(&missing) } else { Ok(()) }
}

/// The venvs that both have, in the order of their names.
fn compare(old: &Path, new: &Path) -> Result<Vec<Missing>, Error> {
    let mut found = Vec::new();
    for venv in names(&old.join("venv"))? {
        let into = new.join("venv").join(&venv);
        if !into.is_dir() {
            continue;
        }
        let has = installed::read(&into)?;
        let mut packages = installed::read(&old.join("venv").join(&venv))?;
        // A version that differs is the new image's choice.
        packages.retain(|package| !has.iter().any(|other| other.key() == package.key()));
        found.push(Missing { venv, packages, into });
    }
    Ok(found)
}

fn tell(args: &MigrateArgs, missing: &[Missing]) {
    let (old, new) = (&args.old, &args.new);
    for Missing { venv, packages, .. } in missing {
        match packages.len() {
            0 => output::line(&format!("{venv}: {new} has everything that {old} has")),
            1 => output::line(&format!("{venv}: 1 package of {old} is not in {new}")),
            count => output::line(&format!("{venv}: {count} packages of {old} are not in {new}")),
        }
        for package in packages {
            output::line(&format!("  {}", package.requirement()));
        }
    }
    if missing.is_empty() {
        output::line(&format!("{old} and {new} have no venv in common"));
    } else if !args.install && missing.iter().any(|missing| !missing.packages.is_empty()) {
        output::line("--install installs them with uv");
    }
}

fn install(missing: &[Missing]) -> Result<(), Failure> {
    for Missing { venv, packages, into } in missing.iter().filter(|missing| !missing.packages.is_empty()) {
        let mut command = Command::new("uv");
        command.args(["pip", "install", "--python"]).arg(into.join("bin/python"));
        command.args(packages.iter().flat_map(Installed::arguments));
        // Its own progress goes where this program's does; standard output is for the list.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!("{PROGRAM}: uv could not install them into `{venv}` ({status}); nothing else was changed");
                return Err(Failure::Told);
            }
            Err(error) => {
                eprintln!("{PROGRAM}: cannot run `uv`: {error}\n  hint: install uv, or pass the list to pip");
                return Err(Failure::Told);
            }
        }
    }
    Ok(())
}

/// The names in a directory that are text and visible, in order.
fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { action: "list", path: path.to_owned(), source }),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    Ok(names)
}

impl MigrateArgs {
    /// Where both environments are, as paths of this machine.
    fn directories(&self) -> Result<(PathBuf, PathBuf), Error> {
        let above = self.host_workspace().join(environment::DIRECTORY);
        let directory = |id: &str| -> Result<PathBuf, Error> {
            let path = above.join(id.parse::<environment::Id>()?.as_str());
            if path.is_dir() { Ok(path) } else { Err(Error::NoDirectory { path }) }
        };
        Ok((directory(&self.old)?, directory(&self.new)?))
    }
}
