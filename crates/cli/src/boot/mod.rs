//! `vast-boot`: arguments and printing.
//!
//! The binary also answers to the names by which scripts call parts of it (`cert-usable`, `propagate_ssh_keys.sh`, `venv-backup.sh`).

mod args;
mod cert;
mod console;
mod doctor;
mod plan;
mod run;
mod status;
mod tools;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use args::Command;
use vast_boot::error::Error;

use crate::report::{self, Exit};

/// The name in messages.
const PROGRAM: &str = "vast-boot";

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("cert-usable") => with_root("cert-usable", &arguments, |root| cert::check(&root)),
        Some("propagate_ssh_keys.sh") => {
            with_root("propagate_ssh_keys.sh", &arguments, |root| tools::propagate_ssh_keys(&root))
        }
        Some("venv-backup.sh") => with_root("venv-backup.sh", &arguments, |root| tools::back_up_venvs(&root)),
        _ => dispatch(&arguments),
    }
}

fn dispatch(arguments: &[OsString]) -> ExitCode {
    match args::parse(arguments) {
        Err(exit) => exit.into(),
        Ok(Command::Run(_)) => run::supervise(arguments),
        Ok(Command::Sequence(order)) => run::sequence(order),
        Ok(Command::Plan { root, json }) => plan::print(&root.into(), json),
        Ok(Command::Status { root, json }) => status::print(&root.into(), json),
        Ok(Command::Doctor { root, json, bundle }) => doctor::run(&root.into(), json, bundle.as_deref()),
        Ok(Command::CertCheck { root }) => cert::check(&root.into()),
    }
}

/// The tools take `--root DIR` and nothing else.
fn with_root(
    name: &'static str,
    arguments: &[OsString],
    work: impl FnOnce(vast_boot::root::Root) -> ExitCode,
) -> ExitCode {
    match args::parse_root(name, arguments) {
        Ok(root) => work(root.into()),
        Err(exit) => exit.into(),
    }
}

/// Prints an error with its hint.
fn fail(error: &Error) -> ExitCode {
    report::fail(PROGRAM, error, error.hint().as_deref()).into()
}

/// Prints one value as JSON.
fn print_json(value: &impl serde::Serialize) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let written =
        serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from).and_then(|()| writeln!(out));
    match written {
        // Whoever closed the pipe has read enough.
        Ok(()) => Exit::Success.into(),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => report::fail(PROGRAM, &error, None).into(),
    }
}
