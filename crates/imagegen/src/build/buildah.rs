//! The buildah engine: for Dockerfiles that run processes.
//!
//! Every base is resolved and pinned here first, then pulled by buildah into a storage of this build's own, and the
//! Dockerfile handed over names it by the identity of what was pulled. So `bud` fetches nothing, and turning TLS
//! verification off for a registry on this machine turns it off for nothing else. The result comes back as an OCI layout:
//! it must begin with the layers of its base, which are then taken from where they came from, byte for byte, and its new
//! layers are [normalised](super::normalize) and compressed as the native engine does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Config;
use super::native::layers_of;
use super::normalize::{self, Failed};
use super::output::{Base, BuiltImage, Records};
use super::plan::{Origins, at};
use super::problem::BuildProblem;
use super::runner::{EngineError, Invocation, Runner};
use super::stack::{LayerBlob, StackLayer, blocking};
use super::{Context, NamedContext};
use crate::Error;
use crate::digest::Digest;
use crate::dockerfile::{Dockerfile, Instruction, Stage};
use crate::platform::Platform;
use crate::reference::{FileReference, Reference};
use crate::source::{Image, ImageSource};

const PROGRAM: &str = "buildah";

/// Lines of output that are kept for an error's message.
const KEPT_LINES: usize = 20;

/// Builds one platform.
pub(super) async fn build(context: &Context<'_>, runner: &Arc<dyn Runner>) -> Result<BuiltImage, Error> {
    let storage = Storage::open(context, runner).await?;
    let mut bases = BTreeMap::new();
    for (number, platform, origin) in &context.plan.stages {
        if let Origins::Image(reference) = origin {
            let line = context.dockerfile.stages[*number].line;
            let fail = |error| at(context.dockerfile, line, BuildProblem::Image(Box::new(error)));
            context.progress.step(&format!("FROM {reference}"));
            bases.insert(*number, storage.pull(reference, platform).await.map_err(fail)?);
        }
    }
    let identities = bases.iter().map(|(number, base)| (*number, base.identity.clone())).collect();
    let text = fs::read_to_string(&context.options.dockerfile).map_err(file("read", &context.options.dockerfile))?;
    let pinned = context.work.join("Dockerfile.pinned");
    fs::write(&pinned, pin(&text, context.dockerfile, &identities)).map_err(file("write", &pinned))?;
    let layout = storage.bud(&pinned).await?;

    let built = context.images.open(&layout).await?;
    let image = built.image(&context.plan.platform).await?;
    let base = base_stage(context).and_then(|number| bases.remove(&number));
    finish(context, &layout, &built, &image, base).await
}

/// A base as it was pulled.
struct Pulled {
    identity: String,
    source: Arc<dyn ImageSource>,
    image: Image,
    reference: Reference,
}

/// A storage of buildah's in the build's own directory.
struct Storage<'a> {
    context: &'a Context<'a>,
    runner: &'a Arc<dyn Runner>,
    directory: PathBuf,
    driver: &'static str,
}

impl<'a> Storage<'a> {
    async fn open(context: &'a Context<'a>, runner: &'a Arc<dyn Runner>) -> Result<Self, Error> {
        let directory = context.work.join("buildah");
        let mut storage = Self { context, runner, directory, driver: "overlay" };
        // Overlays cannot lie on overlays, as in a container; there, whole copies have to do.
        if storage.run("info", storage.invocation().arg("info"), false).await.is_err() {
            storage.driver = "vfs";
            storage.directory.set_file_name("buildah-vfs");
        }
        Ok(storage)
    }

    fn invocation(&self) -> Invocation {
        Invocation::new(PROGRAM)
            .arg("--root")
            .arg(self.directory.join("root"))
            .arg("--runroot")
            .arg(self.directory.join("run"))
            .args(["--storage-driver", self.driver])
    }

    /// Pulls a base, pinned to what it is now.
    async fn pull(&self, reference: &Reference, platform: &Platform) -> Result<Pulled, Error> {
        let source = self.context.images.open(reference).await?;
        let image = source.image(platform).await?;
        let mut invocation = self.invocation().args(["pull", "--quiet", "--platform"]).arg(platform.to_string());
        if let Reference::Registry(registry) = reference
            && registry.is_loopback()
        {
            invocation = invocation.arg("--tls-verify=false");
        }
        let name = pinned_name(reference, image.raw.digest())?;
        let output = self.run("pull", invocation.arg(&name), false).await?;
        let identity = output.iter().rev().find(|line| is_identity(line)).cloned();
        let bad = || EngineError::BadResult { program: PROGRAM.to_owned(), why: format!("no identity for `{name}`") };
        Ok(Pulled { identity: identity.ok_or_else(bad)?, source, image, reference: reference.clone() })
    }

