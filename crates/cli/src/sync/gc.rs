//! `vast-sync gc`.

use indicatif::BinaryBytes;
use serde_json::json;
use vast_sync::stock::gc::{self, Plan, Planned, Report, Verdict};

use super::args::GcArgs;
use super::{Failure, PROGRAM, output, progress, stop};

pub(super) fn run(args: &GcArgs) -> Result<(), Failure> {
    let options = args.options()?;
    let progress = progress::choose(args.json);
    let plan = gc::plan(&options, progress.as_ref(), &stop::listen())?;
    if !args.apply {
        tell_plan(&plan, args.json);
        return Ok(());
    }
    let report = gc::apply(&plan, &options, progress.as_ref())?;
    tell_report(&report, args.json);
    if report.failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn tell_plan(plan: &Plan, as_json: bool) {
    if as_json {
        output::json(&json!({
            "event": "plan",
            "environments": plan.environments.iter().map(environment).collect::<Vec<_>>(),
            "leftovers": paths(&plan.leftovers),
            "partials": paths(&plan.partials),
        }));
        return;
    }
    for Planned { entry, verdict } in &plan.environments {
        let size = entry
            .size
            .map_or_else(|| "of unknown size".to_owned(), |size| BinaryBytes(size.allocated_bytes).to_string());
        let (name, what) = (
            &entry.name,
            match verdict {
                Verdict::Remove => "would remove environment",
                Verdict::Kept => "keeps environment",
                Verdict::Filling => "keeps environment, because an instance may be filling it:",
                Verdict::Foreign => "leaves alone what is no environment:",
            },
        );
        output::line(&format!("{what} {name}: {size}"));
    }
    for path in plan.leftovers.iter().chain(&plan.partials) {
        output::line(&format!("would remove leftover `{}`", path.display()));
    }
    if plan.is_empty() {
        output::line("nothing to remove");
        return;
    }
    let bytes: u64 = plan.removed().filter_map(|entry| entry.size).map(|size| size.allocated_bytes).sum();
    output::line(&format!("{} of environments would be free; --apply removes", BinaryBytes(bytes)));
    if plan.removed().next().is_some() {
        output::line(
            "an instance whose links lead to a removed environment loses it: --keep names those in use elsewhere",
        );
    }
}

fn environment(planned: &Planned) -> serde_json::Value {
    let Planned { entry, verdict } = planned;
    json!({
        "id": entry.name,
        "verdict": match verdict {
            Verdict::Remove => "remove",
            Verdict::Kept => "kept",
            Verdict::Filling => "filling",
            Verdict::Foreign => "foreign",
        },
        "bytes": entry.size.map(|size| size.allocated_bytes),
    })
}

fn paths(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn tell_report(report: &Report, as_json: bool) {
    if as_json {
        output::json(&json!({
            "event": "done",
            "removed": paths(&report.removed),
            "bytes": report.bytes,
            "partials_kept": report.partials_kept,
            "failures": report.failures,
        }));
    } else {
        for path in &report.removed {
            output::line(&format!("removed `{}`", path.display()));
        }
        if report.partials_kept > 0 {
            output::line(&format!("{} unfinished copies stay: their owners may be alive", report.partials_kept));
        }
        output::line(&format!("{} of environments are free", BinaryBytes(report.bytes)));
    }
    for failure in &report.failures {
        eprintln!("{PROGRAM}: {failure}");
    }
}
