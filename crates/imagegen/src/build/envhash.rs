//! `RUN … env-hash > /.env_hash` without running it: the hash is computed from the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use vast_envhash::{Inventory, Need, Package, may_read};

use super::stack::{Stack, blocking};
use crate::Error;
use crate::digest::Digest;
use crate::dockerfile::Run;
use crate::layer::spool::Spool;
use crate::layer::{ContentRef, IndexCache, NodeKind, Resolved, Tree};
use crate::platform::Platform;
use crate::record::{LayerPackages, database_layer};

/// Where the hash is recorded.
pub(crate) const FILE: &str = "/.env_hash";

/// Whether a `RUN` does nothing but record the environment hash: the guide's last instruction and its variants.
///
/// Allowed beside it are `set` with options and comments; anything else is for an engine that runs processes.
pub(super) fn is_environment_hash(run: &Run) -> bool {
    let Some(script) = run.script().filter(|_| run.flags.is_empty()) else { return false };
    let mut hashes = 0;
    for command in script.replace("&&", "\n").replace(';', "\n").lines() {
        let command = command.trim();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            _ if command.starts_with('#') => {}
            ["set", options @ ..] if options.iter().all(|word| is_shell_option(word)) => {}
            _ if is_recording(&words.concat()) => hashes += 1,
            _ => return false,
        }
    }
    hashes == 1
}

fn is_shell_option(word: &str) -> bool {
    word == "pipefail"
        || word.strip_prefix(['-', '+']).is_some_and(|letters| letters.chars().all(|c| c.is_ascii_alphabetic()))
}

/// `env-hash>/.env_hash`, however the program is called.
fn is_recording(command: &str) -> bool {
    let Some((program, file)) = command.split_once('>') else { return false };
    let program = program.strip_prefix("/opt/instance-tools/bin/").unwrap_or(program);
    matches!(program, "env-hash" | "vast-envhash") && file == FILE
}

/// The environment of the image that `stack` amounts to.
///
/// Only the files that the hash may read are taken out of their layers; a layer that has none of them is not streamed.
pub(crate) async fn inventory(
    stack: &mut Stack,
    cache: &IndexCache,
    platform: &Platform,
    work: &Path,
) -> Result<Inventory, Error> {
    let (root, options) = skeleton(stack, cache, platform, work).await?;
    blocking(move || vast_envhash::hash(root.path(), &options).map_err(Error::from)).await?
}

/// What is installed, as far as the layers tell.
pub(crate) struct Installed {
    /// The environment, or why it cannot be determined.
    pub(crate) inventory: Result<Inventory, vast_envhash::Error>,
    /// The Debian packages, those too that do not count for the hash.
    pub(crate) packages: Result<Vec<Package>, vast_envhash::Error>,
    /// The diff id of the layer whose package database lists them, where it alone does.
    database: Option<Digest>,
}

impl Installed {
    /// The packages of the layer that lists them, as they are recorded.
    pub(crate) fn of_layer(&self) -> Option<LayerPackages> {
        let packages = self.packages.as_ref().ok()?.clone();
        Some(LayerPackages { diff_id: self.database?, packages })
    }
}

/// The same as [`inventory`], with all Debian packages. What is wrong with the image's environment is no error.
pub(crate) async fn installed(
    stack: &mut Stack,
    cache: &IndexCache,
    platform: &Platform,
    work: &Path,
) -> Result<Installed, Error> {
    let (root, options) = skeleton(stack, cache, platform, work).await?;
    let database = database_layer(stack.tree(cache).await?);
    let database = database.and_then(|number| stack.layers.get(number)).map(|layer| layer.diff_id);
    blocking(move || Installed {
        inventory: vast_envhash::hash(root.path(), &options),
        packages: vast_envhash::installed(root.path(), &options),
        database,
    })
    .await
}