    /// Builds, and gives the result as an OCI layout.
    async fn bud(&self, dockerfile: &Path) -> Result<Reference, Error> {
        let options = self.context.options;
        let identity_file = self.context.work.join("image-id");
        let mut invocation = self
            .invocation()
            .args(["bud", "--isolation", "chroot", "--format", "oci", "--identity-label=false", "--pull-never"])
            .args(["--layers", "--force-rm", "--platform"])
            .arg(self.context.plan.platform.to_string())
            .arg("--iidfile")
            .arg(&identity_file)
            .arg("--file")
            .arg(dockerfile);
        if let Some(target) = &options.target {
            invocation = invocation.arg("--target").arg(target);
        }
        for (name, value) in &options.build_args {
            invocation = invocation.arg("--build-arg").arg(format!("{name}={value}"));
        }
        for (name, context) in &options.contexts {
            let value = match context {
                NamedContext::Directory(path) => absolute(path)?.into_os_string(),
                NamedContext::Image(Reference::Registry(registry)) => {
                    format!("docker-image://{}", registry.bare()).into()
                }
                // A FROM of it was pinned; only COPY --from remains, and buildah takes registries there alone.
                NamedContext::Image(_) => continue,
            };
            let mut argument = std::ffi::OsString::from(format!("{name}="));
            argument.push(value);
            invocation = invocation.arg("--build-context").arg(argument);
        }
        let ignore = ignore_file(options);
        if let Some(ignore) = &ignore {
            invocation = invocation.arg("--ignorefile").arg(ignore);
        }
        self.run("bud", invocation.arg(absolute(&options.folder)?), true).await?;
        let identity = fs::read_to_string(&identity_file).map_err(file("read", &identity_file))?;

        let layout =
            FileReference { path: self.context.work.join("result"), name: Some("image".to_owned()), digest: None };
        let layout = Reference::OciLayout(layout);
        let push = self.invocation().args(["push", "--quiet", "--disable-compression", "--format", "oci"]);
        self.run("push", push.arg(identity.trim()).arg(layout.to_string()), false).await?;
        Ok(layout)
    }

    /// Runs one command of buildah; its lines, or the error that they end with.
    async fn run(&self, verb: &str, invocation: Invocation, show: bool) -> Result<Vec<String>, Error> {
        let (runner, progress) = (Arc::clone(self.runner), Arc::clone(self.context.progress));
        let (outcome, mut lines) = blocking(move || {
            let mut lines = Vec::new();
            let outcome = runner.run(&invocation, &mut |line| {
                if show {
                    progress.output(line);
                }
                if lines.len() == KEPT_LINES {
                    lines.remove(0);
                }
                lines.push(line.to_owned());
            });
            (outcome, lines)
        })
        .await?;
        let program = PROGRAM.to_owned();
        match outcome {
            Ok(true) => Ok(lines),
            Ok(false) => {
                // buildah ends with where it is and the exit status of what failed; what that printed stands above.
                lines.retain(|line| !line.trim().is_empty());
                let subject = self.context.dockerfile.file.clone();
                Err(EngineError::Failed { program, verb: verb.to_owned(), subject, output: lines }.into())
            }
            Err(source) => Err(EngineError::NotStarted { program, source }.into()),
        }
    }
}

