//! `cargo xtask dist`: the binaries as they are shipped, checked to run on any image.

mod ahead;
mod needs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::Verdict;
use crate::process;
use crate::tools::{Group, Tool, Tools};
use crate::workspace::Workspace;

pub(crate) use ahead::Ahead;

/// The package of all binaries.
const PACKAGE: &str = "vast-cli";

/// The glibc that is linked against: that of the oldest images in use (DESIGN, rule 7).
const GLIBC: needs::Version = needs::Version { major: 2, minor: 28 };

/// What `vast-boot` has to stay below: every image has it, and every container starts with reading it.
const BOOT_BYTES: usize = 15_000_000;

/// Which binaries.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Copy the binaries of the development profile: fast to build, and good for this machine only
    #[arg(long, conflicts_with = "profile")]
    dev: bool,
    /// The profile to build with
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
    #[arg(skip)]
    scope: Scope,
}

/// What is compiled on the way to the binaries of the development profile.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Scope {
    /// The binaries alone.
    #[default]
    Binaries,
    /// The tests of the whole workspace too. They turn on features of shared dependencies, so that where they have
    /// been compiled, the binaries alone would be compiled a second time.
    Workspace,
}

impl Args {
    /// The shipped binaries.
    pub(crate) fn release() -> Self {
        Self { dev: false, profile: "release".to_owned(), scope: Scope::default() }
    }

    /// This machine's binaries.
    pub(crate) fn dev() -> Self {
        Self { dev: true, profile: "dev".to_owned(), scope: Scope::default() }
    }

    /// The same, compiled along with more.
    pub(crate) fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
}

/// Builds the binaries, puts them into `target/dist/bin` or `target/dist-dev/bin`, and checks what they need.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let start = Instant::now();
    let folder = binaries(workspace, args)?;
    let mut fine = true;
    for binary in files(&folder)? {
        let bytes = fs::read(&binary).with_context(|| format!("cannot read `{}`", binary.display()))?;
        let size = bytes.len() as f64 / 1e6;
        println!("{size:>6.1} MB  {}", workspace.show(&binary));
        // What was linked against this machine's own glibc is for this machine.
        if !args.dev {
            let needs = needs::read(&bytes).with_context(|| format!("cannot read `{}` as ELF", binary.display()))?;
            // Other profiles trade size for something else.
            let oversize = oversize(&binary, bytes.len()).filter(|_| args.profile == "release");
            for finding in needs::findings(&needs, GLIBC).into_iter().chain(oversize) {
                eprintln!("{}: {finding}", workspace.show(&binary));
                fine = false;
            }
        }
    }
    println!("{:>6.1} s", start.elapsed().as_secs_f64());
    Ok(Verdict::when(fine))
}

/// Builds the binaries and returns the folder that holds them, and nothing else.
pub(crate) fn binaries(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    let tools = Tools::of(workspace);
    if args.dev {
        tools.ensure(&[Group::Binutils], &[])?;
        let built = build_dev(workspace, args.scope)?;
        let folder = workspace.target("dist-dev/bin");
        publish(&built, &folder, |from, to| {
            // Debug information makes them ten times as large, and they are packed into images.
            process::run(Command::new("strip").arg("-o").args([to, from]))
        })?;
        return Ok(folder);
    }
    tools.ensure(&[], &[Tool::Zigbuild])?;
    process::run(&mut compilation(workspace, &tools, &args.profile)?)?;
    let built = workspace.target(target()).join(output_folder(&args.profile));
    let built: Vec<_> = names(workspace)?.iter().map(|name| built.join(name)).collect();
    let folder = workspace.target("dist/bin");
    publish(&built, &folder, |from, to| {
        fs::copy(from, to).with_context(|| format!("cannot copy `{}`", from.display())).map(drop)
    })?;
    Ok(folder)
}

