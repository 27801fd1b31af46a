//! `vast-envhash`, installed as `env-hash` too: the environment hash of this system or of another root.

mod args;
mod drift;
mod explain;
mod image;
mod stored;

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use vast_envhash::env_vars::SOURCE_DATE_EPOCH;
use vast_envhash::root::Root;
use vast_envhash::{Inventory, sbom};

use self::args::{Args, Command, Output, Plan, Source};
use self::image::ImageError;
use self::stored::{Stored, StoredError};
use crate::report::{self, Exit};

const PROGRAM: &str = "vast-envhash";

/// Where an image keeps its hash.
const STORED: &str = "/.env_hash";

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
        Err(error) => report::fail(PROGRAM, &*error, hint(&*error).as_deref()),
    }
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let of_library = error.downcast_ref::<vast_envhash::Error>().and_then(vast_envhash::Error::hint);
    let of_stored = || error.downcast_ref::<StoredError>().and_then(StoredError::hint);
    let of_image = || error.downcast_ref::<ImageError>().and_then(ImageError::hint);
    of_library.or_else(of_stored).or_else(of_image)
}

/// What is printed is complete before the first byte goes out: an error leaves standard output empty.
fn attempt(plan: &Plan) -> Result<Exit, Box<dyn Error>> {
    match &plan.command {
        Command::Take { source, output } => {
            let inventory = take(source)?;
            print(&match output {
                Output::Hash => format!("{}\n", inventory.hash),
                Output::Explain => explain::render(&inventory),
                Output::Json => serde_json::to_string_pretty(&inventory)? + "\n",
                Output::Bill(format) => sbom::render(&inventory, *format, stated_time()?) + "\n",
            })?;
            Ok(Exit::Success)
        }
        Command::Check { source, file, json } => {
            let inventory = take(source)?;
            let (file, stored) = match file {
                Some(file) => (file.clone(), Stored::read(file)?),
                None => (
                    source.root.join(STORED.trim_start_matches('/')),
                    Stored::read_inside(&Root::open(&source.root)?, Path::new(STORED))?,
                ),
            };
            check(&inventory, &file, &stored, *json)
        }
        Command::Diff { before, after, json } => {
            let me = std::env::current_exe().ok();
            let [before, after] = [before, after].map(|place| stored::inventory(place, me.as_deref()));
            let (before, after) = (before?, after?);
            let changes = vast_envhash::diff(&before, &after);
            if *json {
                let equal = changes.is_empty();
                print(&format!("{:#}\n", drift::report(equal, before.hash, after.hash, Some(&changes))))?;
            } else {
                print(&drift::lines(&changes))?;
            }
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

fn check(inventory: &Inventory, file: &Path, stored: &Stored, json: bool) -> Result<Exit, Box<dyn Error>> {
    let equal = stored.hash == inventory.hash;
    let changes = match &stored.inventory {
        _ if equal => Some(Vec::new()),
        Some(before) => Some(vast_envhash::diff(before, inventory)),
        None => None,
    };
    if json {
        print(&format!("{:#}\n", drift::report(equal, stored.hash, inventory.hash, changes.as_deref())))?;
    } else if !equal {
        let (file, before, after) = (file.display(), stored.hash, inventory.hash);
        let what = match &changes {
            Some(changes) => format!("{}\n{}", drift::summary(changes), drift::lines(changes)),
            None => "what changed is not known, for no inventory was stored beside the hash\n".into(),
        };
        print(&format!("{file} is {before}, this environment is {after}: {what}"))?;
        if changes.is_none() {
            eprintln!("  hint: `{PROGRAM} --json > {file}.json` stores the inventory, for the next time");
        }
    }
    Ok(if equal { Exit::Success } else { Exit::No })
}

/// What a bill of materials states as its time: `SOURCE_DATE_EPOCH`, else now.
fn stated_time() -> Result<Timestamp, Box<dyn Error>> {
    match std::env::var(SOURCE_DATE_EPOCH) {
        Ok(text) => {
            let seconds: Option<i64> = text.parse().ok();
            let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
            time.ok_or_else(|| format!("{SOURCE_DATE_EPOCH} is `{text}`, which is no number of seconds").into())
        }
        Err(_) => Ok(Timestamp::now()),
    }
}

/// Prints a text, its colours only where they are wanted.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader such as `head` that has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed.map_err(|error| format!("cannot print: {error}"))?),
    }
}
