//! `cargo xtask bench sync`: `vast-sync copy` beside the copiers it is measured against.
//!
//! Each column of the table is a target and a state of the caches. In each, every contender copies the same tree several
//! times, all of them in turn, so that what else the machine does meanwhile hits them alike. A run ends when `sync -f` of the target
//! has returned: what is still in memory is not copied yet. The bound is the same number of bytes written by `dd`.

mod column;
mod contender;
pub(super) mod source;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::measure;
use crate::Verdict;
use crate::dist;
use crate::process;
use crate::tools::{Group, Tool, Tools};
use crate::workspace::Workspace;
use column::{Caches, Column, Prepared};
use contender::Contender;
use source::Tree;
use table::Table;

/// The promised bound of the copier's memory, in bytes, whatever the tree.
const MEMORY_BYTES: u64 = 64_000_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each contender copies the tree in each column
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these columns, such as `ext4-warm`; all if none is named
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    only: Vec<Column>,
    /// Only these contenders; all if none is named
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// A tree to copy instead of a virtual environment with torch, which is installed for it
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Measure the binary of this profile, linked for this machine
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
}

/// Measures, and prints the table.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let chosen = |all: &[Contender]| -> Vec<Contender> {
        all.iter().copied().filter(|one| args.contenders.is_empty() || args.contenders.contains(one)).collect()
    };
    let columns: Vec<Column> =
        Column::ALL.into_iter().filter(|one| args.only.is_empty() || args.only.contains(one)).collect();
    let tools = Tools::of(workspace);
    tools.ensure(&[Group::Volumes], &[Tool::Uv])?;
    let programs = contender::Programs { our_binary: our_binary(workspace, args)?, xcp: contender::xcp(workspace)? };
    let folder = workspace.target("bench/sync");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let venv = match &args.source {
        Some(source) => source.canonicalize().with_context(|| format!("cannot find `{}`", source.display()))?,
        None => source::ready(workspace, &tools)?,
    };
    let (large, small) = (Tree::of(&venv)?, source::part(&venv)?);
    eprintln!("the tree: {large}");

    let (mut table, mut peak) = (Table::new(), 0);
    for column in columns {
        let tree = if column == Column::Latency { &small } else { &large };
        let target = column.prepare(workspace, &folder)?;
        let contenders = chosen(column.contenders());
        for number in 0..args.runs {
            for contender in &contenders {
                let (took, memory) = one_run(*contender, &programs, tree, column, &target)?;
                if *contender == Contender::VastSync {
                    peak = peak.max(memory);
                }
                eprintln!("{column} {contender} {}: {took:.2?}", number + 1);
                table.add(column, *contender, took);
            }
        }
    }
    println!("{large}; for the latency volume {small}.\n\n{table}");
    println!("Peak resident memory of `vast-sync copy`: {:.1} MB.", peak as f64 / 1e6);
    let mut fine = peak < MEMORY_BYTES;
    for shortfall in table.shortfalls() {
        eprintln!("{shortfall}");
        fine = false;
    }
    Ok(Verdict::when(fine))
}

fn our_binary(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    let Some(profile) = &args.profile else {
        return Ok(dist::binaries(workspace, &dist::Args::release())?.join("vast-sync"));
    };
    process::run(workspace.cargo().args([
        "build",
        "--package",
        "vast-cli",
        "--bin",
        "vast-sync",
        "--profile",
        profile,
    ]))?;
    Ok(workspace.target(if profile == "dev" { "debug" } else { profile }).join("vast-sync"))
}

/// Copies once into an empty folder of the target, and looks at whether the copy is whole. Returns what it took: time, and
/// memory in bytes.
fn one_run(
    contender: Contender,
    programs: &contender::Programs,
    tree: &Tree,
    column: Column,
    target: &Prepared,
) -> Result<(Duration, u64)> {
    let to = target.folder().join("copy");
    clear(&to)?;
    sync(target.folder())?;
    match column.caches() {
        Caches::Warm => tree.read()?,
        Caches::Dropped => drop_caches()?,
    }
    let mut command = contender.command(programs, tree, &to);
    let start = Instant::now();
    let measured = measure::measure(&mut command)?;
    sync(target.folder())?;
    let took = start.elapsed();
    if contender.copies() {
        let (copied, wanted) = (Tree::of(&to)?, tree);
        if (copied.entries, copied.bytes) != (wanted.entries, wanted.bytes) {
            bail!("`{}` copied {copied}, of {wanted}", process::describe(&command));
        }
    }
    clear(&to)?;
    Ok((took, measured.peak_resident_bytes))
}

fn clear(folder: &Path) -> Result<()> {
    process::run(Command::new("rm").arg("-rf").arg(folder))
}

/// Writes out the filesystem of `folder`, in the way that whoever waits for a copy would.
fn sync(folder: &Path) -> Result<()> {
    process::run(Command::new("sync").arg("-f").arg(folder))
}

fn drop_caches() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the caches; this needs root")
}
