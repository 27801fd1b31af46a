//! `vast-sync`: arguments and printing.

mod args;
mod copy;
mod gc;
mod migrate;
mod output;
mod progress;
mod relocation;
mod status;
mod stop;
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
    let done: Result<(), Failure> = match &args.command {
        Command::Workspace(args) => workspace::run(args).map_err(Failure::from),
        Command::Environment(args) => relocation::environment(args),
        Command::Home(args) => relocation::home(args),
        Command::Gc(args) => gc::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Copy(args) => copy::run(args).map_err(Failure::from),
        Command::Status(args) => status::run(args).map_err(Failure::from),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(Failure::Error(error)) => fail(&error),
        Err(Failure::Told) => Exit::CouldNot,
    }
    .into()
}

/// Why a command failed.
enum Failure {
    /// It is still to be told.
    Error(Error),
    /// It was told with the rest.
    Told,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn fail(error: &Error) -> Exit {
    let exit = report::fail(PROGRAM, error, error.hint().as_deref());
    // Comparing worked; the answer is that the copy is not what it should be.
    if matches!(error, Error::Differs(_)) { Exit::No } else { exit }
}
