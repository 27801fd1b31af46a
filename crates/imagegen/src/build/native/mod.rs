//! The native engine: carries out the instructions that need no process.

mod names;
mod paths;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vast_envhash::Inventory;

use self::paths::{clean, joined};
use super::buildah::{Buildah, State};
use super::config::Config;
use super::configure::{Own, configure};
use super::copy::{LayerPlan, Planned};
use super::origin::{Content, ItemKind};
use super::output::{Base, BuiltImage, Records};
use super::overlay::{Overlay, Stamp};
use super::plan::{Origins, Plan, at, obstacle};
use super::problem::{BuildProblem, Obstacle};
use super::scope::Scope;
use super::stack::{LayerBlob, Stack, StackLayer, blocking, layers_of};
use super::{Context, envhash, layer_file};
use crate::Error;
use crate::dockerfile::{Instruction, Located};
use crate::layer::ContentRef;
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
        let how = context.options.writing(context.work);
        stage.stack.push_planned(blocking(move || planned.write(&how)).await.map_err(Box::new)??);
        stage.environment = Some((inventory, stage.stack.layers.len()));
        Ok(())
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
        let how = context.options.writing(context.work);
        let written = blocking(move || layer_file::write(&entries, spool.as_ref(), &how)).await;
        let layer = StackLayer::built(written.map_err(Box::new)??);
        stage.stack.layers.push(layer);
        Ok(())
    }
}
