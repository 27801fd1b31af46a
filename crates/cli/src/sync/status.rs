//! `vast-sync status`.

use indicatif::BinaryBytes;
use serde_json::json;
use vast_sync::Error;
use vast_sync::workspace::{self, LeftoverOwner, LockState, Status};

use super::args::StatusArgs;
use super::output;

pub(super) fn run(args: &StatusArgs) -> Result<(), Error> {
    let status = workspace::status(&args.options())?;
    if args.json {
        tell_json(&status);
    } else {
        tell(&status);
    }
    Ok(())
}

fn tell(status: &Status) {
    for item in &status.items {
        let place = if item.in_place { "in place" } else { "missing" };
        let work = match item.lock {
            LockState::Held => ", an instance is at it",
            LockState::Unusable => ", its lock is unusable",
            LockState::Never | LockState::Free => "",
        };
        output::line(&format!("{}: {place}{work}", item.name.display()));
    }
    for leftover in &status.leftovers {
        let owner = match leftover.owner {
            LeftoverOwner::Alive => "a process here is at it",
            LeftoverOwner::Dead => "its process is dead; the next sync removes it",
            LeftoverOwner::Elsewhere => "of another instance or an earlier boot",
        };
        let bytes = leftover.bytes.map_or_else(|| "changing".to_owned(), |bytes| BinaryBytes(bytes).to_string());
        output::line(&format!(
            "unfinished copy of {}: {bytes}, {owner} ({})",
            leftover.item.display(),
            leftover.name.display()
        ));
    }
    if !status.locks_are_shared && !status.items.is_empty() {
        output::line("locks on this volume may not reach other instances; publishing does not rely on them");
    }
}

fn tell_json(status: &Status) {
    let items = status.items.iter().map(|item| {
        let lock = match item.lock {
            LockState::Never => "never",
            LockState::Free => "free",
            LockState::Held => "held",
            LockState::Unusable => "unusable",
        };
        json!({ "name": item.name.display().to_string(), "in_place": item.in_place, "lock": lock })
    });
    let leftovers = status.leftovers.iter().map(|leftover| {
        let owner = match leftover.owner {
            LeftoverOwner::Alive => "alive",
            LeftoverOwner::Dead => "dead",
            LeftoverOwner::Elsewhere => "elsewhere",
        };
        json!({
            "name": leftover.name.display().to_string(),
            "item": leftover.item.display().to_string(),
            "owner": owner,
            "bytes": leftover.bytes,
        })
    });
    output::json(&json!({
        "items": items.collect::<Vec<_>>(),
        "leftovers": leftovers.collect::<Vec<_>>(),
        "locks_are_shared": status.locks_are_shared,
    }));
}
