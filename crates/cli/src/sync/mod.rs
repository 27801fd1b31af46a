//! `vast-sync`: arguments and printing.

mod args;
mod copy;
mod output;
mod progress;
mod status;
mod workspace;

use std::process::ExitCode;

use args::{Args, Command};
use vast_sync::Error;

use crate::report::{self, Exit};

const PROGRAM: &str = "vast-sync";

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    let args: Args = match report::parse_args() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    let done = match &args.command {
        Command::Workspace(args) => workspace::run(args),
        Command::Copy(args) => copy::run(args),
        Command::Status(args) => status::run(args),
    };
    done.map_or_else(|error| fail(&error), |()| Exit::Success).into()
}

fn fail(error: &Error) -> Exit {
    let exit = report::fail(PROGRAM, error, error.hint().as_deref());
    // Comparing worked; the answer is that the copy is not what it should be.
    if matches!(error, Error::Differs(_)) { Exit::No } else { exit }
}
