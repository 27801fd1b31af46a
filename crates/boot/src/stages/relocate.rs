//! What stages 35 and 37 have in common: moving directories of the container to the volume.

use vast_sync::environment::{Plan, Report, Role};
use vast_sync::{Cancel, Error as SyncError};

use super::sync_progress::Told;
use crate::error::Error;
use crate::stage::{Boot, Verdict};

/// Moves what the plan says. Whatever comes of it, the boot goes on with what the container has: a failure is recorded as
/// a choice not to move.
pub(super) fn run(
    boot: &Boot<'_>,
    stage: &'static str,
    plan: Result<Plan, SyncError>,
    apply: impl FnOnce(&Told, &Cancel) -> Result<Report, SyncError> + Send + 'static,
) -> Result<Verdict, Error> {
    match plan {
        Ok(plan) if plan.is_empty() => return Ok(Verdict::skipped("all is on the volume already")),
        Ok(_) => {}
        Err(error) => return Ok(gave_up(error)),
    }
    let (told, cancel) = (Told::new(stage, boot), Cancel::new());
    // Registered before the work is: the lease is released before the boot stops waiting for it.
    let stop = cancel.clone();
    boot.cancel.on_fire(move |_| stop.fire());
    let report = match boot.interruptible(move || apply(&told, &cancel))? {
        Ok(report) => report,
        Err(SyncError::Cancelled) => return Err(Error::Cancelled),
        Err(error) => return Ok(gave_up(error)),
    };
    if let Some(failure) = report.first_failure() {
        return Ok(Verdict::GaveUp(failure));
    }
    let by = match report.role {
        Role::None => ", found complete there",
        _ => "",
    };
    Ok(match (report.linked(), report.recovered.len()) {
        (0, 0) => Verdict::done(),
        (0, recovered) => Verdict::said(format!("completed {recovered} interrupted moves")),
        (1, _) => Verdict::said(format!("1 directory is on the volume now{by}")),
        (linked, _) => Verdict::said(format!("{linked} directories are on the volume now{by}")),
    })
}

/// A choice not to move, with what the user can do about it.
pub(super) fn gave_up(source: SyncError) -> Verdict {
    let error = Error::Relocate { source };
    Verdict::GaveUp(match error.hint() {
        Some(hint) => format!("{} ({hint})", error.chain()),
        None => error.chain(),
    })
}
