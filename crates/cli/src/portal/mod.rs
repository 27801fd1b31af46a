//! `vast-portal`: arguments and printing.

pub mod config;
mod instance;
pub mod listed;
pub mod port;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report;

/// The name in front of every message.
const PROGRAM: &str = "vast-portal";

/// The Instance Portal: its applications, proxy and web page.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Config(config::Args),
    Port(port::Args),
    Listed(listed::Args),
}

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    let exit = report::parse_args::<Cli>().map(|cli| match &cli.command {
        Command::Config(args) => config::run(args),
        Command::Port(args) => port::run(args),
        Command::Listed(args) => listed::run(args),
    });
    exit.unwrap_or_else(|exit| exit).into()
}
