//! Reads the facts that the rules decide on from Cargo and the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use walkdir::WalkDir;

use super::rules::{Crate, Use};
use super::sources;
use crate::process;
use crate::workspace::Workspace;

/// The facts of every workspace member, by name.
pub(crate) fn gather(workspace: &Workspace) -> Result<Vec<Crate>> {
    let metadata =
        MetadataCommand::new().current_dir(workspace.root()).no_deps().exec().context("cannot read the manifests")?;
    let members = metadata.workspace_packages();
    let libraries: BTreeMap<String, String> =
        members.iter().map(|member| (member.name.replace('-', "_"), member.name.to_string())).collect();
    let mut crates = members
        .iter()
        .map(|member| {
            Ok(Crate {
                name: member.name.to_string(),
                dependencies: listed(member, &libraries, |kind| kind != DependencyKind::Development),
                dev_dependencies: listed(member, &libraries, |kind| kind == DependencyKind::Development),
                uses: uses(workspace, member, &libraries)?,
                linked: linked(workspace, &member.name)?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(crates)
}

/// The workspace members among a manifest's dependencies of some kind. A renamed dependency counts by its package.
fn listed(
    package: &Package,
    libraries: &BTreeMap<String, String>,
    kind: impl Fn(DependencyKind) -> bool,
) -> BTreeSet<String> {
    let ours = |name: &str| libraries.contains_key(&name.replace('-', "_"));
    package.dependencies.iter().filter(|d| kind(d.kind) && ours(&d.name)).map(|d| d.name.clone()).collect()
}

/// The paths into workspace members in a crate's `src` and its build script.
fn uses(workspace: &Workspace, package: &Package, libraries: &BTreeMap<String, String>) -> Result<Vec<Use>> {
    let folder = package.manifest_path.parent().map_or_else(|| Path::new(""), |folder| folder.as_std_path());
    let mut uses = Vec::new();
    for entry in [folder.join("src"), folder.join("build.rs")].iter().flat_map(|start| {
        WalkDir::new(start).sort_by_file_name().into_iter().filter(|entry| {
            // Most crates have no build script.
            !entry.as_ref().is_err_and(|error| error.depth() == 0)
        })
    }) {
        let entry = entry.with_context(|| format!("cannot list the sources of {}", package.name))?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        uses.extend(sources::paths(&text, |name| libraries.contains_key(name)).into_iter().map(|found| Use {
            package: libraries[&found.root].clone(),
            module: found.module,
            place: format!("{}:{}", workspace.show(path), found.line),
        }));
    }
    Ok(uses)
}

/// Every package in the normal dependency graph of one crate.
///
/// `cargo tree` for this crate alone rather than the graph of `cargo metadata`: there, a feature that one member turns
/// on counts for all of them.
fn linked(workspace: &Workspace, package: &str) -> Result<BTreeSet<String>> {
    let tree = process::stdout(workspace.cargo().args([
        "tree",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--package",
        package,
    ]))?;
    Ok(packages(&tree))
}

/// The names in the lines `name v1.2.3 (path) (*)`.
fn packages(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_dependency_tree_are_its_first_words() {
        let tree = "vast-gpu v0.1.0 (/src/crates/gpu)\nlibc v0.2.1\nserde v1.0.0 (*)\n\n";
        assert_eq!(packages(tree).into_iter().collect::<Vec<_>>(), ["libc", "serde", "vast-gpu"]);
    }
}
