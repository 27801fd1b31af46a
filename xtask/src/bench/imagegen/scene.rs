//! What the tasks are done on: two registries, a large image and its base, a small one of the same shape, an overlay.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use vast_tests::registry::Registry;

use crate::bench::sync::source::Tree;
use crate::process;
use crate::workspace::Workspace;

/// How large the base is, and what is on it: 1.4 GB together.
const BASE_BYTES: u64 = 1_000_000_000;
const APP_BYTES: u64 = 400_000_000;

/// The layers of a base that hold its files; one more holds what is mended.
const BASE_LAYERS: usize = 3;

/// Everything that was prepared; gone with the value.
#[derive(Debug)]
pub(crate) struct Scene {
    binary: PathBuf,
    registry: Registry,
    other: Registry,
    app: Tree,
    base_bytes: u64,
    folder: TempDir,
}

impl Scene {
    /// Makes images out of packages of the environment `venv`, and publishes them.
    pub(crate) fn new(workspace: &Workspace, binary: PathBuf, venv: &Path) -> Result<Self> {
        // On a disk: `/tmp` may be memory.
        let parent = workspace.target("bench");
        let folder = tempfile::tempdir_in(&parent).with_context(|| format!("cannot work in `{}`", parent.display()))?;
        let at = |name: &str| folder.path().join(name);
        let packages = Packages::of(venv)?;
        let (base, app) = packages.choose()?;
        for (number, part) in base.iter().enumerate() {
            packages.copy(part, &at("large-base").join(format!("part-{number}")))?;
        }
        packages.copy(&app, &at("large/app"))?;
        // The same shape, a hundredth of the size.
        for number in 0..BASE_LAYERS {
            write(&at("small-base").join(format!("part-{number}/file")), &vec![b'x'; 3_000_000])?;
        }
        write(&at("small/app/file"), &vec![b'y'; 4_000_000])?;
        let parts: Vec<_> = (0..BASE_LAYERS).map(|number| format!("COPY part-{number} /opt/part-{number}")).collect();
        let parts = parts.join("\n");
        for name in ["large-base", "small-base"] {
            write(
                &at(name).join("Dockerfile"),
                format!("FROM scratch\n{parts}\nCOPY mended /etc/mended\n").as_bytes(),
            )?;
        }
        for name in ["large", "small"] {
            write(&at(name).join("Dockerfile"), b"ARG BASE\nFROM ${BASE}\nCOPY app /opt/app\n")?;
        }
        write(&at("tree/Dockerfile"), b"FROM scratch\nCOPY app /\n")?;
        fs::rename(at("large/app"), at("tree/app")).context("cannot share the application")?;
        link_all(&at("tree/app"), &at("large/app"))?;
        write(&at("overlay/opt/added/script.sh"), b"#!/bin/sh\necho added\n")?;

        let scene = Self {
            binary,
            registry: Registry::start(&at("registry"))?,
            other: Registry::start(&at("other"))?,
            app: Tree::of(&at("tree/app"))?,
            base_bytes: Tree::of(&at("large-base"))?.bytes,
            folder,
        };
        for name in ["large", "small"] {
            let base = format!("{name}-base");
            for version in ["1", "2"] {
                write(&scene.at(&base).join("mended"), version.as_bytes())?;
                scene.publish(&scene.at(&base), &format!("{}/{base}:{version}", scene.registry()), None)?;
            }
            let from = format!("{}/{base}:1", scene.registry());
            scene.publish(&scene.at(name), &format!("{}/{name}:1", scene.registry()), Some(&from))?;
        }
        let image = format!("{}/large:1", scene.registry());
        process::run(
            Command::new(&scene.binary).arg("copy").arg(image).arg(format!("oci:{}:large", scene.layout().display())),
        )?;
        Ok(scene)
    }

    fn publish(&self, folder: &Path, to: &str, base: Option<&str>) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("build").arg(folder).args(["--engine", "native", "--to", to]);
        if let Some(base) = base {
            command.arg("--build-arg").arg(format!("BASE={base}"));
        }
        process::run(&mut command)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty working folder, and an overlay that no run before had.
    pub(crate) fn prepare(&self, number: u32) -> Result<()> {
        self.clear()?;
        fs::create_dir_all(self.work()).context("cannot create the working folder")?;
        write(&self.overlay().join("opt/added/run"), number.to_string().as_bytes())?;
        process::run(Command::new("sync").arg("-f").arg(self.folder.path()))
    }

