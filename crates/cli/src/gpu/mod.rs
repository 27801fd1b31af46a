//! `vast-gpu`: arguments and printing.

mod ask;
mod check;
mod plan;
mod probe;
mod torch_backend;
mod version;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vast_gpu::cuda::{Facts, gather};
use vast_gpu::runner::ChildProcess;

use crate::report::{self, Exit};

/// The name in front of every message.
const PROGRAM: &str = "vast-gpu";

/// GPUs, their driver and the CUDA toolkits of this container.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Probe(probe::Args),
    Plan(plan::PlanArgs),
    Apply(plan::ApplyArgs),
    TorchBackend(torch_backend::Args),
    Check(check::Args),
    #[command(name = vast_gpu::driver::SUBCOMMAND, hide = true)]
    Ask(ask::Args),
}

/// Parses the command line, does the work and maps the outcome to an exit code. Called as `cuda-driver-version`, it is that command.
#[must_use]
pub fn run() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == version::NAME) {
        return report::parse_args::<version::Args>().map_or_else(|exit| exit, |args| version::run(&args)).into();
    }
    let exit = report::parse_args::<Cli>().map(|cli| match &cli.command {
        Command::Probe(args) => probe::run(args),
        Command::Plan(args) => plan::plan(args),
        Command::Apply(args) => plan::apply(args),
        Command::TorchBackend(args) => torch_backend::run(args),
        Command::Check(args) => check::run(args),
        Command::Ask(args) => ask::run(args),
    });
    exit.unwrap_or_else(|exit| exit).into()
}

/// What asks the driver: this program, in a process of its own.
fn runner() -> Result<ChildProcess, Exit> {
    ChildProcess::beside_this_program().map_err(|error| report::fail(PROGRAM, &error, None))
}

/// The facts about CUDA under `root`.
fn facts(root: &Path, env: &BTreeMap<String, String>) -> Result<Facts, Exit> {
    gather(root, env, &runner()?).map_err(|error| fail(&error))
}

fn fail(error: &vast_gpu::Error) -> Exit {
    report::fail(PROGRAM, error, error.hint().as_deref())
}

/// The exit code of a command that may end early.
fn end(exit: Result<Exit, Exit>) -> Exit {
    exit.unwrap_or_else(|exit| exit)
}

/// Prints data as one line of JSON.
fn print_json(data: &impl serde::Serialize) -> Exit {
    match serde_json::to_string(data) {
        Ok(json) => {
            println!("{json}");
            Exit::Success
        }
        Err(error) => report::fail(PROGRAM, &error, None),
    }
}