impl Drop for Storage<'_> {
    /// Containers that a killed build left are unmounted, so that the directory can be removed.
    fn drop(&mut self) {
        for directory in ["buildah", "buildah-vfs"] {
            let root = self.context.work.join(directory).join("root");
            let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
            let below = |line: &str| line.split(' ').nth(4).map(PathBuf::from).filter(|place| place.starts_with(&root));
            let mut places: Vec<PathBuf> = mounts.lines().filter_map(below).collect();
            places.sort();
            for place in places.iter().rev() {
                // What cannot be unmounted is not ours to force.
                let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// The image as this crate publishes it.
async fn finish(
    context: &Context<'_>,
    layout: &Reference,
    built: &Arc<dyn ImageSource>,
    image: &Image,
    base: Option<Pulled>,
) -> Result<BuiltImage, Error> {
    let bad = |why: String| Error::from(EngineError::BadResult { program: PROGRAM.to_owned(), why });
    let mut config = Config::parse(&image.raw_config).map_err(|error| bad(error.to_string()))?;
    let theirs = layers_of(image, &LayerBlob::Source(Arc::clone(built)), layout)?;
    let mut layers = Vec::new();
    let mut old_history = 0;
    if let Some(base) = &base {
        layers = layers_of(&base.image, &LayerBlob::Source(Arc::clone(&base.source)), &base.reference)?;
        let same = theirs.len() >= layers.len() && theirs.iter().zip(&layers).all(|(a, b)| a.diff_id == b.diff_id);
        if !same {
            return Err(bad(format!("it does not begin with the layers of `{}`", base.reference)));
        }
        let base_config = Config::parse(&base.image.raw_config).map_err(|error| bad(error.to_string()))?;
        old_history = base_config.history_len();
    }
    let kept = layers.len();
    for layer in &theirs[kept..] {
        context.progress.step(&format!("normalise layer {}", layers.len() - kept + 1));
        layers.push(normalized(context, layer, built, layout).await?);
    }
    config.set_created(&context.options.created(), config.history_len().saturating_sub(old_history));
    let records = Records {
        base: base.map(|base| Base::of(&base.reference, &base.image)),
        own_labels: own_labels(context.dockerfile, context),
    };
    BuiltImage::assemble(context.plan.platform.clone(), config, layers, &records, context.options)
}

async fn normalized(
    context: &Context<'_>,
    layer: &StackLayer,
    built: &Arc<dyn ImageSource>,
    layout: &Reference,
) -> Result<StackLayer, Error> {
    let blob = built.open_blob(&layer.descriptor).await?;
    let options = context.options;
    let (epoch, work, compression, threads) =
        (options.epoch, context.work.to_owned(), options.compression, options.threads);
    let written = blocking(move || normalize::layer(blob, epoch, &work, compression, threads)).await?;
    match written {
        Ok(file) => Ok(StackLayer::built(file)),
        Err(Failed::Writing(source)) => {
            Err(Error::File { action: "write a layer in", path: context.work.to_owned(), source })
        }
        Err(Failed::Reading(source)) => {
            Err(Error::Layer { reference: layout.to_string(), digest: layer.descriptor.digest().to_string(), source })
        }
    }
}

/// The stages from the target down to its external base.
fn chain(context: &Context<'_>) -> Vec<usize> {
    let mut chain = vec![context.plan.target];
    while let Some((_, _, Origins::Stage(below))) =
        context.plan.stages.iter().find(|(number, ..)| Some(number) == chain.last())
    {
        chain.push(*below);
    }
    chain
}

fn base_stage(context: &Context<'_>) -> Option<usize> {
    chain(context).last().copied()
}

fn own_labels(dockerfile: &Dockerfile, context: &Context<'_>) -> BTreeSet<String> {
    let stages = chain(context).into_iter().map(|number| &dockerfile.stages[number]);
    let instructions = stages.flat_map(|stage: &Stage| &stage.instructions);
    let labels = instructions.filter_map(|located| match &located.value {
        Instruction::Label(pairs) => Some(pairs),
        _ => None,
    });
    labels.flatten().map(|(key, _)| key.trim_matches(['"', '\'']).to_owned()).collect()
}

/// The Dockerfile with every `FROM` of an image naming what was pulled for it.
fn pin(text: &str, dockerfile: &Dockerfile, identities: &BTreeMap<usize, String>) -> String {
    let mut lines: Vec<Option<String>> = text.lines().map(|line| Some(line.to_owned())).collect();
    for (number, identity) in identities {
        let stage = &dockerfile.stages[*number];
        let name = stage.name.as_ref().map_or_else(String::new, |name| format!(" AS {name}"));
        for line in &mut lines[stage.line - 1..stage.last_line] {
            *line = None;
        }
        lines[stage.line - 1] = Some(format!("FROM {identity}{name}"));
    }
    // Lines that are gone stay empty, so that what buildah says about lines is true of the user's file.
    lines.into_iter().map(|line| line.unwrap_or_default() + "\n").collect()
}

/// A reference as containers-tools take it, pinned where the transport can be.
fn pinned_name(reference: &Reference, digest: Digest) -> Result<String, Error> {
    match reference {
        Reference::Registry(registry) => {
            Ok(format!("docker://{}/{}@{digest}", registry.registry(), registry.repository()))
        }
        Reference::OciLayout(file) | Reference::OciArchive(file) | Reference::DockerArchive(file)
            if file.digest.is_some() =>
        {
            let why = format!("it cannot read `{reference}` by its digest");
            Err(EngineError::BadResult { program: PROGRAM.to_owned(), why }.into())
        }
        other => Ok(other.to_string()),
    }
}

fn is_identity(line: &str) -> bool {
    line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The ignore file, which buildah would look for beside the pinned Dockerfile.
fn ignore_file(options: &super::Options) -> Option<PathBuf> {
    let mut own = options.dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    [PathBuf::from(own), options.folder.join(".dockerignore")].into_iter().find(|path| path.is_file())
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(file("find", path))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
