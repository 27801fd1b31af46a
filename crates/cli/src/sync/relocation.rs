//! `vast-sync environment` and `vast-sync home`.

use std::path::PathBuf;

use serde_json::{Value, json};
use vast_sync::environment::{Outcome, Plan, PlannedTree, Report, Role, SharedState, TreeState};
use vast_sync::{Cancel, Error, Progress, SystemPrograms, environment as sync_environment, home as sync_home};

use super::args::{EnvironmentArgs, HomeArgs, MoveArgs};
use super::{Failure, PROGRAM, output, progress, stop};

pub(super) fn environment(args: &EnvironmentArgs) -> Result<(), Failure> {
    let options = args.options()?;
    run(
        &args.common,
        || sync_environment::plan(&options),
        |progress, cancel| sync_environment::apply(&options, &SystemPrograms::default(), progress, cancel),
        |progress| sync_environment::undo(&options, progress),
    )
}

pub(super) fn home(args: &HomeArgs) -> Result<(), Failure> {
    let options = args.options();
    run(
        &args.common,
        || sync_home::plan(&options),
        |progress, cancel| sync_home::apply(&options, progress, cancel),
        |progress| sync_home::undo(&options, progress),
    )
}

fn run(
    args: &MoveArgs,
    plan: impl FnOnce() -> Result<Plan, Error>,
    apply: impl FnOnce(&dyn Progress, &Cancel) -> Result<Report, Error>,
    undo: impl FnOnce(&dyn Progress) -> Result<Vec<PathBuf>, Error>,
) -> Result<(), Failure> {
    let as_json = args.manner.json;
    if args.manner.dry_run {
        tell_plan(&plan()?, as_json);
        return Ok(());
    }
    let progress = progress::choose(as_json);
    if args.undo {
        tell_restored(&undo(progress.as_ref())?, as_json);
        return Ok(());
    }
    let report = match apply(progress.as_ref(), &stop::listen()) {
        Err(Error::Cancelled) => stop::wait(),
        report => report?,
    };
    tell_report(&report, as_json);
    match report.first_failure() {
        Some(failure) => {
            eprintln!("{PROGRAM}: {failure}");
            Err(Failure::Told)
        }
        None => Ok(()),
    }
}

fn tell_plan(plan: &Plan, as_json: bool) {
    if as_json {
        let trees = plan.trees.iter().map(|tree| {
            json!({
                "path": tree.path.display().to_string(),
                "target": tree.target.display().to_string(),
                "state": state(tree.state),
                "bytes": tree.size.map(|size| size.bytes),
                "entries": tree.size.map(|size| size.entries),
            })
        });
        let interrupted: Vec<String> = plan.interrupted.iter().map(|path| path.display().to_string()).collect();
        output::json(&json!({
            "event": "plan",
            "directory": plan.directory.display().to_string(),
            "volume": shared(&plan.shared),
            "trees": trees.collect::<Vec<_>>(),
            "interrupted": interrupted,
        }));
        return;
    }
    for path in &plan.interrupted {
        output::line(&format!("would complete the interrupted move of `{}`", path.display()));
    }
    let directory = plan.directory.display();
    match &plan.shared {
        SharedState::Filling { instance: Some(instance) } => {
            output::line(&format!("would wait for instance {instance}, which is filling `{directory}`"));
        }
        SharedState::Filling { instance: None } => {
            output::line(&format!("would wait for another instance, which is filling `{directory}`"));
        }
        SharedState::GivenUp => {
            output::line(&format!("would take over `{directory}`, which an instance left unfinished"));
        }
        SharedState::Foreign => {
            output::line(&format!("would refuse: `{directory}` is there, and is not what this program makes of it"));
        }
        _ => {}
    }
    for tree in &plan.trees {
        tell_planned(tree);
    }
}

fn tell_planned(tree: &PlannedTree) {
    let (path, target) = (tree.path.display(), tree.target.display());
    match (tree.state, tree.size) {
        (TreeState::Directory, Some(size)) => {
            output::line(&format!("would copy `{path}`: {}", output::amount(size.bytes, size.entries)));
            output::line(&format!("would replace `{path}` by a link to `{target}`"));
        }
        (TreeState::Directory, None) => {
            output::line(&format!("would replace `{path}` by a link to `{target}`"));
        }
        (TreeState::LinkedNotCleared, _) => {
            output::line(&format!("would remove what `{path}` was before it became a link"));
        }
        (TreeState::Dangling, _) => output::line(&format!("`{path}` leads to `{target}`, which is not there")),
        _ => {}
    }
}

fn tell_report(report: &Report, as_json: bool) {
    if as_json {
        let trees = report.trees.iter().map(|tree| {
            let (outcome, reason) = outcome(&tree.outcome);
            let mut value = json!({
                "path": tree.path.display().to_string(),
                "target": tree.target.display().to_string(),
                "outcome": outcome,
            });
            if let (Some(reason), Some(object)) = (reason, value.as_object_mut()) {
                object.insert("reason".to_owned(), Value::String(reason));
            }
            value
        });
        let role = match report.role {
            Role::Copied => "copied",
            Role::TookOver => "took_over",
            _ => "none",
        };
        let recovered: Vec<String> = report.recovered.iter().map(|path| path.display().to_string()).collect();
        output::json(&json!({
            "event": "done",
            "role": role,
            "bytes": report.bytes,
            "entries": report.entries,
            "trees": trees.collect::<Vec<_>>(),
            "recovered": recovered,
            "warnings": report.warnings,
        }));
        return;
    }
    if report.role != Role::None {
        output::line(&format!("copied {}", output::amount(report.bytes, report.entries)));
    }
    for tree in &report.trees {
        let (path, target) = (tree.path.display(), tree.target.display());
        match &tree.outcome {
            Outcome::Linked => output::line(&format!("`{path}` is on the volume now: `{target}`")),
            Outcome::NotOnVolume => {
                output::line(&format!("`{path}` stays in the container: the volume was filled without it"));
            }
            // What fails is told as the end of the program; what was a link before is no news.
            _ => {}
        }
    }
}

fn tell_restored(restored: &[PathBuf], as_json: bool) {
    if as_json {
        let restored: Vec<String> = restored.iter().map(|path| path.display().to_string()).collect();
        output::json(&json!({ "event": "done", "restored": restored }));
        return;
    }
    for path in restored {
        output::line(&format!("`{}` is in the container again", path.display()));
    }
}

fn outcome(outcome: &Outcome) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Kept => ("kept", None),
        Outcome::Linked => ("linked", None),
        Outcome::NotOnVolume => ("not_on_volume", None),
        Outcome::Stays(reason) => ("stays", Some(reason.clone())),
        Outcome::Dangling => ("dangling", None),
        Outcome::Failed(error) => {
            ("failed", Some(crate::report::render_error("", error, None).trim_start_matches(": ").to_owned()))
        }
        _ => ("other", None),
    }
}

fn state(state: TreeState) -> &'static str {
    match state {
        TreeState::Linked => "linked",
        TreeState::Dangling => "dangling",
        TreeState::LinkedNotCleared => "linked_not_cleared",
        TreeState::Directory => "directory",
        _ => "other",
    }
}

fn shared(state: &SharedState) -> Value {
    match state {
        SharedState::NotAsked => Value::Null,
        SharedState::Missing => "missing".into(),
        SharedState::Filling { .. } => "filling".into(),
        SharedState::GivenUp => "given_up".into(),
        SharedState::Finished => "finished".into(),
        SharedState::Foreign => "foreign".into(),
        _ => "other".into(),
    }
}
