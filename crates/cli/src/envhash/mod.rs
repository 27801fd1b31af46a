//! `vast-envhash`, installed as `env-hash` too: the environment hash of this system or of another root.

mod args;
mod explain;
mod stored;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vast_envhash::{Change, Inventory};

use self::args::{Args, Command, Output, Plan, Source};
use self::stored::Stored;
use crate::report::{self, Exit};

const PROGRAM: &str = "vast-envhash";

/// Runs `vast-envhash`.
#[must_use]
pub fn run() -> ExitCode {
    let exit = match report::parse_args::<Args>() {
        Ok(args) => execute(&args.plan(std::env::var_os("HOME").map(PathBuf::from))),
        Err(exit) => exit,
    };
    exit.into()
}

fn execute(plan: &Plan) -> Exit {
    match attempt(plan) {
        Ok(exit) => exit,
        Err(error) => {
            let hint = error.downcast_ref::<vast_envhash::Error>().and_then(vast_envhash::Error::hint);
            report::fail(PROGRAM, &*error, hint.as_deref())
        }
    }
}

/// What is printed is complete before the first byte goes out: an error leaves standard output empty.
fn attempt(plan: &Plan) -> Result<Exit, Box<dyn Error>> {
    match &plan.command {
        Command::Take { source, output } => {
            let inventory = take(source)?;
            match output {
                Output::Hash => print(&format!("{}\n", inventory.hash)),
                Output::Explain => print(&explain::render(&inventory)),
                Output::Json => print(&(serde_json::to_string_pretty(&inventory)? + "\n")),
            }
        }
        Command::Check { source, file } => check(&take(source)?, file),
        Command::Diff { before, after } => {
            let changes = vast_envhash::diff(&stored::inventory(before)?, &stored::inventory(after)?);
            print(&lines(&changes))?;
            Ok(if changes.is_empty() { Exit::Success } else { Exit::No })
        }
    }
}

fn take(source: &Source) -> Result<Inventory, vast_envhash::Error> {
    let inventory = vast_envhash::hash(&source.root, &source.options)?;
    for note in &inventory.notes {
        eprintln!("{PROGRAM}: warning: {note}");
    }
    Ok(inventory)
}

fn check(inventory: &Inventory, file: &Path) -> Result<Exit, Box<dyn Error>> {
    let stored = Stored::read(file)?;
    if stored.hash == inventory.hash {
        return Ok(Exit::Success);
    }
    let mut text = format!("{} is {}, this environment is {}\n", file.display(), stored.hash, inventory.hash);
    if let Some(before) = &stored.inventory {
        text += &lines(&vast_envhash::diff(before, inventory));
    }
    print(&text)?;
    Ok(Exit::No)
}

fn lines(changes: &[Change]) -> String {
    let mut lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    lines.push(String::new());
    lines.join("\n")
}

fn print(text: &str) -> Result<Exit, Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("cannot print: {error}"))?;
    Ok(Exit::Success)
}
