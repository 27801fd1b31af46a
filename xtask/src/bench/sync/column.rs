//! The columns: where to, and what the caches hold.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::contender::Contender;
use crate::process;
use crate::workspace::Workspace;

/// A target and a state of the caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Column {
    /// The disk that the build output is on, with the tree in memory.
    Ext4Warm,
    /// The same, with nothing in memory.
    Ext4Cold,
    /// Memory, with the tree in memory.
    TmpfsWarm,
    /// Memory, with nothing of the tree in memory.
    TmpfsCold,
    /// A volume that answers after a millisecond.
    Latency,
}

/// What is in memory when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    Warm,
    Dropped,
}

impl Column {
    pub(crate) const ALL: [Self; 5] = [Self::Ext4Warm, Self::Ext4Cold, Self::TmpfsWarm, Self::TmpfsCold, Self::Latency];

    pub(crate) fn caches(self) -> Caches {
        match self {
            Self::Ext4Warm | Self::TmpfsWarm | Self::Latency => Caches::Warm,
            Self::Ext4Cold | Self::TmpfsCold => Caches::Dropped,
        }
    }

    /// Who is measured here.
    pub(crate) fn contenders(self) -> &'static [Contender] {
        match self {
            Self::Latency => &[Contender::VastSync, Contender::Cp],
            _ => &Contender::ALL,
        }
    }

    /// Makes the target ready.
    pub(crate) fn prepare(self, workspace: &Workspace, folder: &Path) -> Result<Prepared> {
        let name = match self {
            Self::Ext4Warm | Self::Ext4Cold => "ext4",
            Self::TmpfsWarm | Self::TmpfsCold => "tmpfs",
            Self::Latency => "latency",
        };
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let kind = process::stdout(Command::new("stat").args(["-f", "-c", "%T"]).arg(&folder))?;
        match self {
            Self::Ext4Warm | Self::Ext4Cold if kind.trim() != "ext2/ext3" => {
                bail!("`{}` is on {}, not on ext4", folder.display(), kind.trim())
            }
            Self::Ext4Warm | Self::Ext4Cold => Ok(Prepared { folder, mounted: false, server: None, behind: None }),
            Self::TmpfsWarm | Self::TmpfsCold => mount_tmpfs(folder),
            Self::Latency => serve(workspace, folder),
        }
    }
}

/// Mounts the volume that answers late on `folder`. Its files are in memory: a disk would add its own times to it.
fn serve(workspace: &Workspace, folder: PathBuf) -> Result<Prepared> {
    let example = "hostile-volume";
    process::run(workspace.cargo().args(["build", "--release", "--package", "vast-testkit", "--example", example]))?;
    let behind = folder.with_extension("behind");
    fs::create_dir_all(&behind).with_context(|| format!("cannot create `{}`", behind.display()))?;
    let behind = mount_tmpfs(behind)?;
    let mut server = Command::new(workspace.target("release/examples").join(example))
        .args(["--delay-us", "1000"])
        .args([behind.folder(), &folder])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the volume that answers late")?;
    // It says so in a line when it is mounted.
    let mut line = String::new();
    if let Some(stdout) = server.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("cannot hear from the volume that answers late")?;
    }
    if line.trim() != "mounted" {
        let _ = server.kill();
        bail!("the volume that answers late was not mounted");
    }
    Ok(Prepared { folder, mounted: true, server: Some(server), behind: Some(Box::new(behind)) })
}

fn mount_tmpfs(folder: PathBuf) -> Result<Prepared> {
    process::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=90%", "tmpfs"]).arg(&folder))?;
    Ok(Prepared { folder, mounted: true, server: None, behind: None })
}

/// A target that is ready, until the value is dropped.
#[derive(Debug)]
pub(crate) struct Prepared {
    folder: PathBuf,
    mounted: bool,
    server: Option<Child>,
    /// What the server serves, which goes after it.
    #[allow(dead_code, reason = "it is held, not used")]
    behind: Option<Box<Prepared>>,
}

impl Prepared {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = process::run(Command::new("umount").arg(&self.folder))
        {
            eprintln!("{error:#}");
        }
        if let Some(server) = &mut self.server {
            // It ends with its mount.
            let _ = server.wait();
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4Warm => "ext4, warm",
            Self::Ext4Cold => "ext4, dropped",
            Self::TmpfsWarm => "tmpfs, warm",
            Self::TmpfsCold => "tmpfs, dropped",
            Self::Latency => "1 ms per operation",
        })
    }
}
