//! Which stages a build needs, from what, and whether the native engine can carry them out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Options;
use super::envhash;
use super::problem::{BuildProblem, Obstacle};
use super::scope::Globals;
use crate::Error;
use crate::dockerfile::expand::expand;
use crate::dockerfile::{Dockerfile, Instruction, Source, Stage, Transfer};
use crate::platform::Platform;
use crate::reference::Reference;

/// What something is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origins {
    /// Nothing at all.
    Scratch,
    /// An earlier stage, by number.
    Stage(usize),
    /// A directory given with `--build-context`, and its name.
    Directory(String, PathBuf),
    /// An image.
    Image(Reference),
}

/// The build of one platform.
#[derive(Debug)]
pub(super) struct Plan {
    pub globals: Globals,
    /// The needed stages in order: number, platform and base.
    pub stages: Vec<(usize, Platform, Origins)>,
    /// The stage that becomes the image.
    pub target: usize,
    /// The images that the needed stages name in `FROM` and `--from`.
    pub images: Vec<NamedImage>,
}

/// An image, and how a Dockerfile calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedImage {
    /// As written, variables expanded.
    pub name: String,
    pub reference: Reference,
    /// Where.
    pub line: usize,
}

impl Plan {
    /// Plans `dockerfile` for `platform`.
    pub(super) fn new(dockerfile: &Dockerfile, options: &Options, platform: &Platform) -> Result<Self, Error> {
        let globals = Globals::new(dockerfile, &options.build_args, platform)
            .map_err(|(line, error)| at(dockerfile, line, error.into()))?;
        let target = match &options.target {
            None => dockerfile.stages.len() - 1,
            Some(name) => dockerfile.stage_before(name, dockerfile.stages.len()).ok_or_else(|| Error::Request {
                folder: options.folder.clone(),
                reason: format!("`{}` has no stage `{name}`", dockerfile.file),
            })?,
        };
        let mut needed = BTreeSet::from([target]);
        let mut stages = Vec::new();
        let mut images = Vec::new();
        let mut note = |name: String, origin: &Origins, line| {
            if let Origins::Image(reference) = origin {
                images.push(NamedImage { name, reference: reference.clone(), line });
            }
        };
        for number in (0..=target).rev() {
            if !needed.contains(&number) {
                continue;
            }
            let stage = &dockerfile.stages[number];
            let (name, base, stage_platform) = base(dockerfile, options, &globals, number, platform)
                .map_err(|problem| at(dockerfile, stage.line, problem))?;
            note(name, &base, stage.line);
            needed.extend(if let Origins::Stage(number) = base { Some(number) } else { None });
            for instruction in &stage.instructions {
                if let Some(from) = transfer(&instruction.value).and_then(|transfer| transfer.flags.from.as_deref()) {
                    let (name, origin) = copy_origin(dockerfile, options, &globals, number, from)
                        .map_err(|problem| at(dockerfile, instruction.line, problem))?;
                    note(name, &origin, instruction.line);
                    needed.extend(if let Origins::Stage(number) = origin { Some(number) } else { None });
                }
            }
            stages.push((number, stage_platform, base));
        }
        stages.reverse();
        Ok(Self { globals, stages, target, images })
    }

    /// The target's stage and those that it is built on, from the top down.
    pub(super) fn lineage(&self) -> Vec<usize> {
        let mut lineage = vec![self.target];
        while let Some((_, _, Origins::Stage(below))) = lineage.last().and_then(|number| self.stage(*number)) {
            lineage.push(*below);
        }
        lineage
    }

    /// What the target is built on in the end.
    pub(super) fn base(&self) -> &Origins {
        let bottom = self.lineage().pop().unwrap_or(self.target);
        self.stage(bottom).map_or(&Origins::Scratch, |(_, _, base)| base)
    }

