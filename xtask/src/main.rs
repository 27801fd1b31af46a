//! `cargo xtask`: the project's own commands.
//!
//! One module per command. Each has its arguments as `Args` and a `run` that says whether the answer is yes
//! ([`Verdict`]) or could not be found (an error): exit codes 0, 1 and 2, as in every binary of this project.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line tool does")]

mod arrows;
mod bench;
mod demo;
mod dist;
mod generate;
mod process;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, publish and boot an image, and show where its pages answer
    Demo(demo::Args),
    /// Run every check of the project
    Test(test::Args),
    /// Measure what the documentation states
    Bench(bench::Args),
    /// Write the generated reference pages
    Gen(generate::Args),
    /// Check that crates depend on each other only along the arrows of the design
    Arrows(arrows::Args),
    /// Build the binaries as they are shipped
    Dist(dist::Args),
}

/// The answer of a command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Done, or nothing to object to.
    Yes,
    /// The work showed a fault; it has been printed.
    No,
}

impl Verdict {
    /// [`Verdict::Yes`] when `fine`.
    fn when(fine: bool) -> Self {
        if fine { Self::Yes } else { Self::No }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let verdict = Workspace::discover().and_then(|workspace| match arguments.command {
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Gen(args) => generate::run(&workspace, &args),
        Command::Arrows(args) => arrows::run(&workspace, &args),
        Command::Dist(args) => dist::run(&workspace, &args),
    });
    match verdict {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