/// Lays out what the hash may look at of the image that `stack` amounts to.
async fn skeleton(
    stack: &mut Stack,
    cache: &IndexCache,
    platform: &Platform,
    work: &Path,
) -> Result<(tempfile::TempDir, vast_envhash::Options), Error> {
    let tree = stack.tree(cache).await?.clone();
    let needs = needs(&tree);
    let wanted: BTreeSet<ContentRef> = tree
        .iter()
        .filter_map(|(path, node)| match node.kind {
            NodeKind::File { content, size } if size > 0 && needs.get(&path) == Some(&Need::Content) => Some(content),
            _ => None,
        })
        .collect();
    let spool = stack.contents(&wanted, cache, work).await?;
    let root = tempfile::Builder::new().prefix("root-").tempdir_in(work);
    let root = root.map_err(|source| Error::File { action: "create", path: work.to_owned(), source })?;
    let machine = match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    let options = vast_envhash::Options { live: false, machine: Some(machine.to_owned()), ..Default::default() };
    let root = blocking(move || lay_out(&tree, &needs, &spool, root.path()).map(|()| root)).await??;
    Ok((root, options))
}

/// What the hash may need of files; those that it needs nothing of are not listed.
type Needs = BTreeMap<PathBuf, Need>;

/// What the hash may need of each file, by its own name or by that of a link that leads to it.
fn needs(tree: &Tree) -> Needs {
    let mut needs = Needs::new();
    for (path, node) in tree.iter() {
        let need = may_read(&path);
        if need == Need::No {
            continue;
        }
        let file = match node.kind {
            NodeKind::File { .. } => path,
            NodeKind::Symlink { .. } => match tree.resolve(&path, true) {
                Resolved::Path(file) => file,
                _ => continue,
            },
            _ => continue,
        };
        let known = needs.entry(file).or_insert(need);
        *known = need.max(*known);
    }
    needs
}

/// Lays the skeleton of `tree` out in the empty directory `root`: all directories and links, and of the files what the hash
/// may look at. Parents in a tree are directories and links come last, so nothing is ever written through a link.
fn lay_out(tree: &Tree, needs: &Needs, spool: &Spool, root: &Path) -> Result<(), Error> {
    let failed = |path: PathBuf| move |source| Error::File { action: "create", path, source };
    let mut links = Vec::new();
    for (path, node) in tree.iter() {
        let full = root.join(&path);
        match &node.kind {
            NodeKind::Directory if path.as_os_str().is_empty() => {}
            NodeKind::Directory => fs::create_dir(&full).map_err(failed(full.clone()))?,
            NodeKind::Symlink { target } => links.push((target, full)),
            NodeKind::File { size, content } => {
                let Some(&need) = needs.get(&path) else { continue };
                match spool.path(*content).filter(|_| *size > 0 && need == Need::Content) {
                    Some(taken) => fs::copy(taken, &full).map(drop).map_err(failed(full.clone()))?,
                    None => fs::write(&full, b"").map_err(failed(full.clone()))?,
                }
                let mode = if node.metadata.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(failed(full))?;
            }
            NodeKind::Fifo | NodeKind::Device { .. } => {}
        }
    }
    for (target, full) in links {
        symlink(target, &full).map_err(failed(full))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Dockerfile, Instruction};

    fn recognised(text: &str) -> bool {
        let dockerfile = Dockerfile::parse("Dockerfile", &format!("FROM scratch\n{text}")).unwrap();
        match &dockerfile.stages[0].instructions[0].value {
            Instruction::Run(run) => is_environment_hash(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_guides_last_instruction_is_recognised_in_its_variants() {
        for text in [
            "RUN \\\n    set -euo pipefail && \\\n    env-hash > /.env_hash",
            "RUN env-hash >/.env_hash",
            "RUN set -e; /opt/instance-tools/bin/env-hash > /.env_hash;",
            "RUN <<EOF\n# record it\nset -euo pipefail\nenv-hash > /.env_hash\nEOF",
        ] {
            assert!(recognised(text), "{text}");
        }
        for text in [
            "RUN env-hash",
            "RUN env-hash > /tmp/x",
            "RUN env-hash >> /.env_hash",
            "RUN apt-get update && env-hash > /.env_hash",
            "RUN env-hash > /.env_hash && env-hash > /.env_hash",
            "RUN env-hash --json > /.env_hash",
            "RUN set -- x && env-hash > /.env_hash",
            "RUN true || env-hash > /.env_hash",
            "RUN --mount=type=cache,target=/x env-hash > /.env_hash",
            "RUN [\"env-hash\"]",
        ] {
            assert!(!recognised(text), "{text}");
        }
    }
}
