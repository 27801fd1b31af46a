//! `vast-imagegen`: arguments and printing.

mod build;
mod session;

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
    };
    done.unwrap_or_else(|error| fail(&error)).into()
}

fn fail(error: &Error) -> Exit {
    report::fail(PROGRAM, error, error.hint().as_deref())
}
