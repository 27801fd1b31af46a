//! The `BuildKit` engine: `docker buildx build`, on whatever builder it is given.
//!
//! The whole Dockerfile is `BuildKit`'s. What is ours:
//!
//! 1. every image that it names is looked up first and handed over as a build context pinned by digest, so that the builder
//!    builds on what was looked up, whatever the name means to it a moment later;
//! 2. the result comes back as an OCI layout in an archive. It must be the image that `buildx` says it wrote, for every
//!    platform that was asked for, and begin with the layers of the base that was pinned;
//! 3. its own layers are [normalised](super::normalize) and compressed as the native engine does. Layers of the base are
//!    published from where the base is, not from the archive;
//! 4. its environment is [recorded](super::records::environment_of) where the image or its base has a hash of one.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::command::{absolute, execute, file};
use super::config::Config;
use super::normalize;
use super::output::{Base, BuiltImage, Records};
use super::overlay::Stamp;
use super::plan::{Origins, Plan, at};
use super::problem::BuildProblem;
use super::records::{Stated, environment_of};
use super::runner::{EngineError, Invocation, Runner};
use super::stack::{LayerBlob, StackLayer, layers_of};
use super::{Context, NamedContext};
use crate::Error;
use crate::digest::Digest;
use crate::dockerfile::Instruction;
use crate::dockerfile::expand::expand;
use crate::error::with_causes;
use crate::record::{RecordedIndexes, recorded_environment};
use crate::reference::{FileReference, Reference};
use crate::source::{Image, ImageSource};

const PROGRAM: &str = "docker";

/// What `buildx` records about a build, and where it writes the image: names without a character that its lists of values
/// would take for its own.
const METADATA: &str = "metadata.json";
const ARCHIVE: &str = "image.tar";

/// Builds every platform of `plans` at once.
pub(super) async fn build(
    context: &Context<'_>,
    plans: &[Plan],
    runner: &Arc<dyn Runner>,
) -> Result<Vec<BuiltImage>, Error> {
    let work = context.work.join(PROGRAM);
    fs::create_dir(&work).map_err(file("create", &work))?;
    let _ending = EndAll(runner);
    let pins = pinned(context, plans).await?;
    let invocation = invocation(context, &pins, &work)?;
    context.progress.step(&format!("docker buildx build of `{}`", context.options.folder.display()));
    let outcome = execute(runner, context.progress, invocation, Noted::line).await?;
    if !outcome.succeeded {
        return Err(failure(context, outcome.noted, outcome.lines));
    }
    let source = open_result(context, &work).await?;
    let mut images = Vec::new();
    for plan in plans {
        images.push(take(context, plan, &pins, &source).await?);
    }
    Ok(images)
}

/// The command line, complete.
fn invocation(context: &Context<'_>, pins: &Pins, work: &Path) -> Result<Invocation, Error> {
    let options = context.options;
    let platforms: Vec<String> = options.platforms.iter().map(ToString::to_string).collect();
    let mut command = Invocation::new(PROGRAM).current_dir(work).args(["buildx", "build"]);
    if let Some(builder) = &options.builder {
        command = command.args(["--builder", builder]);
    }
    command = command.args(["--progress", "plain", "--platform", &platforms.join(",")]);
    command = command.arg("--file").arg(absolute(&options.dockerfile)?);
    if let Some(target) = &options.target {
        command = command.args(["--target", target]);
    }
    let mut arguments = options.build_args.clone();
    // BuildKit dates what it makes itself by this argument; one that was given is meant.
    arguments.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert_with(|| options.epoch.to_string());
    for (name, value) in &arguments {
        command = command.arg("--build-arg").arg(format!("{name}={value}"));
    }
    for (name, named) in &options.contexts {
        if let NamedContext::Directory(path) = named {
            let mut value = OsString::from(format!("{name}="));
            value.push(absolute(path)?);
            command = command.arg("--build-context").arg(value);
        }
    }
    for (name, value) in &pins.contexts {
        let mut argument = OsString::from(format!("{name}="));
        argument.push(value);
        command = command.arg("--build-context").arg(argument);
    }
    command = command.args(["--provenance=false", "--sbom=false", "--metadata-file", METADATA]);
    Ok(command.args(["--output", &format!("type=oci,dest={ARCHIVE}")]).arg(absolute(&options.folder)?))
}

