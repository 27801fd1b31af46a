//! What the image brings for the workspace: whether it is there, and what dead copies left behind.

use vast_sync::workspace::{self, LeftoverOwner, LockState, Options, Status};

use super::{Area, Finding, Look, Severity, disk};
use crate::stages::WORKSPACE_INTERNAL;

/// What is known of the syncs. Each kind of sync adds what it knows as items and leftovers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What should be in place and is not.
    pub missing: Vec<Item>,
    /// Unpublished copies.
    pub leftovers: Vec<Leftover>,
    /// How many items there are.
    pub items: usize,
    /// Why the workspace could not be looked at.
    pub failure: Option<String>,
}

/// Something that is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Whether an instance is copying it now.
    pub under_way: bool,
}

/// An unpublished copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name in the workspace.
    pub name: String,
    /// What it takes, as far as that can be counted.
    pub bytes: Option<u64>,
    /// Whether its owner is known to have ended.
    pub dead: bool,
}

impl Facts {
    pub(super) fn summary(&self) -> String {
        match self.failure {
            Some(_) => "unknown".to_owned(),
            None if self.items == 0 => "the image brings nothing".to_owned(),
            None => format!("{} of {} items in the workspace", self.items - self.missing.len(), self.items),
        }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let options = Options::new(look.root.join(WORKSPACE_INTERNAL), look.root.join(look.env.workspace()));
    match look.limited(move || workspace::status(&options)) {
        Some(Ok(status)) => of_workspace(&status),
        Some(Err(error)) => Facts { failure: Some(error.to_string()), ..Facts::default() },
        None => Facts { failure: Some(format!("no answer within {} s", look.patience.as_secs())), ..Facts::default() },
    }
}

fn of_workspace(status: &Status) -> Facts {
    let missing = status.items.iter().filter(|item| !item.in_place);
    let leftovers = status.leftovers.iter().filter(|leftover| leftover.owner != LeftoverOwner::Alive);
    Facts {
        missing: missing
            .map(|item| Item {
                name: item.name.to_string_lossy().into_owned(),
                under_way: item.lock == LockState::Held,
            })
            .collect(),
        leftovers: leftovers
            .map(|leftover| Leftover {
                name: leftover.name.to_string_lossy().into_owned(),
                bytes: leftover.bytes,
                dead: leftover.owner == LeftoverOwner::Dead,
            })
            .collect(),
        items: status.items.len(),
        failure: None,
    }
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.sync;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Sync, severity, what, remedy);
    let mut findings = Vec::new();
    if let Some(reason) = &facts.failure {
        let remedy = "`vast-sync status` says more";
        findings.push(
            tell(Severity::Unknown, "the workspace could not be looked at".to_owned(), remedy)
                .because([reason.clone()]),
        );
    }
    let names = |under_way: bool| {
        let items = facts.missing.iter().filter(move |item| item.under_way == under_way);
        items.map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (copied, missing) = (names(true), names(false));
    if !copied.is_empty() {
        findings.push(tell(
            Severity::Note,
            format!("being copied into the workspace: {copied}"),
            "wait; `vast-sync status` shows the locks",
        ));
    }
    if !missing.is_empty() && !all.boot.is_under_way() {
        let what = format!("not in the workspace, although the image brings it: {missing}");
        findings.push(tell(
            Severity::Problem,
            what,
            "`vast-boot run --only 36` copies it; it needs room on the volume",
        ));
    }
    for (dead, severity, remedy) in [
        (true, Severity::Warning, "`vast-sync workspace` clears away what dead copies left"),
        (
            false,
            Severity::Note,
            "nothing, while another instance copies; else `vast-sync workspace` clears it away once its owner is known to be gone",
        ),
    ] {
        let left: Vec<&Leftover> = facts.leftovers.iter().filter(|leftover| leftover.dead == dead).collect();
        if left.is_empty() {
            continue;
        }
        let bytes: u64 = left.iter().filter_map(|leftover| leftover.bytes).sum();
        let whose = if dead { "of copies that were cut short" } else { "of other instances" };
        let what = format!("unfinished copies {whose} take {} in the workspace", disk::size(bytes));
        findings.push(tell(severity, what, remedy).because(left.iter().map(|leftover| leftover.name.clone())));
    }
    findings
}
