//! The programs that copy, each called the way a careful person would to copy a whole tree.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::source::Tree;
use crate::process;
use crate::workspace::Workspace;

/// The version of `xcp` on crates.io.
const XCP: &str = "0.24.9";

/// A way to copy a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Contender {
    /// Ours.
    VastSync,
    /// `cp -a`.
    Cp,
    /// `rsync -a`.
    Rsync,
    /// `tar | tar`.
    Tar,
    /// `xcp --recursive`.
    Xcp,
    /// What deployed images do. Piped, which is faster than by way of an archive on the volume.
    TarGzip,
    /// No copy but a bound: as many bytes in one file.
    Dd,
}

/// Where the programs are that are in no `PATH`.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) copier: PathBuf,
    pub(crate) xcp: PathBuf,
}

impl Contender {
    /// All of them, in the order of the table's rows.
    pub(crate) const ALL: [Self; 7] =
        [Self::VastSync, Self::Cp, Self::Rsync, Self::Tar, Self::Xcp, Self::TarGzip, Self::Dd];

    /// Whether there is a copy afterwards.
    pub(crate) fn copies(self) -> bool {
        self != Self::Dd
    }

    /// The command that makes `to`, which is not there yet, a copy of the tree.
    pub(crate) fn command(self, programs: &Programs, tree: &Tree, to: &Path) -> Command {
        let from = &tree.root;
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-ec", script, "sh"]).arg(from).arg(to);
            command
        };
        let program = |program: &Path, options: &[&str]| {
            let mut command = Command::new(program);
            command.args(options).arg(from).arg(to);
            command
        };
        match self {
            Self::VastSync => {
                let mut command = program(&programs.copier, &["copy"]);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                command
            }
            Self::Cp => program(Path::new("cp"), &["-a"]),
            Self::Rsync => shell("rsync -a \"$1/\" \"$2\""),
            Self::Tar => shell("mkdir \"$2\" && tar -C \"$1\" -cf - . | tar -C \"$2\" -xpf -"),
            Self::Xcp => program(&programs.xcp, &["--recursive", "--no-progress", "--no-target-directory"]),
            Self::TarGzip => shell("mkdir \"$2\" && tar -C \"$1\" -czf - . | tar -C \"$2\" -xzpf -"),
            Self::Dd => {
                let mut command = Command::new("dd");
                command.arg("if=/dev/zero").arg(format!("of={}", to.display()));
                command.args(["bs=1M", "iflag=count_bytes", "status=none"]).arg(format!("count={}", tree.bytes));
                command
            }
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VastSync => "`vast-sync copy`",
            Self::Cp => "`cp -a`",
            Self::Rsync => "`rsync -a`",
            // A bar would end the cell of the table.
            Self::Tar => "`tar` to `tar`",
            Self::Xcp => "`xcp -r`",
            Self::TarGzip => "`tar -z` to `tar -z`",
            Self::Dd => "`dd`, the bound",
        })
    }
}

/// `xcp`, which is compiled at its first use.
pub(crate) fn xcp(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target("tools");
    let binary = root.join("bin/xcp");
    if !binary.exists() {
        eprintln!("compiling xcp {XCP}");
        let mut cargo = workspace.cargo();
        cargo.args(["install", "xcp", "--locked", "--quiet", "--version", XCP, "--root"]).arg(&root);
        process::run(&mut cargo)?;
    }
    Ok(binary)
}
