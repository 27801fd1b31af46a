//! The native engine: carries out the instructions that need no process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vast_envhash::Inventory;

use super::buildah::{Buildah, State};
use super::config::Config;
use super::configure::{Own, configure};
use super::copy::{CopyOptions, LayerPlan, Planned};
use super::folder::Folder;
use super::ignore::Ignore;
use super::origin::{Content, ItemKind, TreeOrigin};
use super::output::{Base, BuiltImage, Records};
use super::overlay::{Overlay, Stamp, Writing};
use super::owner::{Chmod, Chown};
use super::plan::{Origins, Plan, at, copy_origin, obstacle};
use super::problem::{BuildProblem, Obstacle};
use super::scope::Scope;
use super::stack::{LayerBlob, Stack, StackLayer, blocking, layers_of};
use super::{Context, archive, envhash, layer_file};
use crate::Error;
use crate::dockerfile::{Instruction, Located, Source, Transfer};
use crate::layer::{ContentRef, NodeKind, Resolved, Tree};
use crate::platform::Platform;
use crate::record::{LayerPackages, RecordedIndexes, recorded_environment};
use crate::reference::Reference;
use crate::source::{Image, ImageSource};

/// A stage as far as it has been built.
#[derive(Clone)]
struct Stage {
    platform: Platform,
    stack: Stack,
    config: Config,
    /// The image at the bottom; `None` on scratch.
    base: Option<Below>,
    own: Own,
    scope: Scope,
    /// What the recorded environment hash stands for, and how many layers there were then.
    environment: Option<(Inventory, usize)>,
    /// What the database of one of the layers has for installed packages, if it was read.
    packages: Option<LayerPackages>,
}

/// The image at the bottom of a stage.
#[derive(Clone)]
struct Below {
    base: Base,
    source: Arc<dyn ImageSource>,
    image: Image,
}

/// Builds one platform; `processes` carries out what this engine cannot.
pub(super) async fn build(
    context: &Context<'_>,
    plan: &Plan,
    processes: Option<&Buildah<'_>>,
) -> Result<BuiltImage, Error> {
    let mut native = Native { context, plan, processes, stages: BTreeMap::new(), images: BTreeMap::new() };
    for (number, platform, base) in &plan.stages {
        native.stage(*number, platform, base).await?;
    }
    let target = native.stages.remove(&plan.target).ok_or(Error::Interrupted)?;
    // What the base says about its layers is handed on, so that none of them is read to be recorded.
    let below = target.base;
    let mut recorded = match &below {
        Some(below) => RecordedIndexes::of(&below.source, &below.image).await?,
        None => RecordedIndexes::default(),
    };
    // What was hashed, or what is recorded of the base, unless a later layer may have changed it.
    let (inventory, hashed) = match (target.environment, &below) {
        (Some((inventory, layers)), _) => (Some(inventory), layers),
        (None, Some(below)) => {
            let layers = below.image.manifest.layers().len();
            (recorded_environment(&*below.source, &below.image).await?, layers)
        }
        (None, None) => (None, 0),
    };
    let mut later = target.stack.layers.iter().skip(hashed);
    let inventory = inventory.filter(|_| later.all(StackLayer::leaves_environment));
    let records = Records { base: below.map(|below| below.base), own_labels: target.own.labels };
    let layers = target.stack.layers;
    recorded.retain_true(&layers, &context.cache).await?;
    if let Some(packages) = &target.packages {
        recorded.note_packages(packages)?;
    }
    let stamp = Stamp::of(context.options);
    let mut image = BuiltImage::assemble(target.platform, target.config, layers, &records, &stamp)?;
    image.record_indexes(&recorded, &context.cache).await?;
    image.record_environment(inventory.as_ref())?;
    Ok(image)
}

struct Native<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan,
    processes: Option<&'a Buildah<'a>>,
    stages: BTreeMap<usize, Stage>,
    /// Images that `COPY --from` names, by reference.
    images: BTreeMap<String, Stack>,
}

