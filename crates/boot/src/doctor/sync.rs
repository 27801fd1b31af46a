//! What the image brings for the workspace: whether it is there, and what dead copies left behind. What has moved to the volume: whether
//! the links lead somewhere.

use vast_sync::env_vars::ENV_ID;
use vast_sync::environment::{self, Plan, TreeState};
use vast_sync::home;
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
    /// Homes and environments that are links to the volume, where the volume does not have them: path and target.
    pub dangling: Vec<(String, String)>,
    /// Directories whose move to the volume was cut short.
    pub interrupted: Vec<String>,
    /// Directories that still take their room in the container, beside the link to the volume.
    pub not_cleared: Vec<String>,
    /// Why the workspace, or a part of it, could not be looked at. What could be is in the other fields.
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
    /// What is known of the homes, or of the environments.
    fn add(&mut self, plan: &Plan) {
        for tree in &plan.trees {
            let path = tree.path.display().to_string();
            match tree.state {
                TreeState::Dangling => self.dangling.push((path, tree.target.display().to_string())),
                TreeState::LinkedNotCleared => self.not_cleared.push(path),
                _ => {}
            }
        }
        for path in plan.interrupted.iter().map(|path| path.display().to_string()) {
            // Both plans tell all of them.
            if !self.interrupted.contains(&path) {
                self.interrupted.push(path);
            }
        }
    }

    /// Part of it could not be looked at; the first reason is the one that is told.
    fn failed(&mut self, error: &vast_sync::Error) {
        self.failure.get_or_insert_with(|| error.to_string());
    }

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
    let id = environment::Id::find(look.env.non_empty(ENV_ID), look.root.path()).ok();
    let (root, workspace) = (look.root.path().to_owned(), look.env.workspace());
    let ask = move || {
        let mut facts = Facts::default();
        match workspace::status(&options) {
            Ok(status) => facts = of_workspace(&status),
            Err(error) => facts.failed(&error),
        }
        let environment = id.map(|id| environment::plan(&environment::Options::new(&root, &workspace, id)));
        for plan in [Some(home::plan(&home::Options::new(&root, &workspace))), environment].into_iter().flatten() {
            match plan {
                Ok(plan) => facts.add(&plan),
                Err(error) => facts.failed(&error),
            }
        }
        facts
    };
    match look.limited(ask) {
        Some(facts) => facts,
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
        ..Facts::default()
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
    findings.extend(moved(all));
    findings
}

/// Homes and environments on the volume.
fn moved(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.sync;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Sync, severity, what, remedy);
    let mut findings = Vec::new();
    if !facts.dangling.is_empty() && !all.boot.is_under_way() {
        let what = format!("{} to what the volume does not have", super::counted(facts.dangling.len(), "link"));
        let remedy = "attach the volume that this instance had (`findmnt` shows what is mounted at the workspace) and restart; without it, make a new instance of the image";
        let links = facts.dangling.iter().map(|(path, target)| format!("{path} -> {target}"));
        findings.push(tell(Severity::Problem, what, remedy).because(links));
    }
    if !facts.interrupted.is_empty() && !all.boot.is_under_way() {
        let what = format!("moves to the volume were cut short: {}", facts.interrupted.join(", "));
        findings.push(tell(Severity::Warning, what, "`vast-sync environment` and `vast-sync home` complete them"));
    }
    if !facts.not_cleared.is_empty() && !all.boot.is_under_way() {
        let what = format!("on the volume, and still taking room in the container: {}", facts.not_cleared.join(", "));
        findings.push(tell(Severity::Note, what, "`vast-sync environment` and `vast-sync home` clear it away"));
    }
    findings
}
