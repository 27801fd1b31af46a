//! The command line.
//!
//! Deployed images pass anything to their entrypoint, so `run` is what happens without a subcommand, and its flags are the entrypoint's:
//! an unknown one is a warning. Everything else is strict.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vast_boot::root::Root;
use vast_boot::sequence::Selection;

use crate::report::Exit;

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Run(Order),
    Sequence(Order),
    Plan { root: RootArg, json: bool },
    Status { root: RootArg, json: bool },
    Doctor { root: RootArg, json: bool, bundle: Option<PathBuf> },
    CertCheck { root: RootArg },
}

/// A boot to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) root: RootArg,
    pub(super) selection: Selection,
    /// The entrypoint's arguments, as they came.
    pub(super) flags: Vec<OsString>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct RootArg {
    /// Work on this tree in place of `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl From<RootArg> for Root {
    fn from(argument: RootArg) -> Self {
        Self::new(argument.root)
    }
}

/// Boots a Vast.ai container, and tells what a boot does and did
#[derive(Debug, Parser)]
#[command(name = "vast-boot", version)]
struct Typed {
    #[command(subcommand)]
    command: TypedCommand,
}

#[derive(Debug, Subcommand)]
enum TypedCommand {
    /// Run the boot sequence (what happens without a subcommand)
    #[command(after_help = FLAGS)]
    Run(RunArgs),
    /// Run the boot sequence without a first process above it
    #[command(hide = true)]
    Sequence(RunArgs),
    /// Print the merged sequence, and why each stage is in it, without running anything
    Plan {
        #[command(flatten)]
        root: RootArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what the last boot did
    Status {
        #[command(flatten)]
        root: RootArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for what is wrong with the running instance, and say what to do about it
    ///
    /// Exits 0 when the instance is healthy, 1 when there is something to do, 2 when nothing was found but not everything could be
    /// looked at, or when the archive could not be written. Looks and changes nothing; shows no secrets.
    Doctor {
        #[command(flatten)]
        root: RootArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Also write an archive for support (.tar.gz, for its owner alone): the report, logs, configuration and environment, without
        /// secrets
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Ask about the instance's certificate
    Cert {
        #[command(subcommand)]
        command: TypedCert,
    },
}

#[derive(Debug, Subcommand)]
enum TypedCert {
    /// Exit 0 when the pair is usable, 3 when it is expired, 1 when it is not usable
    Check {
        #[command(flatten)]
        root: RootArg,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    root: RootArg,
    /// Run only these stages (name, or number)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these stages out (name, or number)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    skip: Vec<String>,
}

#[derive(Debug, Parser)]
struct Tool {
    #[command(flatten)]
    root: RootArg,
}

const FLAGS: &str = "\
Flags of the entrypoint:
  --no-user-keys        do not copy root's SSH keys to the users
  --no-export-env       write /etc/environment, but do not load it
  --no-cert-gen         make no certificate
  --no-activate-pyenv   do not activate the venv in login shells
  --no-forward-compat   do not try CUDA forward compatibility
  --sync-environment    move the environments to the volume
  --sync-home           move the home directories to the volume
  --jupyter-override    run the image's Jupyter although the platform runs one
  --no-force-jupyter    do not add Jupyter to the portal
  --no-update-portal, --no-update-vast   accepted; nothing updates itself here
An unknown flag is a warning.";

/// Takes a command line (without the program's name) apart.
///
/// # Errors
/// The exit code, after the message was printed.
pub(super) fn parse(arguments: &[OsString]) -> Result<Command, Exit> {
    let first = arguments.first().and_then(|first| first.to_str());
    let known = ["plan", "status", "doctor", "cert", "help", "--help", "-h", "--version", "-V"];
    let (name, rest) = match first {
        Some(first) if known.contains(&first) => return Ok(meaning(typed(arguments)?, Vec::new())),
        Some(name @ ("run" | "sequence")) => (name, arguments.get(1..).unwrap_or_default()),
        _ => ("run", arguments),
    };
    let (ours, flags) = split(rest);
    let ours: Vec<OsString> = std::iter::once(name.into()).chain(ours).collect();
    Ok(meaning(typed(&ours)?, flags))
}

/// Takes the command line of a tool apart.
///
/// # Errors
/// The exit code, after the message was printed.
pub(super) fn parse_root(name: &'static str, arguments: &[OsString]) -> Result<RootArg, Exit> {
    let command = <Tool as clap::CommandFactory>::command().name(name);
    let line = std::iter::once(OsString::from(name)).chain(arguments.iter().cloned());
    let matches = command.try_get_matches_from(line).map_err(|error| refused(&error))?;
    <RootArg as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| refused(&error))
}

fn typed(arguments: &[OsString]) -> Result<TypedCommand, Exit> {
    let line = std::iter::once(OsString::from("vast-boot")).chain(arguments.iter().cloned());
    Typed::try_parse_from(line).map(|typed| typed.command).map_err(|error| refused(&error))
}

fn refused(error: &clap::Error) -> Exit {
    // A closed standard output or error leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

fn meaning(typed: TypedCommand, flags: Vec<OsString>) -> Command {
    let order = |RunArgs { root, only, skip }| Order { root, selection: Selection { only, skip }, flags };
    match typed {
        TypedCommand::Run(arguments) => Command::Run(order(arguments)),
        TypedCommand::Sequence(arguments) => Command::Sequence(order(arguments)),
        TypedCommand::Plan { root, json } => Command::Plan { root, json },
        TypedCommand::Status { root, json } => Command::Status { root, json },
        TypedCommand::Doctor { root, json, bundle } => Command::Doctor { root, json, bundle },
        TypedCommand::Cert { command: TypedCert::Check { root } } => Command::CertCheck { root },
    }
}

/// Tells our own options, which must be right, from the entrypoint's arguments, which may be anything.
fn split(arguments: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let (mut ours, mut flags) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let (name, has_value) = text.split_once('=').map_or((&*text, false), |(name, _)| (name, true));
        match name {
            "--root" | "--only" | "--skip" => {
                ours.push(argument.clone());
                if !has_value {
                    ours.extend(rest.next().cloned());
                }
            }
            "--help" | "-h" if !has_value => ours.push(argument.clone()),
            _ => flags.push(argument.clone()),
        }
    }
    (ours, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&arguments).unwrap()
    }

    fn order(root: &str, only: &[&str], skip: &[&str], flags: &[&str]) -> Order {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Order {
            root: RootArg { root: root.into() },
            selection: Selection { only: owned(only), skip: owned(skip) },
            flags: flags.iter().map(OsString::from).collect(),
        }
    }

    #[test]
    fn whatever_an_image_passes_is_a_boot() {
        for (line, expected) in [
            ("", order("/", &[], &[], &[])),
            ("run", order("/", &[], &[], &[])),
            ("--sync-home --frobnicate", order("/", &[], &[], &["--sync-home", "--frobnicate"])),
            ("--sync-home --only 10,11 --skip=75 x", order("/", &["10", "11"], &["75"], &["--sync-home", "x"])),
            ("run --root /r bash -c true", order("/r", &[], &[], &["bash", "-c", "true"])),
        ] {
            assert_eq!(parsed(line), Command::Run(expected), "{line}");
        }
    }

    #[test]
    fn questions_are_strict() {
        assert_eq!(parsed("plan --json"), Command::Plan { root: RootArg { root: "/".into() }, json: true });
        assert_eq!(parsed("cert check --root /r"), Command::CertCheck { root: RootArg { root: "/r".into() } });
        for line in ["plan --frobnicate", "status x", "doctor x", "doctor --bundle", "cert", "run --root"] {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(parse(&arguments).unwrap_err(), Exit::Usage, "{line}");
        }
    }
}
