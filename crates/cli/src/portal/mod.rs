//! `vast-portal`: arguments and printing.

pub mod caddy;
pub mod config;
pub mod listed;
pub mod port;
pub mod serve;
pub mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{instance, report};

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
    Serve(serve::Args),
    Caddy(caddy::Args),
    Token(token::Args),
    Config(config::Args),
    Port(port::Args),
    Listed(listed::Args),
}

/// Parses the command line, does the work and maps the outcome to an exit code.
#[must_use]
pub fn run() -> ExitCode {
    let exit = report::parse_args::<Cli>().map(|cli| match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Caddy(args) => caddy::run(args),
        Command::Token(args) => token::run(args),
        Command::Config(args) => config::run(args),
        Command::Port(args) => port::run(args),
        Command::Listed(args) => listed::run(args),
    });
    exit.unwrap_or_else(|exit| exit).into()
}

/// Prints an error of the portal with its hint.
fn fail(error: &vast_portal::Error) -> report::Exit {
    report::fail(PROGRAM, error, error.hint().as_deref())
}
