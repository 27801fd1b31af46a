//! The programs that the commands use, installed where they are missing.
//!
//! Two sources: Debian's packages for services and system tools (`debian`), PyPI for tools that are published there as
//! ready binaries (`python`). Nothing is installed that is there already, and nothing that the command at hand does not
//! need.

mod debian;
mod python;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

pub(crate) use debian::Group;
pub(crate) use python::Tool;

use crate::workspace::Workspace;

/// The tools of this workspace, in `target/tools`.
#[derive(Debug)]
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The tools of a workspace; nothing is installed yet.
    pub(crate) fn of(workspace: &Workspace) -> Self {
        Self { folder: workspace.target("tools") }
    }

    /// Makes sure that the system packages of `groups` and the `tools` are there.
    ///
    /// Two runs at the same time wait for each other.
    pub(crate) fn ensure(&self, groups: &[Group], tools: &[Tool]) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create `{}`", self.folder.display()))?;
        let lock = self.folder.join(".lock");
        let lock = File::create(&lock).with_context(|| format!("cannot create `{}`", lock.display()))?;
        lock.lock().context("cannot lock the tools folder")?;
        let groups = if tools.is_empty() { groups.to_vec() } else { [groups, &[Group::Python]].concat() };
        debian::ensure(&groups)?;
        python::ensure(&self.venv(), tools)?;
        if tools.contains(&Tool::Uv) {
            python::ensure_wheels(&self.venv(), &self.folder.join("wheels"))?;
        }
        Ok(())
    }

    /// A command that runs `tool`.
    pub(crate) fn command(&self, tool: Tool) -> Result<Command> {
        let bin = self.venv().join("bin");
        let mut command = Command::new(bin.join(tool.program()));
        // It looks for zig as a module of `python3`. Other tools start programs that must find this machine's own.
        if tool == Tool::Zigbuild {
            let rest = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(bin).chain(std::env::split_paths(&rest));
            command.env("PATH", std::env::join_paths(folders).context("the tools' folder does not fit into PATH")?);
        }
        Ok(command)
    }

    fn venv(&self) -> PathBuf {
        self.folder.join("venv")
    }
}
