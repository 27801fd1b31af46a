//! `cargo xtask bench boot`: a boot with nothing to do, beside the same checks as plain shell scripts.
//!
//! Both boot a root of their own, in turn, with supervisord replaced by `true`, so that what else the machine does hits them alike. What
//! each stage takes is what the journal says.

mod stages;
mod system;
mod tree;
mod waiting;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::measure;
use super::namespace;
use crate::Verdict;
use crate::dist;
use crate::tools::{Group, Tools};
use crate::workspace::Workspace;
use stages::Stages;
use system::{Kind, System};

/// What is promised: the whole boot's time, the binary's size, and the memory of both of its processes while they wait.
const BOOT: Duration = Duration::from_millis(50);
const BINARY_BYTES: u64 = 15_000_000;
const WAITING_BYTES: u64 = 10_000_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each boots
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The entries of the workspace
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..))]
    entries: u32,
    /// Measure the binaries of the development profile
    #[arg(long)]
    dev: bool,
    /// A folder of binaries to measure instead of those for release, which are built for it
    #[arg(long, value_name = "FOLDER", conflicts_with = "dev")]
    binaries: Option<PathBuf>,
}

/// Measures, and prints the tables.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    Tools::of(workspace).ensure(&[Group::Services, Group::Python], &[])?;
    let binaries = match &args.binaries {
        Some(folder) => folder.canonicalize().with_context(|| format!("cannot find `{}`", folder.display()))?,
        None => dist::binaries(workspace, &if args.dev { dist::Args::dev() } else { dist::Args::release() })?,
    };
    let tree = tree::tree(&workspace.target("bench"), args.entries)?;
    let folder = workspace.target("bench/boot");
    namespace::enter(&folder)?;
    let reference = workspace.path("xtask/src/bench/boot/reference");
    let supervisor = workspace.path("images/base/ROOT/etc/supervisor");
    let ours = System::lay_out(&folder.join("ours"), Kind::VastBoot(&binaries), &tree, &supervisor)?;
    let theirs = System::lay_out(&folder.join("shell"), Kind::Shell(&reference), &tree, &supervisor)?;

    // The first boots put everything in its place; the last of them finds nothing to do.
    for system in [&ours, &theirs] {
        system.settle(|| drop_output(&mut system.boot()))?;
    }
    let (mut boots, mut shells, mut stages) = (Vec::new(), Vec::new(), Stages::default());
    for _ in 0..args.runs {
        boots.push(drop_output(&mut ours.boot())?);
        stages.add(&ours.record()?)?;
        shells.push(drop_output(&mut theirs.boot())?);
    }
    stages.print();

    let (boot, shell) = (median(&mut boots), median(&mut shells));
    println!(
        "\n| a boot with nothing to do, {} entries in the workspace | median of {} | limit |",
        tree.entries, args.runs
    );
    println!("|---|--:|--:|");
    println!("| `vast-boot`, from its start to its end | {} | {} |", milliseconds(boot), milliseconds(BOOT));
    println!("| of that: all stages | {} | |", milliseconds(stages.sum()));
    println!("| the same checks in shell | {} | |", milliseconds(shell));
    println!("| ratio | {:.1} | |", shell.as_secs_f64() / boot.as_secs_f64());
    let mut fine = kept("the boot", boot <= BOOT);

    let waiting = waiting::measure(&ours)?;
    let size = fs::metadata(binaries.join("vast-boot")).context("cannot look at `vast-boot`")?.len();
    println!("\n| `vast-boot` | | limit |");
    println!("|---|--:|--:|");
    println!(
        "| resident while it waits, both processes | {} | {} |",
        megabytes(waiting.sum()),
        megabytes(WAITING_BYTES)
    );
    println!(
        "| of that: the first process, the sequence | {}, {} | |",
        megabytes(waiting.first),
        megabytes(waiting.sequence)
    );
    println!("| of it: not shared with other processes | {} | |", megabytes(waiting.private));
    println!("| size | {} | {} |", megabytes(size), megabytes(BINARY_BYTES));
    fine &= kept("the memory while it waits", waiting.sum() <= WAITING_BYTES);
    fine &= kept("the size of the binary", size <= BINARY_BYTES);
    Ok(Verdict::when(fine))
}

/// Says what missed its limit.
fn kept(what: &str, kept: bool) -> bool {
    if !kept {
        eprintln!("{what} misses its limit");
    }
    kept
}

fn drop_output(command: &mut Command) -> Result<Duration> {
    Ok(measure::measure(command.stdin(Stdio::null()).stdout(Stdio::null()))?.wall)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