/// What was looked up before the build.
#[derive(Default)]
struct Pins {
    /// Images as build contexts: the name that `BuildKit` looks for, and the image with its digest.
    contexts: Vec<(String, OsString)>,
    digests: HashMap<Reference, Digest>,
}

/// Looks up the images that the needed stages name.
async fn pinned(context: &Context<'_>, plans: &[Plan]) -> Result<Pins, Error> {
    let mut pins = Pins::default();
    for image in plans.iter().flat_map(|plan| &plan.images) {
        let given = context.options.contexts.contains_key(&image.name);
        let here = |problem| at(context.dockerfile, image.line, problem);
        let name = match (&image.reference, given) {
            (_, true) => image.name.clone(),
            // A digest in the Dockerfile is as good as one of ours.
            (Reference::Registry(registry), false) if registry.digest().is_some() => continue,
            (Reference::Registry(registry), false) => familiar(&registry.bare()),
            _ => {
                let text = format!("BuildKit cannot build on `{}` by that name", image.name);
                return Err(here(BuildProblem::Unnamed(text)));
            }
        };
        if pins.contexts.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let source = context.images.open(&image.reference).await;
        let source = source.map_err(|error| here(BuildProblem::Image(Box::new(error))))?;
        let top = source.top().await.map_err(|error| here(BuildProblem::Image(Box::new(error))))?;
        pins.digests.insert(image.reference.clone(), top.digest());
        let value = context_value(&image.reference, top.digest())
            .ok_or_else(|| here(BuildProblem::Unnamed(format!("BuildKit cannot build on `{}`", image.reference))))?;
        pins.contexts.push((name, value?));
    }
    Ok(pins)
}

/// How `--build-context` names an image with a digest; `None` for what `BuildKit` cannot read.
fn context_value(reference: &Reference, digest: Digest) -> Option<Result<OsString, Error>> {
    match reference {
        Reference::Registry(registry) => {
            let repository = format!("{}/{}", registry.registry(), registry.repository());
            Some(Ok(format!("docker-image://{repository}@{digest}").into()))
        }
        Reference::OciLayout(layout) => {
            let path = match absolute(&layout.path) {
                Ok(path) => path,
                Err(error) => return Some(Err(error)),
            };
            // buildx ends the path at either of these.
            let fits = path.to_str().is_some_and(|text| !text.contains([':', '@']));
            fits.then(|| Ok(format!("oci-layout://{}@{digest}", path.display()).into()))
        }
        Reference::OciArchive(_) | Reference::DockerArchive(_) => None,
    }
}

/// The name under which `BuildKit` looks for a context that replaces an image: short as people write it, without `latest`.
fn familiar(full: &str) -> String {
    let name = full.strip_prefix("docker.io/").map_or(full, |rest| rest.strip_prefix("library/").unwrap_or(rest));
    name.strip_suffix(":latest").unwrap_or(name).to_owned()
}

/// What is remembered of the output.
#[derive(Default)]
struct Noted {
    /// The line of the Dockerfile that failed.
    line: Option<usize>,
    /// The last line that a process printed.
    said: Option<String>,
}

impl Noted {
    fn line(&mut self, line: &str) -> bool {
        if let Some(number) = failed_line(line) {
            self.line = Some(number);
        }
        if let Some(said) = process_output(line) {
            self.said = Some(said.to_owned());
        }
        true
    }
}

/// The number in `Dockerfile:5`, alone on its line: how `BuildKit` names the place of a failure.
fn failed_line(line: &str) -> Option<usize> {
    let (name, number) = line.rsplit_once(':')?;
    let is_name = !name.is_empty() && !name.contains([' ', ':', '/']);
    number.parse().ok().filter(|_| is_name)
}

