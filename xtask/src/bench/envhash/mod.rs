//! `cargo xtask bench envhash`: `vast-envhash` beside the shell recipe, on a real environment.
//!
//! Both hash the same system in turn, so that what else the machine does meanwhile hits them alike, and have to print the
//! same hash. Every file that `vast-envhash` opens is counted and has to have a reason.

mod opened;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::measure::{self, Measured};
use super::sync::source;
use crate::Verdict;
use crate::dist;
use crate::process;
use crate::tools::{Group, Tool, Tools};
use crate::workspace::Workspace;

/// What is promised: how many times faster than the recipe, how long at most, in how much memory.
const WARM_RATIO: f64 = 40.0;
const COLD_RATIO: f64 = 5.0;
const WARM: Duration = Duration::from_millis(10);
const MEMORY_BYTES: u64 = 20_000_000;

/// The environment that the promises are about has at least so much in it.
const DISTRIBUTIONS: usize = 140;
const FILES: usize = 40_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each hashes with warm caches
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    warm: u32,
    /// How often each hashes after the caches were dropped
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    cold: u32,
    /// A binary to measure instead of the one for release, which is built for it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Measures, and prints the tables.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let tools = Tools::of(workspace);
    tools.ensure(&[Group::Services], &[Tool::Uv])?;
    let program = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("cannot find `{}`", binary.display()))?,
        None => dist::binaries(workspace, &dist::Args::release())?.join("vast-envhash"),
    };
    let recipe = workspace.root().join("crates/envhash/tests/recipe.sh");
    let venv = source::ready(workspace, &tools)?;
    let trace = workspace.target("bench/envhash-trace");
    stage::enter(&workspace.target("bench/envhash"), &venv)?;

    let contents = Contents::of()?;
    println!("{} distributions and {} files in the environment.\n", contents.distributions, contents.files);
    let (ours, theirs) = (printed(&program)?, printed(&recipe)?);
    if ours != theirs {
        bail!("`vast-envhash` prints {ours}, the recipe {theirs}");
    }
    let mut fine = contents.distributions >= DISTRIBUTIONS && contents.files >= FILES;

    println!("| caches | runs | `vast-envhash` | recipe | ratio | promised | peak resident |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let warm = in_turn(&program, &recipe, args.warm, || Ok(()))?;
    fine &= report("warm", args.warm, &warm, WARM_RATIO) && warm[0].wall < WARM;
    let cold = in_turn(&program, &recipe, args.cold, drop_caches)?;
    fine &= report("dropped", args.cold, &cold, COLD_RATIO);
    fine &= warm[0].peak_resident_bytes < MEMORY_BYTES;

    fine &= opened::report(&program, &trace, contents.distributions)?;
    Ok(Verdict::when(fine))
}

/// How much there is to hash.
struct Contents {
    distributions: usize,
    files: usize,
}

impl Contents {
    fn of() -> Result<Self> {
        let site = |name: &Path| name.extension().is_some_and(|suffix| suffix == "dist-info");
        let mut contents = Self { distributions: 0, files: 0 };
        for entry in walkdir::WalkDir::new(stage::VENV) {
            let entry = entry.context("cannot list the environment")?;
            contents.files += usize::from(entry.file_type().is_file());
            // lib/pythonX.Y/site-packages/NAME.dist-info
            contents.distributions += usize::from(entry.depth() == 4 && site(entry.path()));
        }
        Ok(contents)
    }
}

/// The medians of both and their highest peaks of memory, each of `runs` runs in turn, with `prepare` before each.
fn in_turn(program: &Path, recipe: &Path, runs: u32, prepare: fn() -> Result<()>) -> Result<[Measured; 2]> {
    let mut measured: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (one, command) in measured.iter_mut().zip([program, recipe]) {
            prepare()?;
            one.push(measure::measure(Command::new(command).stdout(Stdio::null()))?);
        }
    }
    Ok(measured.map(|mut runs| {
        runs.sort_by_key(|run| run.wall);
        let peak = runs.iter().map(|run| run.peak_resident_bytes).max().unwrap_or_default();
        Measured { peak_resident_bytes: peak, ..runs[runs.len() / 2] }
    }))
}

/// Prints a line of the table; whether the promised ratio is kept.
fn report(caches: &str, runs: u32, [ours, theirs]: &[Measured; 2], promised: f64) -> bool {
    let milliseconds = |measured: &Measured| measured.wall.as_secs_f64() * 1e3;
    let ratio = milliseconds(theirs) / milliseconds(ours);
    println!(
        "| {caches} | {runs} | {:.1} ms | {:.0} ms | {ratio:.0} | {promised:.0} | {:.1} MB |",
        milliseconds(ours),
        milliseconds(theirs),
        ours.peak_resident_bytes as f64 / 1e6,
    );
    ratio >= promised
}

fn printed(program: &Path) -> Result<String> {
    process::stdout(&mut Command::new(program))
}

fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the caches; this needs root")
}
