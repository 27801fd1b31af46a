//! `vast-sync status`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{BinaryBytes, HumanDuration};
use serde_json::{Value, json};
use vast_sync::environment::{SharedState, TreeState};
use vast_sync::stock::{self, Entry, Stock};
use vast_sync::workspace::{self, LeftoverOwner, LockState, Status};
use vast_sync::{Error, environment, home};

use super::args::StatusArgs;
use super::output;
use crate::table;

/// A directory of the container and where it is now.
struct Place {
    path: String,
    state: &'static str,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Error> {
    let options = args.options();
    let status = workspace::status(&options)?;
    let stock = stock::take(&options.workspace)?;
    let own = args.own_environment();
    let places = places(args, own.as_ref())?;
    if args.json {
        tell_json(&status, &stock, own.as_ref(), &places);
    } else {
        tell(&status, &stock, own.as_ref(), &places);
    }
    Ok(())
}

/// Where the container's environments and homes are.
fn places(args: &StatusArgs, own: Option<&environment::Id>) -> Result<Vec<Place>, Error> {
    let mut plans = Vec::new();
    if let Some(id) = own {
        let options = environment::Options::new(args.root(), args.container_workspace(), id.clone());
        plans.push(environment::plan(&options)?);
    }
    plans.push(home::plan(&home::Options::new(args.root(), args.container_workspace()))?);
    let place = |tree: environment::PlannedTree| Place {
        path: tree.path.display().to_string(),
        state: match tree.state {
            TreeState::Linked | TreeState::LinkedNotCleared => "on the volume",
            TreeState::Dangling => "a link to what is not there",
            _ => "in the container",
        },
    };
    Ok(plans.into_iter().flat_map(|plan| plan.trees).map(place).collect())
}

fn tell(status: &Status, stock: &Stock, own: Option<&environment::Id>, places: &[Place]) {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for item in &status.items {
        let place = if item.in_place { "in place" } else { "missing" };
        let work = match item.lock {
            LockState::Held => "an instance is at it",
            LockState::Unusable => "its lock is unusable",
            LockState::Never | LockState::Free => "",
        };
        rows.push([item.name.display().to_string(), place.to_owned(), work.to_owned()]);
    }
    rows.extend(places.iter().map(|place| [place.path.clone(), place.state.to_owned(), String::new()]));
    for entry in stock.environments.iter().chain(&stock.home) {
        let is_own = own.is_some_and(|own| own.as_str() == entry.name);
        let kind = if stock.home.as_ref().is_some_and(|home| home.path == entry.path) {
            "homes".to_owned()
        } else if is_own {
            format!("environment {} (this image's)", entry.name)
        } else {
            format!("environment {}", entry.name)
        };
        rows.push([kind, state(&entry.state).to_owned(), about(entry)]);
    }
    for line in table::lines(rows.into_iter()) {
        output::line(&line);
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
    let left: usize = stock.environments.iter().chain(&stock.home).map(removable).sum::<usize>() + stock.stray.len();
    if left > 0 {
        output::line(&format!("{left} leftovers of earlier work; `vast-sync gc` tells which can go"));
    }
    if !status.locks_are_shared && !status.items.is_empty() {
        output::line("locks on this volume may not reach other instances; publishing does not rely on them");
    }
}

/// What in a finished directory is of no use.
fn removable(entry: &Entry) -> usize {
    if entry.state == SharedState::Finished { entry.leftovers.len() } else { 0 }
}

/// `5.60 GiB in 40,000 entries, by C.12345, 3 days ago`.
fn about(entry: &Entry) -> String {
    let mut parts = Vec::new();
    parts.extend(entry.size.map(|size| output::amount(size.allocated_bytes, size.entries)));
    parts.extend(entry.instance.as_ref().map(|instance| format!("by {instance}")));
    parts.extend(entry.since.and_then(age).map(|age| format!("{} ago", HumanDuration(age))));
    parts.join(", ")
}

/// How long ago that was. Clocks differ: what another instance says may be of the future.
fn age(since: u64) -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(since)).ok()
}

fn state(state: &SharedState) -> &'static str {
    match state {
        SharedState::Finished => "complete",
        SharedState::Filling { .. } => "being filled, or left unfinished",
        SharedState::GivenUp => "given up unfinished",
        SharedState::Foreign => "not of this program",
        _ => "unknown",
    }
}

fn tell_json(status: &Status, stock: &Stock, own: Option<&environment::Id>, places: &[Place]) {
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
        "environment": own.map(environment::Id::as_str),
        "environments": stock.environments.iter().map(entry).collect::<Vec<_>>(),
        "home": stock.home.as_ref().map(entry),
        "stray": stock.stray.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "places": places.iter().map(|place| json!({ "path": place.path, "state": place.state })).collect::<Vec<_>>(),
    }));
}

fn entry(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "state": match &entry.state {
            SharedState::Finished => "finished",
            SharedState::Filling { .. } => "filling",
            SharedState::GivenUp => "given_up",
            SharedState::Foreign => "foreign",
            _ => "unknown",
        },
        "instance": entry.instance,
        "since": entry.since,
        "bytes": entry.size.map(|size| size.allocated_bytes),
        "entries": entry.size.map(|size| size.entries),
        "leftovers": entry.leftovers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}