/// The text in `#7 0.123 text`: what a process printed.
fn process_output(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    let (seconds, text) = rest.split_once(' ')?;
    let is_time = seconds.contains('.') && seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fits = is_time && number.bytes().all(|byte| byte.is_ascii_digit()) && !text.trim().is_empty();
    fits.then(|| text.trim())
}

/// The error of a build that failed: at its line if a process of the Dockerfile did.
fn failure(context: &Context<'_>, noted: Noted, output: Vec<String>) -> Error {
    let status = output.iter().rev().find_map(|line| line.split_once("did not complete successfully: "));
    if let (Some((_, status)), Some(line)) = (status, noted.line) {
        let said = noted.said.unwrap_or_else(|| "it printed nothing".to_owned());
        return at(context.dockerfile, line, BuildProblem::Process { status: status.to_owned(), said });
    }
    EngineError::Failed { program: PROGRAM.to_owned(), verb: "buildx build".to_owned(), output }.into()
}

/// Opens what was written, if it is what `buildx` says it wrote.
async fn open_result(context: &Context<'_>, work: &Path) -> Result<Arc<dyn ImageSource>, Error> {
    let metadata = fs::read(work.join(METADATA)).map_err(|_| bad("it recorded nothing about it"))?;
    let metadata: Value = serde_json::from_slice(&metadata).map_err(|_| bad("what it recorded about it is no JSON"))?;
    let said = metadata["containerimage.digest"].as_str().ok_or_else(|| bad("it recorded no digest"))?;
    let archive = FileReference { path: work.join(ARCHIVE), name: None, digest: None };
    let unreadable = |error: Error| bad(format!("it cannot be read: {}", with_causes(&error)));
    let source = context.images.open(&Reference::OciArchive(archive)).await.map_err(unreadable)?;
    let top = source.top().await.map_err(unreadable)?.digest().to_string();
    if top == said { Ok(source) } else { Err(bad(format!("it is {top}, but {said} was recorded"))) }
}

/// One platform's image out of the result.
async fn take(
    context: &Context<'_>,
    plan: &Plan,
    pins: &Pins,
    source: &Arc<dyn ImageSource>,
) -> Result<BuiltImage, Error> {
    let platform = plan.platform().ok_or(Error::Interrupted)?;
    let unusable = |error: Error| bad(format!("for {platform}: {}", with_causes(&error)));
    let image = source.image(platform).await.map_err(unusable)?;
    let layers = layers_of(&image, &LayerBlob::Source(Arc::clone(source)), &source.reference()).map_err(unusable)?;
    let below = base(context, plan, pins).await?;
    let mut kept = below.as_ref().map_or_else(Vec::new, |below| below.layers.clone());
    if layers.len() < kept.len() || layers.iter().zip(&kept).any(|(a, b)| a.diff_id != b.diff_id) {
        return Err(bad(format!("for {platform}: it does not begin with the layers of the base that was pinned")));
    }
    let own = layers.len() - kept.len();
    for layer in &layers[kept.len()..] {
        kept.push(StackLayer::built(normalize::anew(layer, context).await?));
    }
    let malformed =
        |error| Error::Malformed { what: "configuration", reference: source.reference(), source: Box::new(error) };
    let mut config = Config::parse(&image.raw_config).map_err(malformed)?;
    if let Some(trigger) = config.onbuild().first() {
        let text = format!("ONBUILD {trigger} is refused: OCI images have no triggers");
        return Err(at(context.dockerfile, context.dockerfile.stages[plan.target].line, BuildProblem::Refused(text)));
    }
    let inherited = below.as_ref().map_or(0, |below| below.image.config.history().as_ref().map_or(0, Vec::len));
    config.forget_builder(&context.options.created(), inherited);
    let base = match plan.base() {
        Origins::Image(reference) => below.as_ref().map(|below| Base::of(reference, &below.image)),
        _ => None,
    };
    let mut stated = below.map(|below| below.stated).unwrap_or_default();
    // Of this image alone: what is recorded with it goes in there, and of another image that is no knowledge.
    let cache = context.new_cache();
    stated.indexes.retain_true(&kept, &cache).await?;
    let inventory = environment_of(context, platform, &kept, own, &mut stated, &cache).await?;
    let records = Records { base, own_labels: own_labels(context, plan) };
    let mut built = BuiltImage::assemble(platform.clone(), config, kept, &records, &Stamp::of(context.options))?;
    built.record_indexes(&stated.indexes, &cache).await?;
    built.record_environment(inventory.as_ref())?;
    Ok(built)
}