impl Native<'_> {
    async fn stage(&mut self, number: usize, platform: &Platform, base: &Origins) -> Result<(), Error> {
        let context = self.context;
        let written = &context.dockerfile.stages[number];
        let fail = |problem| at(context.dockerfile, written.line, problem);
        let mut stage = match base {
            Origins::Scratch => Stage {
                platform: platform.clone(),
                stack: Stack::default(),
                config: Config::scratch(platform),
                base: None,
                own: Own::default(),
                scope: Scope::default(),
                environment: None,
                packages: None,
            },
            Origins::Stage(earlier) => {
                let mut stage = self.stages.get(earlier).cloned().ok_or(Error::Interrupted)?;
                (stage.scope, stage.own.has_cmd) = (Scope::default(), false);
                stage
            }
            Origins::Image(reference) => {
                context.progress.step(&format!("FROM {reference}"));
                self.base(reference, platform).await.map_err(fail)?
            }
            Origins::Directory(name, _) => {
                return Err(fail(BuildProblem::NeedsEngine(Obstacle::DirectoryBase(name.clone()))));
            }
        };
        let mut left = written.instructions.as_slice();
        while let Some((instruction, rest)) = left.split_first() {
            let count = left.iter().take_while(|instruction| obstacle(&instruction.value).is_some()).count();
            if let (1.., Some(processes)) = (count, self.processes) {
                let (run, rest) = left.split_at(count);
                self.run(processes, &mut stage, run)
                    .await
                    .map_err(|(line, problem)| at(context.dockerfile, line, problem))?;
                left = rest;
                continue;
            }
            left = rest;
            context.progress.step(&instruction.text);
            self.instruction(number, &mut stage, instruction)
                .await
                .map_err(|problem| at(context.dockerfile, instruction.line, problem))?;
        }
        self.stages.insert(number, stage);
        Ok(())
    }

    /// Has instructions carried out that this engine cannot.
    async fn run(
        &self,
        processes: &Buildah<'_>,
        stage: &mut Stage,
        instructions: &[Located<Instruction>],
    ) -> Result<(), (usize, BuildProblem)> {
        let context = self.context;
        for instruction in instructions {
            context.progress.step(&instruction.text);
        }
        let before = State {
            platform: &stage.platform,
            config: &stage.config,
            layers: &stage.stack.layers,
            scope: &stage.scope,
        };
        let layers = processes.run(context, &before, instructions).await?;
        let made = layers.len();
        for layer in layers {
            let pushed = stage.stack.push_foreign(StackLayer::built(layer)).await;
            pushed.map_err(|error| (instructions[0].line, BuildProblem::Image(Box::new(error))))?;
        }
        for (number, instruction) in instructions.iter().enumerate() {
            stage.config.add_history(&context.options.created(), &instruction.text, number < made);
        }
        Ok(())
    }

    /// The beginning of a stage built on an image.
    async fn base(&self, reference: &Reference, platform: &Platform) -> Result<Stage, BuildProblem> {
        let source = self.context.images.open(reference).await.map_err(Box::new)?;
        let image = source.image(platform).await.map_err(Box::new)?;
        let config = Config::parse(&image.raw_config).map_err(|error| {
            let source = Box::new(error);
            Box::new(Error::Malformed { what: "configuration", reference: reference.to_string(), source })
        })?;
        if let Some(trigger) = config.onbuild().first() {
            let text = format!("`{reference}` has the trigger `ONBUILD {trigger}`, which is not run here");
            return Err(BuildProblem::Refused(text));
        }
        let base = Base::of(reference, &image);
        let blob = LayerBlob::Source(Arc::clone(&source));
        Ok(Stage {
            platform: platform.clone(),
            stack: Stack::new(layers_of(&image, &blob, reference).map_err(Box::new)?),
            config,
            base: Some(Below { base, source, image }),
            own: Own::default(),
            scope: Scope::default(),
            environment: None,
            packages: None,
        })
    }

    async fn instruction(
        &mut self,
        number: usize,
        stage: &mut Stage,
        instruction: &Located<Instruction>,
    ) -> Result<(), BuildProblem> {
        let escape = self.context.dockerfile.escape;
        let made_layer = match &instruction.value {
            Instruction::Copy(transfer) => {
                self.transfer(number, stage, transfer, false).await?;
                true
            }
            Instruction::Add(transfer) => {
                self.transfer(number, stage, transfer, true).await?;
                true
            }
            Instruction::Workdir(path) => {
                let path = stage.scope.expand(path, &stage.config, escape)?;
                let path = clean(&joined(stage.config.workdir(), &path));
                stage.config.set_workdir(&path);
                self.workdir(stage, Path::new(&path)).await?
            }
            Instruction::Run(run) if envhash::is_environment_hash(run) => {
                self.environment_hash(stage).await?;
                true
            }
            Instruction::Run(_) => {
                return Err(BuildProblem::NeedsEngine(Obstacle::Run(instruction.text.clone())));
            }
            Instruction::Arg(arguments) => {
                let given = &self.context.options.build_args;
                let globals = &self.plan.globals;
                stage.scope.declare(arguments, given, globals, &stage.config, escape)?;
                false
            }
            other => {
                configure(other, &mut stage.config, &stage.scope, &mut stage.own, escape)?;
                false
            }
        };
        stage.config.add_history(&self.context.options.created(), &instruction.text, made_layer);
        Ok(())
    }

    async fn workdir(&self, stage: &mut Stage, path: &Path) -> Result<bool, BuildProblem> {
        let number = stage.stack.layers.len();
        let tree = stage.stack.tree(&self.context.cache).await.map_err(Box::new)?;
        if !LayerPlan::new(tree, number, self.context.options.epoch).lacks_directory(path)? {
            return Ok(false);
        }
        // As BuildKit: what is made belongs to the user that works in it.
        let owner = match stage.config.user().to_owned() {
            root if root.is_empty() => None,
            user => Some(self.owner(stage, "USER", user).await?),
        };
        let tree = stage.stack.tree(&self.context.cache).await.map_err(Box::new)?;
        let mut plan = LayerPlan::new(tree, number, self.context.options.epoch);
        plan.make_workdir(path, owner)?;
        let (entries, _) = plan.finish();
        self.push(stage, entries, None).await?;
        Ok(true)
    }

    async fn environment_hash(&self, stage: &mut Stage) -> Result<(), BuildProblem> {
        let context = self.context;
        let installed = envhash::installed(&mut stage.stack, &context.cache, &stage.platform, context.work);
        let installed = installed.await.map_err(Box::new)?;
        stage.packages = installed.of_layer();
        let inventory = installed.inventory.map_err(|error| Box::new(Error::from(error)))?;
        let number = stage.stack.layers.len();
        let tree = stage.stack.tree(&context.cache).await.map_err(Box::new)?;
        let planned = Overlay::environment_hash(tree, number, &inventory.hash.to_string(), context.options.epoch)?;
        let (compression, threads) = (context.options.compression, context.options.threads);
        let how = Writing { work: context.work.to_owned(), compression, threads };
        stage.stack.push_planned(blocking(move || planned.write(&how)).await.map_err(Box::new)??);
        stage.environment = Some((inventory, stage.stack.layers.len()));
        Ok(())
    }

    async fn transfer(
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

    /// The numbers of `value`, the value of `flag`, in the image's own databases.
    async fn owner(&self, stage: &mut Stage, flag: &'static str, value: String) -> Result<(u64, u64), BuildProblem> {
        let why = "it is not of the form user[:group]";
        let chown = Chown::parse(&value).ok_or(BuildProblem::Flag { flag, value, why })?;
        let (mut passwd, mut group) = (String::new(), String::new());
        if chown.needs_names() {
            passwd = self.text_of(stage, "etc/passwd").await?;
            group = self.text_of(stage, "etc/group").await?;
        }
        chown.numbers(&passwd, &group).map_err(BuildProblem::NoOwner)
    }

    /// A small text file of the image, empty where there is none.
    async fn text_of(&self, stage: &mut Stage, path: &str) -> Result<String, BuildProblem> {
        const MOST: u64 = 16 * 1024 * 1024;
        let tree = stage.stack.tree(&self.context.cache).await.map_err(Box::new)?;
        let Resolved::Path(path) = tree.resolve(Path::new(path), true) else { return Ok(String::new()) };
        let Some(NodeKind::File { size, content }) = tree.get(&path).map(|node| node.kind.clone()) else {
            return Ok(String::new());
        };
        if size > MOST {
            return Err(BuildProblem::Refused(format!("`/{}` of the image is absurdly large", path.display())));
        }
        let (cache, work) = (&self.context.cache, self.context.work);
        let spool = stage.stack.contents(&BTreeSet::from([content]), cache, work).await.map_err(Box::new)?;
        let file = spool.path(content).map(Path::to_owned).unwrap_or_default();
        std::fs::read(&file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|source| BuildProblem::Unreadable { path: file, source })
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

    /// Writes the planned layer and puts it on the stage; `from` has the contents that come from layers.
    async fn push(
        &self,
        stage: &mut Stage,
        entries: Vec<(PathBuf, Planned)>,
        from: Option<&Stack>,
    ) -> Result<(), BuildProblem> {
        let context = self.context;
        let wanted: BTreeSet<ContentRef> = entries
            .iter()
            .filter_map(|(_, planned)| match &planned.kind {
                ItemKind::File { content: Content::Layer(place), .. } => Some(*place),
                _ => None,
            })
            .collect();
        let spool = match from {
            Some(stack) if !wanted.is_empty() => {
                Some(stack.contents(&wanted, &context.cache, context.work).await.map_err(Box::new)?)
            }
            _ => None,
        };
        let (work, compression, threads) =
            (context.work.to_owned(), context.options.compression, context.options.threads);
        let written = blocking(move || layer_file::write(&entries, spool.as_ref(), &work, compression, threads)).await;
        let layer = StackLayer::built(written.map_err(Box::new)??);
        stage.stack.layers.push(layer);
        Ok(())
    }
}

/// Where a transfer's sources are.
enum FromWhere {
    Folder(Folder),
    Stack(Stack, String),
}

/// `path` below `workdir` unless it is absolute; a trailing slash or `.` stays, because it has a meaning.
fn joined(workdir: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", workdir.trim_end_matches('/')) }
}

/// `path` below `workdir`, without `.` and `..`, as a text: links are not looked at, as in `BuildKit`. It ends with a slash
/// where `path` names a directory by itself, which only a slash and a lone dot do.
fn destination_in(workdir: &str, path: &str) -> String {
    let mut cleaned = clean(&joined(workdir, path));
    if (path.ends_with('/') || matches!(path, "" | ".")) && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// A working directory as the configuration holds it: absolute, without `.`, `..` and surplus slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_cleaned_and_says_whether_it_names_a_directory() {
        for (workdir, path, expected) in [
            ("/", ".", "/"),
            ("/", "a", "/a"),
            ("/srv", ".", "/srv/"),
            ("/srv", "", "/srv/"),
            ("/srv", "a/", "/srv/a/"),
            ("/srv", "./a/.", "/srv/a"),
            ("/srv", "..", "/"),
            ("/srv", "../../x/", "/x/"),
            ("/srv", "/x//y/../z", "/x/z"),
        ] {
            assert_eq!(destination_in(workdir, path), expected, "{workdir} {path}");
        }
    }
}