    /// Removes what a run has left.
    pub(crate) fn clear(&self) -> Result<()> {
        // buildah leaves what it mounted.
        let mounted = self.work().join("storage/overlay");
        if mounted.exists() {
            let _ = process::succeeds(Command::new("umount").arg("-q").arg(&mounted))?;
        }
        process::run(Command::new("rm").arg("-rf").arg(self.work()))
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(crate) fn registry(&self) -> String {
        self.registry.host()
    }

    pub(crate) fn other_registry(&self) -> String {
        self.other.host()
    }

    /// Where a contender works.
    pub(crate) fn work(&self) -> PathBuf {
        self.at("work")
    }

    /// The files of a layer that is to be made.
    pub(crate) fn tree(&self) -> PathBuf {
        self.at("tree/app")
    }

    /// The folder of an image that has that layer alone.
    pub(crate) fn tree_folder(&self) -> PathBuf {
        self.at("tree")
    }

    /// The folder of the large image.
    pub(crate) fn app_folder(&self) -> PathBuf {
        self.at("large")
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.at("overlay")
    }

    /// The large image on disk.
    pub(crate) fn layout(&self) -> PathBuf {
        self.at("layout")
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "A layer of {}; an image of that on a base of {:.0} MB", self.app, self.base_bytes as f64 / 1e6)
    }
}

/// A folder of more is taken apart into what is in it, so that parts can be filled.
const PACKAGE_BYTES: u64 = 100_000_000;

/// Packages of an environment and parts of packages, the largest first.
struct Packages {
    /// The folder that the paths begin at.
    site: PathBuf,
    found: Vec<(PathBuf, u64)>,
}

impl Packages {
    fn of(venv: &Path) -> Result<Self> {
        let library = fs::read_dir(venv.join("lib")).context("cannot list the environment")?.next();
        let library = library.context("the environment has no interpreter")?.context("cannot list the environment")?;
        let mut packages = Self { site: library.path().join("site-packages"), found: Vec::new() };
        packages.add(Path::new(""))?;
        packages.found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        Ok(packages)
    }

    /// Adds what is in `folder`, itself where that is not too much.
    fn add(&mut self, folder: &Path) -> Result<()> {
        let listed = self.site.join(folder);
        for entry in fs::read_dir(&listed).with_context(|| format!("cannot list `{}`", listed.display()))? {
            let path = folder.join(entry.context("cannot list the environment")?.file_name());
            let tree = Tree::of(&self.site.join(&path))?;
            if tree.bytes > PACKAGE_BYTES && tree.entries > 1 {
                self.add(&path)?;
            } else {
                self.found.push((path, tree.bytes));
            }
        }
        Ok(())
    }

    fn copy(&self, packages: &[PathBuf], to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("cannot create `{}`", to.display()))?;
        process::run(Command::new("cp").args(["-a", "--parents"]).args(packages).arg(to).current_dir(&self.site))
    }

    /// The parts of a base, and an application; large packages first, as long as they fit.
    fn choose(&self) -> Result<(Vec<Vec<PathBuf>>, Vec<PathBuf>)> {
        let mut parts = vec![Vec::new(); BASE_LAYERS];
        let mut app = Vec::new();
        let mut room = vec![BASE_BYTES / BASE_LAYERS as u64; BASE_LAYERS];
        room.push(APP_BYTES);
        for (package, bytes) in &self.found {
            // What does not fit into the base any more goes into the application.
            let Some(place) = (0..room.len()).find(|place| room[*place] >= *bytes) else { continue };
            room[place] -= bytes;
            parts.get_mut(place).unwrap_or(&mut app).push(package.clone());
        }
        if room.iter().sum::<u64>() > (BASE_BYTES + APP_BYTES) / 10 {
            bail!("the environment has too little for an image of {} MB", (BASE_BYTES + APP_BYTES) / 1_000_000);
        }
        Ok((parts, app))
    }
}

/// The same files under second names.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("cp").args(["-a", "--link"]).args([from, to]))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write `{}`", path.display()))
}