/// A base as it was pinned.
struct Below {
    image: Image,
    layers: Vec<StackLayer>,
    /// What is recorded with it, which is handed on: none of its layers is read to be recorded.
    stated: Stated,
}

/// The image at the bottom of the target's stages; `None` on scratch and on a directory.
async fn base(context: &Context<'_>, plan: &Plan, pins: &Pins) -> Result<Option<Below>, Error> {
    let Origins::Image(reference) = plan.base() else { return Ok(None) };
    // By the digest that was handed over: what the name means may have changed while the builder was at work.
    let pinned = pins.digests.get(reference).map_or_else(|| reference.clone(), |digest| reference.pinned(*digest));
    let source = context.images.open(&pinned).await?;
    let image = source.image(plan.platform().ok_or(Error::Interrupted)?).await?;
    let stated = Stated {
        indexes: RecordedIndexes::of(&source, &image).await?,
        environment: recorded_environment(&*source, &image).await?,
    };
    let layers = layers_of(&image, &LayerBlob::Source(source), reference)?;
    Ok(Some(Below { image, layers, stated }))
}

/// The labels that the target's stages set.
fn own_labels(context: &Context<'_>, plan: &Plan) -> BTreeSet<String> {
    let stages = plan.lineage().into_iter().map(|number| &context.dockerfile.stages[number]);
    let pairs = stages.flat_map(|stage| &stage.instructions).filter_map(|instruction| match &instruction.value {
        Instruction::Label(pairs) => Some(pairs),
        _ => None,
    });
    let key = |(key, _): &(String, String)| expand(key, &|name| plan.globals.get(name), context.dockerfile.escape).ok();
    pairs.flatten().filter_map(key).collect()
}

fn bad(why: impl Into<String>) -> Error {
    EngineError::BadResult { program: PROGRAM.to_owned(), why: why.into() }.into()
}

/// Ends what an interrupted build left running.
struct EndAll<'a>(&'a Arc<dyn Runner>);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_buildkit_looks_for() {
        for (full, expected) in [
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/library/debian:latest", "debian"),
            ("docker.io/vastai/pytorch:2.9", "vastai/pytorch:2.9"),
            ("ghcr.io/a/b:latest", "ghcr.io/a/b"),
            ("127.0.0.1:5000/a:v1", "127.0.0.1:5000/a:v1"),
        ] {
            assert_eq!(familiar(full), expected);
        }
    }

    #[test]
    fn a_failure_is_placed_by_what_buildkit_prints() {
        assert_eq!(failed_line("Dockerfile:12"), Some(12));
        for other in ["Dockerfile", "ERROR: x:12", "a/b:12", ":3", "Dockerfile:x", "#5 0.1 f:12"] {
            assert_eq!(failed_line(other), None, "{other}");
        }
        assert_eq!(process_output("#7 0.123 make: no rule"), Some("make: no rule"));
        for other in ["#7 DONE 0.1s", "#7 [2/2] RUN make", "7 0.1 x", "#7 0.123  ", "#x 0.1 y"] {
            assert_eq!(process_output(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_buildkit_can_read_is_handed_over() {
        let digest = Digest::of(b"x");
        let value = |text: &str| context_value(&text.parse().unwrap(), digest).map(|value| value.unwrap());
        assert_eq!(
            value("vastai/pytorch:2.9"),
            Some(format!("docker-image://docker.io/vastai/pytorch@{digest}").into())
        );
        assert_eq!(value("oci-archive:x.tar"), None);
        let directory = tempfile::Builder::new().prefix("with@").tempdir().unwrap();
        assert_eq!(value(&format!("oci:{}", directory.path().display())), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        assert_eq!(
            value(&format!("oci:{}:v1", path.display())),
            Some(format!("oci-layout://{}@{digest}", path.display()).into())
        );
    }
}
