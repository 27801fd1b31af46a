//! `cargo xtask test`: every check of the project, in one command.
//!
//! A step ([`steps`]) is one check or one run of tests. Steps run in their order, cheap ones first, and all of them
//! run even if one fails, so that one run shows everything; the report ([`report`]) ends with one line of counts.

mod counts;
mod report;
mod shell;
mod sizes;
mod steps;

use std::time::Instant;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::Verdict;
use crate::dist::{Ahead, Scope};
use crate::tools::Tools;
use crate::workspace::Workspace;
use counts::Counts;
use report::Line;
use steps::{STEPS, Step};

/// Which steps to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run this step only; may be given several times
    #[arg(long, value_name = "STEP", value_parser = names())]
    only: Vec<String>,
    /// Leave this step out; may be given several times
    #[arg(long, value_name = "STEP", value_parser = names())]
    skip: Vec<String>,
    /// Stop after the first step that fails
    #[arg(long)]
    fail_fast: bool,
    /// Print the steps and do nothing
    #[arg(long)]
    list: bool,
}

fn names() -> PossibleValuesParser {
    STEPS.iter().map(|step| step.name).collect::<Vec<_>>().into()
}

/// What the steps work with.
pub(crate) struct Context<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) tools: &'a Tools,
    /// What the steps before have compiled.
    pub(crate) scope: Scope,
}

/// Runs the chosen steps and prints the report.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Verdict> {
    let chosen = chosen(args);
    if args.list {
        for step in chosen {
            println!("{:<12} {}", step.name, step.about);
        }
        return Ok(Verdict::Yes);
    }
    let tools = Tools::of(workspace);
    let groups: Vec<_> = chosen.iter().flat_map(|step| step.groups).copied().collect();
    let programs: Vec<_> = chosen.iter().flat_map(|step| step.tools).copied().collect();
    tools.ensure(&groups, &programs)?;

    let comes = |name| chosen.iter().any(|step| step.name == name);
    let scope = if comes(steps::TESTS) { Scope::Workspace } else { Scope::Binaries };
    let context = Context { workspace, tools: &tools, scope };
    let mut lines = Vec::new();
    let mut ahead = None;
    for step in &chosen {
        // Tests wait for more than half of their time, and to compile is nothing but work.
        if step.name == steps::TESTS && comes(steps::DIST) {
            ahead = Some(Ahead::begin(workspace, &tools)?);
        }
        eprintln!("\n== {}: {}", step.name, step.about);
        let start = Instant::now();
        let counts = (step.run)(&context).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", step.name);
            Counts::gate(false)
        });
        lines.push(Line { step: step.name, counts, duration: start.elapsed() });
        if args.fail_fast && counts.failed > 0 {
            break;
        }
    }
    drop(ahead);
    print!("\n{}", report::render(&lines));
    Ok(Verdict::when(lines.iter().all(|line| line.counts.failed == 0)))
}

fn chosen(args: &Args) -> Vec<&'static Step> {
    let named = |names: &[String], step: &Step| names.iter().any(|name| name == step.name);
    STEPS
        .iter()
        .filter(|step| args.only.is_empty() || named(&args.only, step))
        .filter(|step| !named(&args.skip, step))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_and_skip_choose_steps_and_keep_their_order() {
        let choose = |only: &[&str], skip: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let args = Args { only: owned(only), skip: owned(skip), fail_fast: false, list: false };
            chosen(&args).iter().map(|step| step.name).collect::<Vec<_>>()
        };
        assert_eq!(choose(&["clippy", "format"], &[]), ["format", "clippy"]);
        assert_eq!(choose(&["clippy", "format"], &["format"]), ["clippy"]);
        assert_eq!(choose(&[], &["end-to-end"]).len(), STEPS.len() - 1);
    }
}
