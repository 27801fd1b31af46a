//! A folder of this machine as one layer on top of an image, by the rules of `COPY folder/ /`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Options;
use super::config::Config;
use super::copy::{CopyOptions, LayerPlan, Planned};
use super::envhash;
use super::folder::Folder;
use super::ignore::Ignore;
use super::layer_file;
use super::origin::ItemKind;
use super::output::{REVISION, TITLE, VERSION};
use super::problem::BuildProblem;
use super::stack::StackLayer;
use crate::layer::{Tree, Writing};

/// A planned layer.
pub(crate) struct Overlay {
    entries: Vec<(PathBuf, Planned)>,
    /// What looks wrong but does not stop anybody.
    pub(crate) warnings: Vec<String>,
}

impl Overlay {
    /// Plans layer number `number` on top of `tree`, which has it afterwards.
    pub(crate) fn plan(tree: &mut Tree, number: usize, folder: &Path, epoch: i64) -> Result<Self, BuildProblem> {
        let name = format!("the overlay `{}`", folder.display());
        if !folder.is_dir() {
            return Err(BuildProblem::Value { value: folder.display().to_string(), why: "is not a directory" });
        }
        let folder = Folder::new(folder, Ignore::default(), name, epoch);
        let mut plan = LayerPlan::new(tree, number, epoch);
        plan.copy(&folder, &[".".to_owned()], "/", &CopyOptions { epoch, ..CopyOptions::default() })?;
        let (entries, warnings) = plan.finish();
        Ok(Self { entries, warnings })
    }

    /// Plans the layer that records an environment hash.
    pub(crate) fn environment_hash(
        tree: &mut Tree,
        number: usize,
        hash: &str,
        epoch: i64,
    ) -> Result<Self, BuildProblem> {
        let mut plan = LayerPlan::new(tree, number, epoch);
        let options = CopyOptions { epoch, ..CopyOptions::default() };
        plan.put_bytes(".env_hash", format!("{hash}\n").into_bytes(), envhash::FILE, &options)?;
        let (entries, warnings) = plan.finish();
        Ok(Self { entries, warnings })
    }

    /// The planned paths, parents included, and whether each is a directory.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.entries.iter().map(|(path, planned)| (path.as_path(), planned.kind == ItemKind::Directory))
    }

    /// Leaves out directories that only lead to something: those that are there keep what they are, and those that are not
    /// are made by whoever unpacks the layer, as plain directories.
    pub(crate) fn without_parents(mut self) -> Self {
        let parents: BTreeSet<PathBuf> =
            self.entries.iter().flat_map(|(path, _)| path.ancestors().skip(1)).map(Path::to_owned).collect();
        self.entries.retain(|(path, _)| !parents.contains(path));
        self
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the layer. This blocks.
    pub(crate) fn write(&self, how: &Writing) -> Result<StackLayer, BuildProblem> {
        let file = layer_file::write(&self.entries, None, how)?;
        Ok(StackLayer::built(file))
    }
}

/// What an image says about itself, for images that no Dockerfile describes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The time of new files and of the image, in seconds since 1970.
    pub epoch: i64,
    /// `org.opencontainers.image.version`; what the image says already stays where there is none.
    pub version: Option<String>,
    /// `org.opencontainers.image.revision`, with the same rule.
    pub revision: Option<String>,
    /// `org.opencontainers.image.title`, with the same rule.
    pub title: Option<String>,
}

impl Stamp {
    /// The records of a build.
    pub(super) fn of(options: &Options) -> Self {
        Self {
            epoch: options.epoch,
            version: options.version.clone(),
            revision: options.revision.clone(),
            title: options.title.clone(),
        }
    }

    /// The epoch as RFC 3339 text, which configurations and records hold.
    pub(crate) fn created(&self) -> String {
        let time = jiff::Timestamp::from_second(self.epoch).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.to_string()
    }
}

impl Config {
    /// The stamp of an image made of this one: what it says about itself stays where `stamp` says nothing.
    pub(crate) fn stamp_over(&self, stamp: &Stamp) -> Stamp {
        let or = |own: &Option<String>, label: &str| own.clone().or_else(|| self.label(label).map(str::to_owned));
        Stamp {
            epoch: stamp.epoch,
            version: or(&stamp.version, VERSION),
            revision: or(&stamp.revision, REVISION),
            title: or(&stamp.title, TITLE),
        }
    }
}
