//! `vast-sync copy`.

use serde_json::json;
use vast_sync::Error;
use vast_sync::copy::{self, Target};

use super::args::CopyArgs;
use super::{output, progress};

pub(super) fn run(args: &CopyArgs) -> Result<(), Error> {
    let options = args.options();
    let plan = copy::plan(&options)?;
    let as_json = args.manner.json;
    if args.manner.dry_run {
        let what = match plan.target {
            Target::Absent => "create",
            Target::EmptyDirectory => "replace the empty directory",
            Target::Directory => "add what is missing to",
        };
        if as_json {
            let size = plan.size;
            output::json(&json!({ "event": "plan", "bytes": size.bytes, "entries": size.entries, "target": what }));
        } else {
            let amount = output::amount(plan.size.bytes, plan.size.entries);
            output::line(&format!("would {what} `{}`: {amount}", options.to.display()));
        }
        return Ok(());
    }
    let report = copy::apply(&plan, &options, progress::choose(as_json).as_ref())?;
    if as_json {
        output::json(&json!({
            "event": "done",
            "bytes": report.bytes,
            "entries": report.entries,
            "kept": report.kept,
            "left_out": report.left_out,
            "warnings": report.warnings,
            "verified": options.verify.is_some(),
        }));
        return Ok(());
    }
    let verified = if options.verify.is_some() { ", compared and alike" } else { "" };
    let kept = if report.kept > 0 { format!(", {} kept as they were", report.kept) } else { String::new() };
    output::line(&format!("copied {}{kept}{verified}", output::amount(report.bytes, report.entries - report.kept)));
    Ok(())
}