    /// The platform of the target's stage.
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.stage(self.target).map(|(_, platform, _)| platform)
    }

    fn stage(&self, number: usize) -> Option<&(usize, Platform, Origins)> {
        self.stages.iter().find(|(known, _, _)| *known == number)
    }

    /// The first thing that the native engine cannot do, and its line.
    pub(super) fn obstacle(&self, dockerfile: &Dockerfile) -> Option<(usize, Obstacle)> {
        for (number, _, base) in &self.stages {
            let stage = &dockerfile.stages[*number];
            if let Origins::Directory(name, _) = base {
                return Some((stage.line, Obstacle::DirectoryBase(name.clone())));
            }
            let found = stage.instructions.iter().find_map(|i| obstacle(&i.value).map(|obstacle| (i.line, obstacle)));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// An error at a line of the Dockerfile.
pub(super) fn at(dockerfile: &Dockerfile, line: usize, problem: BuildProblem) -> Error {
    Error::Instruction { at: dockerfile.at(line), problem: Box::new(problem) }
}

/// What `COPY --from=text` of stage `number` copies from, and its name.
pub(super) fn copy_origin(
    dockerfile: &Dockerfile,
    options: &Options,
    globals: &Globals,
    number: usize,
    text: &str,
) -> Result<(String, Origins), BuildProblem> {
    let name = expand(text, &|name| globals.get(name), dockerfile.escape)?;
    let origin = named(dockerfile, options, number, &name)?;
    Ok((name, origin))
}

fn base(
    dockerfile: &Dockerfile,
    options: &Options,
    globals: &Globals,
    number: usize,
    platform: &Platform,
) -> Result<(String, Origins, Platform), BuildProblem> {
    let Stage { image, platform: own, .. } = &dockerfile.stages[number];
    let evaluate = |text: &str| expand(text, &|name| globals.get(name), dockerfile.escape);
    let platform = match own {
        None => platform.clone(),
        Some(text) => {
            let value = evaluate(text)?;
            value.parse().map_err(|_| BuildProblem::Value { value, why: "is not a platform such as linux/amd64" })?
        }
    };
    let name = evaluate(image)?;
    if name.is_empty() {
        let value = image.clone();
        return Err(BuildProblem::Value { value, why: "is empty: give the argument a value with --build-arg" });
    }
    if name == "scratch" {
        return Ok((name, Origins::Scratch, platform));
    }
    let origin = named(dockerfile, options, number, &name)?;
    Ok((name, origin, platform))
}

/// A name in `FROM` or `--from`: a build context goes before a stage, a stage before an image.
fn named(dockerfile: &Dockerfile, options: &Options, number: usize, name: &str) -> Result<Origins, BuildProblem> {
    match options.contexts.get(name) {
        Some(super::NamedContext::Directory(path)) => return Ok(Origins::Directory(name.to_owned(), path.clone())),
        Some(super::NamedContext::Image(reference)) => return Ok(Origins::Image(reference.clone())),
        None => {}
    }
    if let Some(stage) = dockerfile.stage_before(name, number) {
        return Ok(Origins::Stage(stage));
    }
    let reference: Result<Reference, _> = name.parse();
    Ok(Origins::Image(reference.map_err(|error| BuildProblem::Image(Box::new(error.into())))?))
}

fn transfer(instruction: &Instruction) -> Option<&Transfer> {
    match instruction {
        Instruction::Copy(transfer) | Instruction::Add(transfer) => Some(transfer),
        _ => None,
    }
}

/// What keeps the native engine from carrying an instruction out.
pub(super) fn obstacle(instruction: &Instruction) -> Option<Obstacle> {
    match instruction {
        Instruction::Run(run) if !envhash::is_environment_hash(run) => {
            let text = match &run.command {
                crate::dockerfile::Command::Shell(text) => text.clone(),
                crate::dockerfile::Command::Exec(words) => words.join(" "),
            };
            Some(Obstacle::Run(shortened(&text)))
        }
        Instruction::Copy(transfer) if transfer.flags.parents => Some(Obstacle::Flag("COPY --parents")),
        Instruction::Add(transfer) => {
            let remote = transfer.sources.iter().find_map(|source| match source {
                Source::Path(path) if is_remote(path) => Some(path),
                _ => None,
            });
            match remote {
                Some(url) => Some(Obstacle::Remote(url.clone())),
                None => transfer.flags.checksum.is_some().then_some(Obstacle::Flag("ADD --checksum")),
            }
        }
        _ => None,
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|scheme| source.starts_with(scheme))
}

/// A command as it fits into a message.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}
