//! `vast-imagegen`: arguments and printing.

mod build;
mod copy;
mod diff;
mod environment;
mod extend;
mod inspect;
mod merge;
mod progress;
mod promote;
mod published;
mod rebase;
mod rollback;
mod session;
mod stamp;
mod text;
mod transport;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vast_imagegen::Error;

use crate::report::{self, Exit};

const PROGRAM: &str = "vast-imagegen";

/// Builds, publishes, inspects and verifies images of the family.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image's folder and publish the result.
    Build(Box<build::Args>),
    /// Copy an image, every platform of it, and name it last.
    Copy(copy::Args),
    /// Compare two images in layers, files, packages and configuration, without pulling them; exit 1 if they differ.
    Diff(Box<diff::Args>),
    /// Print the inventory behind an image's environment hash as JSON, without pulling it.
    Environment(environment::Args),
    /// Put a folder on top of a published image, for every platform of it, without pulling it.
    Extend(Box<extend::Args>),
    /// Show an image's platforms, layers, history and configuration, without reading layers.
    Inspect(inspect::Args),
    /// Make one multi-platform image of several images, without pulling them.
    Merge(merge::Args),
    /// Give an image that was tested its names for production, all at once when everything is there.
    Promote(promote::Args),
    /// Put images on another version of their base, without rebuilding them; exit 1 where that cannot be proven to be right.
    Rebase(Box<rebase::Args>),
    /// Put a tag back to what it named before.
    Rollback(rollback::Args),
    /// Check that an image is what it claims to be and what the guide asks for; exit 1 if not.
    Verify(verify::Args),
}

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    let args: Args = match report::parse_args() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    let done = match &args.command {
        Command::Build(args) => build::run(args),
        Command::Copy(args) => copy::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Environment(args) => environment::run(args),
        Command::Extend(args) => extend::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Promote(args) => promote::run(args),
        Command::Rebase(args) => rebase::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Verify(args) => verify::run(args),
    };
    done.unwrap_or_else(|error| fail(&error)).into()
}

fn fail(error: &Error) -> Exit {
    report::fail(PROGRAM, error, error.hint().as_deref())
}
