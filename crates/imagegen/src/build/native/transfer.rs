//! `COPY` and `ADD`: where the sources are, and what the flags say.

use std::path::Path;

use super::paths::destination_in;
use super::{Native, Stage};
use crate::Error;
use crate::build::archive;
use crate::build::copy::{CopyOptions, LayerPlan};
use crate::build::folder::Folder;
use crate::build::ignore::Ignore;
use crate::build::origin::TreeOrigin;
use crate::build::owner::Chmod;
use crate::build::plan::{Origins, copy_origin};
use crate::build::problem::{BuildProblem, Obstacle};
use crate::build::stack::Stack;
use crate::dockerfile::{Source, Transfer};
use crate::layer::Tree;
use crate::platform::Platform;

/// Where a transfer's sources are.
enum FromWhere {
    Folder(Folder),
    Stack(Stack, String),
}

impl Native<'_> {
    /// Carries out a `COPY`, or an `ADD` if `add`.
    pub(super) async fn transfer(
        &mut self,
        number: usize,
        stage: &mut Stage,
        transfer: &Transfer,
        add: bool,
    ) -> Result<(), BuildProblem> {
        let context = self.context;
        let escape = context.dockerfile.escape;
        let options = self.transfer_options(stage, transfer).await?;
        let expand = |text: &str| stage.scope.expand(text, &stage.config, escape);
        let destination = destination_in(stage.config.workdir(), &expand(&transfer.destination)?);
        let mut paths = Vec::new();
        let mut documents = Vec::new();
        for source in &transfer.sources {
            match source {
                Source::Path(path) => paths.push(expand(path)?),
                Source::Heredoc(document) if document.expand => {
                    let body = stage.scope.expand_body(&document.content, &stage.config, escape)?;
                    documents.push((document.name.clone(), body));
                }
                Source::Heredoc(document) => documents.push((document.name.clone(), document.content.clone())),
            }
        }
        if paths.len() + documents.len() > 1 && !destination.ends_with('/') {
            return Err(BuildProblem::NotADirectory(destination));
        }

        let origin = match &transfer.flags.from {
            None => FromWhere::Folder(self.main_context()?),
            Some(from) => self.from(number, from, &stage.platform).await?,
        };
        let layer = stage.stack.layers.len();
        let tree = stage.stack.tree(&context.cache).await.map_err(Box::new)?;
        let mut plan = LayerPlan::new(tree, layer, context.options.epoch);
        let mut unpacked = Vec::new();
        if add && transfer.flags.unpack != Some(false) {
            let FromWhere::Folder(folder) = &origin else {
                return Err(BuildProblem::Refused("ADD has no --from".into()));
            };
            unpacked = archive::take(folder, &mut paths, context.work, context.options.limits.archive_bytes).await?;
        }
        // What an archive holds keeps its owners and modes; `--chown` is for the directory that is made for it.
        let as_it_is = CopyOptions { owner: None, mode: None, ..options.clone() };
        for archive in &unpacked {
            let directory = format!("{}/", destination.trim_end_matches('/'));
            if plan.lacks_directory(Path::new(&directory))? {
                plan.make_workdir(Path::new(&directory), options.owner)?;
            }
            plan.copy(&archive.origin(), &[".".to_owned()], &directory, &as_it_is)?;
        }
        if !paths.is_empty() {
            match &origin {
                FromWhere::Folder(folder) => plan.copy(folder, &paths, &destination, &options)?,
                FromWhere::Stack(stack, name) => {
                    let empty = Tree::default();
                    let tree = stack.tree_if_known().unwrap_or(&empty);
                    let origin = TreeOrigin { tree, name: name.clone(), spool: None, listed: None };
                    plan.copy(&origin, &paths, &destination, &options)?;
                }
            }
        }
        for (name, body) in documents {
            plan.put_bytes(&name, body.into_bytes(), &destination, &options)?;
        }
        let (entries, warnings) = plan.finish();
        for warning in warnings {
            context.progress.warning(&warning);
        }
        let stack = if let FromWhere::Stack(stack, _) = &origin { Some(stack) } else { None };
        self.push(stage, entries, stack).await?;
        drop(unpacked);
        Ok(())
    }

    fn copy_options(&self) -> CopyOptions {
        CopyOptions { epoch: self.context.options.epoch, ..CopyOptions::default() }
    }

    async fn transfer_options(&self, stage: &mut Stage, transfer: &Transfer) -> Result<CopyOptions, BuildProblem> {
        let escape = self.context.dockerfile.escape;
        let mut options = self.copy_options();
        if transfer.flags.parents {
            return Err(BuildProblem::NeedsEngine(Obstacle::Flag("COPY --parents")));
        }
        if let Some(text) = &transfer.flags.chmod {
            let value = stage.scope.expand(text, &stage.config, escape)?;
            let why = "it is neither octal digits nor a symbolic mode such as u=rwX,go=rX";
            options.mode = Some(Chmod::parse(&value).ok_or(BuildProblem::Flag { flag: "--chmod", value, why })?);
        }
        if let Some(text) = &transfer.flags.chown {
            let value = stage.scope.expand(text, &stage.config, escape)?;
            options.owner = Some(self.owner(stage, "--chown", value).await?);
        }
        let mut exclude = Vec::new();
        for pattern in &transfer.flags.exclude {
            exclude.push(stage.scope.expand(pattern, &stage.config, escape)?);
        }
        options.exclude = Ignore::excluding(&exclude).map_err(|_| BuildProblem::BadPattern(exclude.join(" ")))?;
        Ok(options)
    }

    fn main_context(&self) -> Result<Folder, BuildProblem> {
        let options = self.context.options;
        let ignore = Ignore::load(&options.folder, &options.dockerfile).map_err(Box::new)?;
        let name = format!("the build context `{}`", options.folder.display());
        Ok(Folder::new(&options.folder, ignore, name, options.epoch))
    }

    /// What `COPY --from=text` copies from.
    async fn from(&mut self, number: usize, text: &str, platform: &Platform) -> Result<FromWhere, BuildProblem> {
        let context = self.context;
        let globals = &self.plan.globals;
        let (_, origin) = copy_origin(context.dockerfile, context.options, globals, number, text)?;
        match origin {
            Origins::Scratch => Ok(FromWhere::Stack(Stack::default(), "scratch".to_owned())),
            Origins::Directory(name, path) => {
                if !path.is_dir() {
                    let why = "is given as a build context but is not a directory";
                    return Err(BuildProblem::Value { value: path.display().to_string(), why });
                }
                let ignore = Ignore::load(&path, &path.join("Dockerfile")).map_err(Box::new)?;
                let name = format!("the build context `{name}` (`{}`)", path.display());
                Ok(FromWhere::Folder(Folder::new(&path, ignore, name, context.options.epoch)))
            }
            Origins::Stage(earlier) => {
                let stage = self.stages.get_mut(&earlier).ok_or(Box::new(Error::Interrupted))?;
                stage.stack.tree(&context.cache).await.map_err(Box::new)?;
                Ok(FromWhere::Stack(stage.stack.clone(), format!("stage `{text}`")))
            }
            Origins::Image(reference) => {
                let key = format!("{reference} {platform}");
                if !self.images.contains_key(&key) {
                    let mut stage = self.base(&reference, platform).await?;
                    stage.stack.tree(&context.cache).await.map_err(Box::new)?;
                    self.images.insert(key.clone(), stage.stack);
                }
                Ok(FromWhere::Stack(self.images.get(&key).cloned().unwrap_or_default(), format!("`{reference}`")))
            }
        }
    }
}