/// The target's name in Cargo's words.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What compiles the shipped binaries.
fn compilation(workspace: &Workspace, tools: &Tools, profile: &str) -> Result<Command> {
    let mut command = tools.command(Tool::Zigbuild)?;
    command.current_dir(workspace.root()).args(["zigbuild", "--package", PACKAGE, "--bins"]);
    // zigbuild takes the glibc version as the end of the target's name.
    command.arg("--target").arg(format!("{}.{GLIBC}", target())).args(["--profile", profile]);
    Ok(command)
}

/// Builds the binaries with the development profile and returns their paths.
pub(crate) fn build_dev(workspace: &Workspace, scope: Scope) -> Result<Vec<PathBuf>> {
    let mut cargo = workspace.cargo();
    match scope {
        Scope::Binaries => cargo.args(["build", "--package", PACKAGE, "--bins"]),
        Scope::Workspace => cargo.args(["test", "--workspace", "--no-run", "--quiet"]),
    };
    process::run(&mut cargo)?;
    Ok(names(workspace)?.iter().map(|name| workspace.target("debug").join(name)).collect())
}

/// Where Cargo puts what it builds with a profile: the built-in development profile is the exception.
fn output_folder(profile: &str) -> &str {
    if profile == "dev" { "debug" } else { profile }
}

/// The names of the binaries, sorted.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let metadata =
        MetadataCommand::new().current_dir(workspace.root()).no_deps().exec().context("cannot read the manifests")?;
    let Some(package) = metadata.packages.iter().find(|package| package.name == PACKAGE) else {
        bail!("there is no package {PACKAGE}");
    };
    let mut names: Vec<_> =
        package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.clone()).collect();
    names.sort();
    Ok(names)
}

/// Replaces `folder` by one that holds `built`, each brought there by `bring`; never a mix of old and new.
fn publish(built: &[PathBuf], folder: &Path, bring: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
    let partial = folder.with_extension("partial");
    for old in [&partial, &folder.with_extension("old")] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove `{}`", old.display()))?;
        }
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create `{}`", partial.display()))?;
    for from in built {
        bring(from, &partial.join(from.file_name().unwrap_or_default()))?;
    }
    let old = folder.with_extension("old");
    if folder.exists() {
        fs::rename(folder, &old).with_context(|| format!("cannot move `{}` away", folder.display()))?;
    }
    fs::rename(&partial, folder).with_context(|| format!("cannot publish `{}`", folder.display()))?;
    if old.exists() {
        fs::remove_dir_all(&old).with_context(|| format!("cannot remove `{}`", old.display()))?;
    }
    Ok(())
}

/// Says so if a binary is larger than it may be.
fn oversize(binary: &Path, bytes: usize) -> Option<String> {
    let limited = binary.file_name().is_some_and(|name| name == "vast-boot");
    (limited && bytes >= BOOT_BYTES).then(|| format!("{bytes} bytes; it has to stay below {BOOT_BYTES}"))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vast_boot_has_a_size_to_stay_below() {
        for (binary, bytes, expected) in [
            ("bin/vast-boot", 14_999_999, None),
            ("bin/vast-boot", 15_000_000, Some("15000000 bytes; it has to stay below 15000000")),
            ("bin/vast-imagegen", 40_000_000, None),
        ] {
            assert_eq!(oversize(Path::new(binary), bytes).as_deref(), expected, "{binary}");
        }
    }

    #[test]
    fn a_published_folder_holds_the_new_binaries_and_no_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (built, bin) = (folder.path().join("built"), folder.path().join("dist/bin"));
        fs::create_dir_all(&built).unwrap();
        fs::create_dir_all(&bin).unwrap();
        fs::write(built.join("new"), "new").unwrap();
        fs::write(bin.join("old"), "old").unwrap();
        let copy = |from: &Path, to: &Path| Ok(fs::copy(from, to).map(drop)?);

        let failed = publish(&[built.join("new"), built.join("absent")], &bin, copy);
        assert!(failed.is_err());
        assert_eq!(files(&bin).unwrap(), [bin.join("old")]);

        publish(&[built.join("new")], &bin, copy).unwrap();
        assert_eq!(files(&bin).unwrap(), [bin.join("new")]);
        assert_eq!(fs::read_dir(folder.path().join("dist")).unwrap().count(), 1);
    }
}
