//! `cargo xtask arrows`: who may depend on whom.
//!
//! The design's arrows, checked three ways: against the manifests, against the paths that the sources name, and, for
//! what must never be linked, against the resolved dependency graph. [`facts`] reads the workspace, [`rules`] holds the
//! arrows and decides; nothing else knows either.

mod facts;
mod rules;
mod sources;

use anyhow::Result;

use crate::Verdict;
use crate::workspace::Workspace;

/// Takes no arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints what goes against the arrows, one finding a line.
pub(crate) fn run(workspace: &Workspace, _: &Args) -> Result<Verdict> {
    let facts = facts::gather(workspace)?;
    let findings = rules::findings(&facts);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        println!("arrows: {} crates, nothing against the design", facts.len());
    }
    Ok(Verdict::when(findings.is_empty()))
}
