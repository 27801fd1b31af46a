//! `vast-sync workspace`.

use serde_json::{Value, json};
use vast_sync::Error;
use vast_sync::workspace::{self, Outcome, Plan, Report};

use super::args::WorkspaceArgs;
use super::{PROGRAM, output, progress};
use crate::report as printing;

pub(super) fn run(args: &WorkspaceArgs) -> Result<(), Error> {
    let options = args.options();
    let plan = workspace::plan(&options)?;
    if args.manner.dry_run {
        tell_plan(&plan, args.manner.json);
        return Ok(());
    }
    let progress = progress::choose(args.manner.json);
    match workspace::apply(&plan, &options, progress.as_ref()) {
        Ok(report) => {
            tell_report(&report, args.manner.json);
            Ok(())
        }
        Err(Error::Incomplete { report, source }) => {
            tell_report(&report, args.manner.json);
            Err(Error::Incomplete { report, source })
        }
        Err(error) => Err(error),
    }
}

fn tell_plan(plan: &Plan, json: bool) {
    if json {
        let items = plan.items.iter().map(|item| {
            json!({
                "name": item.name.display().to_string(),
                "in_place": item.missing.is_none(),
                "bytes": item.missing.map(|size| size.bytes),
                "entries": item.missing.map(|size| size.entries),
            })
        });
        let names = |names: &mut dyn Iterator<Item = &std::ffi::OsStr>| -> Vec<String> {
            names.map(|name| name.display().to_string()).collect()
        };
        output::json(&json!({
            "event": "plan",
            "items": items.collect::<Vec<_>>(),
            "remove": names(&mut plan.platform_files.iter().map(std::ffi::OsString::as_os_str)),
            "leftovers": names(&mut plan.leftovers()),
        }));
        return;
    }
    for (name, size) in plan.missing() {
        output::line(&format!("would copy `{}`: {}", name.display(), output::amount(size.bytes, size.entries)));
    }
    for name in &plan.platform_files {
        output::line(&format!("would remove `{}`", name.display()));
    }
    for name in plan.leftovers() {
        output::line(&format!("would remove `{}`, if its owner is dead", name.display()));
    }
}

fn tell_report(report: &Report, json: bool) {
    if json {
        output::json(&json!({
            "event": "done",
            "items": report.items.iter().map(item).collect::<Vec<_>>(),
            "removed": report.removed.iter().map(|name| name.display().to_string()).collect::<Vec<_>>(),
            "leftovers_removed": report.leftovers_removed,
            "leftovers_kept": report.leftovers_kept,
            "warnings": report.warnings,
        }));
        return;
    }
    for item in &report.items {
        let name = item.name.display();
        match &item.outcome {
            Outcome::Published { bytes, entries } => {
                output::line(&format!("published `{name}`: {}", output::amount(*bytes, *entries)));
            }
            Outcome::PublishedElsewhere => output::line(&format!("`{name}` was published by another instance")),
            // One failure is told as the error that the program ends with; of several, each here.
            Outcome::Failed(error) if report.failed() > 1 => {
                eprintln!("{}", printing::render_error(PROGRAM, error, error.hint().as_deref()));
            }
            // What was there before is no news.
            _ => {}
        }
    }
    if report.leftovers_removed > 0 {
        output::line(&format!("removed {} unfinished copies of dead owners", report.leftovers_removed));
    }
}

fn item(item: &workspace::ItemReport) -> Value {
    let name = item.name.display().to_string();
    match &item.outcome {
        Outcome::Kept => json!({ "name": name, "outcome": "kept" }),
        Outcome::Published { bytes, entries } => {
            json!({ "name": name, "outcome": "published", "bytes": bytes, "entries": entries })
        }
        Outcome::PublishedElsewhere => json!({ "name": name, "outcome": "published_elsewhere" }),
        Outcome::Failed(error) => {
            let text = printing::render_error("", error, None);
            json!({ "name": name, "outcome": "failed", "error": text.trim_start_matches(": "), "hint": error.hint() })
        }
        _ => json!({ "name": name, "outcome": "other" }),
    }
}
