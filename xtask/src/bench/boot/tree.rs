//! The workspace of an instance that has been used for a while.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Changes with what is laid out below, so that an older tree is not taken for this one.
const LAYOUT: u32 = 1;

/// A workspace on a disk.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    /// Files and directories in it.
    pub(super) entries: u32,
}

/// The workspace with so many entries, below `folder`; made if it is not there from an earlier run.
///
/// An application with its repository, plugins with theirs, packages of a web page that no search for repositories may enter, data in
/// directories three deep, and outputs: all of the data is where such a search has to look.
pub(super) fn tree(folder: &Path, entries: u32) -> Result<Tree> {
    let path = folder.join(format!("boot-workspace-{LAYOUT}-{entries}"));
    if !path.is_dir() {
        let partial = path.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).with_context(|| format!("cannot create `{}`", partial.display()))?;
        make(&partial, entries).with_context(|| format!("cannot fill `{}`", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("cannot publish `{}`", path.display()))?;
    }
    Ok(Tree { path, entries })
}

fn make(top: &Path, entries: u32) -> std::io::Result<()> {
    let mut left = Left { top, left: entries };
    left.directory("ComfyUI")?;
    left.repository("ComfyUI", 200)?;
    left.directory("ComfyUI/custom_nodes")?;
    for node in 0..12 {
        let node = format!("ComfyUI/custom_nodes/node-{node:02}");
        left.directory(&node)?;
        left.repository(&node, 40)?;
    }
    for package in 0..entries / 5000 {
        let package = format!("web/node_modules/package-{package:03}");
        left.directory(&package)?;
        left.files(&package, 40)?;
    }
    left.directory("outputs")?;
    left.files("outputs", entries / 20)?;
    for part in 0.. {
        if left.left == 0 {
            break;
        }
        let part = format!("data/set-{:02}/part-{part:04}", part / 20);
        left.directory(&part)?;
        left.files(&part, 200)?;
    }
    Ok(())
}

/// Entries that are still to be made.
struct Left<'a> {
    top: &'a Path,
    left: u32,
}

impl Left<'_> {
    /// A directory, and what is missing above it.
    fn directory(&mut self, path: &str) -> std::io::Result<()> {
        let mut at = self.top.to_owned();
        for part in path.split('/') {
            at.push(part);
            if self.left > 0 && !at.is_dir() {
                fs::create_dir(&at)?;
                self.left -= 1;
            }
        }
        Ok(())
    }

    fn files(&mut self, directory: &str, count: u32) -> std::io::Result<()> {
        let count = count.min(self.left);
        for number in 0..count {
            File::create(self.top.join(directory).join(format!("file-{number:05}.bin")))?;
        }
        self.left -= count;
        Ok(())
    }

    fn repository(&mut self, path: &str, objects: u32) -> std::io::Result<()> {
        self.directory(&format!("{path}/.git/objects"))?;
        self.files(&format!("{path}/.git/objects"), objects)?;
        self.files(path, objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_exactly_the_entries_that_were_asked_for_and_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(folder.path(), 5000).unwrap();
        let count = |path: &Path| walkdir::WalkDir::new(path).min_depth(1).into_iter().count();
        assert_eq!(count(&tree.path), 5000);
        let repositories =
            walkdir::WalkDir::new(&tree.path).into_iter().filter(|entry| entry.as_ref().unwrap().file_name() == ".git");
        assert_eq!(repositories.count(), 13);
        fs::write(tree.path.join("mine"), "").unwrap();
        assert_eq!(count(&super::tree(folder.path(), 5000).unwrap().path), 5001);
    }
}
