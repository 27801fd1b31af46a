//! `vast-sync`: arguments and printing.

use std::process::ExitCode;

use crate::report::Exit;

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    Exit::CouldNot.into()
}
