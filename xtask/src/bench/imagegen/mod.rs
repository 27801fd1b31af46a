//! `cargo xtask bench imagegen`: building, copying, extending and rebasing beside the public tools that do the same.
//!
//! Images are made of a real environment and lie in a real registry on loopback. In each task every contender does the same work
//! several times, all of them in turn, so that what else the machine does meanwhile hits them alike.

mod contender;
mod figures;
mod scene;

use std::path::PathBuf;

use anyhow::Result;

use super::measure;
use crate::Verdict;
use crate::dist;
use crate::tools::{Group, Tool, Tools};
use crate::workspace::Workspace;
use contender::{Contender, Task};
use figures::{Figures, Run};
use scene::Scene;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each contender does each task
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these tasks, such as `extend`; all if none is named
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    only: Vec<Task>,
    /// A `vast-imagegen` to measure instead of the one for release, which is built for it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Measures, and prints the table.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let tools = Tools::of(workspace);
    tools.ensure(&[Group::Services, Group::Compressors], &[Tool::Uv])?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize()?,
        None => dist::binaries(workspace, &dist::Args::release())?.join("vast-imagegen"),
    };
    let venv = super::sync::source::ready(workspace, &tools)?;
    let scene = Scene::new(workspace, binary, &venv)?;
    eprintln!("{scene}");

    let tasks = Task::ALL.into_iter().filter(|task| args.only.is_empty() || args.only.contains(task));
    let mut figures = Figures::default();
    for task in tasks {
        for number in 1..=args.runs {
            for contender in task.contenders() {
                let run = one_run(task, *contender, number, &scene)?;
                eprintln!("{task}, {contender} {number}: {:.2?}", run.took);
                figures.add(task, *contender, run);
            }
        }
    }
    println!("{scene}\n\n{figures}");
    let shortfalls = figures.shortfalls();
    for shortfall in &shortfalls {
        eprintln!("{shortfall}");
    }
    Ok(Verdict::when(shortfalls.is_empty()))
}

fn one_run(task: Task, contender: Contender, number: u32, scene: &Scene) -> Result<Run> {
    scene.prepare(number)?;
    let measured = measure::measure(&mut contender.command(task, number, scene))?;
    let bytes = contender::output_bytes(task, scene)?;
    scene.clear()?;
    Ok(Run { took: measured.wall, peak_resident_bytes: measured.peak_resident_bytes, bytes })
}
