//! The tree that is copied: a virtual environment as it is in an image for `torch`.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::tools::{Tool, Tools};
use crate::workspace::Workspace;

/// What is installed. `torch` brings CUDA's libraries, which are most of the bytes; the others most of the entries.
const REQUIREMENTS: &[&str] = &[
    "torch==2.15.0",
    "torchvision==0.29.2",
    "torchaudio==2.11.0",
    "transformers==5.24.0",
    "accelerate==1.15.0",
    "diffusers==0.42.1",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "pandas==3.1.1",
    "scikit-learn==1.9.1",
    "matplotlib==3.11.2",
    "jupyterlab==4.6.6",
];

/// The part that is copied where the whole would take too long with the slowest contender.
const PART: &str = "scipy";

/// A tree, and what it amounts to.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Content of regular files, each inode once.
    pub(crate) bytes: u64,
    /// Entries of any kind, the root included.
    pub(crate) entries: u64,
}

impl Tree {
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let (mut bytes, mut entries, mut linked) = (0, 0, HashSet::new());
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.with_context(|| format!("cannot list `{}`", root.display()))?;
            let facts = entry.metadata().with_context(|| format!("cannot look at `{}`", entry.path().display()))?;
            entries += 1;
            if facts.is_file() && (facts.nlink() == 1 || linked.insert(facts.ino())) {
                bytes += facts.len();
            }
        }
        Ok(Self { root: root.to_owned(), bytes, entries })
    }

    /// Reads everything, so that it is in memory as far as that goes.
    pub(crate) fn read(&self) -> Result<()> {
        for entry in walkdir::WalkDir::new(&self.root) {
            let entry = entry.context("cannot list the tree")?;
            if entry.file_type().is_file() {
                let mut file = File::open(entry.path()).context("cannot read the tree")?;
                io::copy(&mut file, &mut io::sink()).context("cannot read the tree")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MB in {} entries", self.bytes as f64 / 1e6, self.entries)
    }
}

/// The environment in the folder that all benchmarks share.
pub(crate) fn ready(workspace: &Workspace, tools: &Tools) -> Result<PathBuf> {
    let folder = workspace.target("bench/sync");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    venv(tools, &folder)
}

/// The environment, installed into `folder` unless it is there.
fn venv(tools: &Tools, folder: &Path) -> Result<PathBuf> {
    let (venv, stamp) = (folder.join("venv"), folder.join("venv.txt"));
    let wanted = REQUIREMENTS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(venv);
    }
    eprintln!("installing from PyPI: {}", REQUIREMENTS.join(" "));
    process::run(tools.command(Tool::Uv)?.args(["venv", "--quiet", "--clear"]).arg(&venv))?;
    let python = venv.join("bin/python");
    let mut install = tools.command(Tool::Uv)?;
    // Without a cache each file has one name, as in an image.
    install.args(["pip", "install", "--quiet", "--no-cache", "--python"]).arg(python).args(REQUIREMENTS);
    process::run(&mut install)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write `{}`", stamp.display()))?;
    Ok(venv)
}

/// One package of the environment; the whole of a tree that is another.
pub(crate) fn part(venv: &Path) -> Result<Tree> {
    let found = process::stdout(Command::new("find").arg(venv).args([
        "-maxdepth",
        "4",
        "-type",
        "d",
        "-path",
        &format!("*/site-packages/{PART}"),
    ]))?;
    match found.lines().next() {
        Some(folder) => Tree::of(Path::new(folder)),
        None if venv.is_dir() => Tree::of(venv),
        None => bail!("`{}` is no folder", venv.display()),
    }
}
