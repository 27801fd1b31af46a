//! `vast-gpu plan` and `apply`: the CUDA set-up of boot stage 05.

use serde::Serialize;
use vast_gpu::cuda::{Change, Choice, Environment, Patience, Plan, configure, prepare};

use super::{PROGRAM, end, fail, print_json, runner};
use crate::instance::{Root, environment};
use crate::report::Exit;

/// Show which CUDA toolkit the next boot will use, and what it will change for it
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    root: Root,
}

/// Set up the CUDA toolkit that fits the driver, as boot does
///
/// Exits with 1 if CUDA cannot be what it should be; /run/vast-cuda-config-failed then says why.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    root: Root,
}

/// A plan and what it does to the environment, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    plan: Plan,
    environment: Environment,
}

pub(super) fn plan(args: &PlanArgs) -> Exit {
    end(try_plan(args))
}

fn try_plan(args: &PlanArgs) -> Result<Exit, Exit> {
    let env = environment();
    let plan = prepare(&args.root.root, &env, &runner()?, Patience::default()).map_err(|error| fail(&error))?;
    let shown = Shown { environment: plan.environment(&env), plan };
    if args.json {
        return Ok(print_json(&shown));
    }
    println!("{}", describe(shown.plan.choice));
    for change in &shown.plan.changes {
        println!("  {}", describe_change(change));
    }
    for (name, value) in &shown.environment.set {
        println!("  set {name}={value}");
    }
    for name in &shown.environment.unset {
        println!("  unset {name}");
    }
    if shown.plan.ldconfig {
        println!("  run ldconfig");
    }
    tell(&shown.plan);
    Ok(Exit::Success)
}

pub(super) fn apply(args: &ApplyArgs) -> Exit {
    end(try_apply(args))
}

fn try_apply(args: &ApplyArgs) -> Result<Exit, Exit> {
    let plan =
        configure(&args.root.root, &environment(), &runner()?, Patience::default()).map_err(|error| fail(&error))?;
    println!("{}", describe(plan.choice));
    tell(&plan);
    Ok(if plan.failure.is_some() { Exit::No } else { Exit::Success })
}

fn tell(plan: &Plan) {
    for message in plan.messages.iter().chain(&plan.failure) {
        eprintln!("{PROGRAM}: {message}");
    }
}

fn describe(choice: Choice) -> String {
    match choice {
        Choice::NoDriver => "no NVIDIA driver: nothing to set up".to_owned(),
        Choice::NoToolkit => "no CUDA toolkit is installed: nothing to choose".to_owned(),
        Choice::Keep => "CUDA stays as it is".to_owned(),
        Choice::ForwardCompat(version) => format!("CUDA {version}, with its forward-compatibility libraries"),
        Choice::Native(version) => format!("CUDA {version}"),
        Choice::MinorVersion(version) => format!("CUDA {version}, by minor-version compatibility"),
    }
}

fn describe_change(change: &Change) -> String {
    match change {
        Change::Write { path, .. } => format!("write {}", path.display()),
        Change::Remove { path } => format!("remove {}", path.display()),
        Change::Link { path, target } => format!("link {} to {}", path.display(), target.display()),
    }
}
