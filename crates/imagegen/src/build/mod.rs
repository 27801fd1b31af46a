//! Building images from Dockerfiles.
//!
//! A build goes through three steps: the Dockerfile is parsed ([`crate::dockerfile`]), planned for a platform (which stages
//! are needed, from what, and whether the native engine can do it), and carried out into a [`Built`] image, which nothing
//! has published yet. [`Built::publication`] hands it to [`crate::publish`].
//!
//! The **native** engine starts no process and needs no root: base layers are read for their headers only, new layers are
//! written straight from the context. The same input gives the same digest on any machine:
//!
//! * files of a context get mode 0755 or 0644 (as git keeps them), owner 0:0 unless `--chown`, and the build's
//!   [epoch](Options::epoch) as their time;
//! * entries are sorted, compression does not depend on the number of cores;
//! * nothing of the machine is recorded: no host name, no path, no clock.
//!
//! The **buildah** engine is the native one with `buildah` for what starts processes; the **buildkit** engine hands the whole
//! Dockerfile to `docker buildx build`. See the modules of those names.

mod archive;
mod buildah;
mod buildkit;
mod command;
pub(crate) mod config;
mod configure;
mod contexts;
mod copy;
mod engine;
pub(crate) mod envhash;
mod folder;
pub(crate) mod glob;
mod ignore;
mod layer_file;
mod native;
mod normalize;
mod origin;
pub(crate) mod output;
pub(crate) mod overlay;
mod owner;
mod plan;
mod problem;
mod records;
pub mod runner;
mod scope;
pub(crate) mod stack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

pub use contexts::{BASE_CONTEXT, base_context};
pub use engine::Engine;
pub use output::{Built, BuiltImage};
pub use overlay::Stamp;
pub use problem::{BuildProblem, Obstacle};
pub use runner::EngineError;

use crate::Error;
use crate::dockerfile::Dockerfile;
use crate::layer::{Compression, IndexCache, MAX_LAYER_BYTES, Writing};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::source::ImageSource;
use crate::transport::{TransportOptions, open_source};

/// The time that files get where `SOURCE_DATE_EPOCH` says nothing: 1980-01-01, the earliest that a zip archive (and so a
/// Python wheel made inside the image) can hold.
pub const DEFAULT_EPOCH: i64 = 315_532_800;

/// What is to be built, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The build context.
    pub folder: PathBuf,
    /// The Dockerfile, usually in `folder`.
    pub dockerfile: PathBuf,
    /// What for. More than one makes an index.
    pub platforms: Vec<Platform>,
    /// Values of `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// Further contexts by name, for `COPY --from=NAME` and `FROM NAME`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The stage to build instead of the last.
    pub target: Option<String>,
    /// Who carries out the instructions.
    pub engine: Engine,
    /// What [`Engine::Auto`] may choose from where the native engine cannot do it, the preferred one first.
    pub installed: Vec<Engine>,
    /// The builder of `docker buildx` to use instead of its current one.
    pub builder: Option<String>,
    /// How new layers are compressed.
    pub compression: Compression,
    /// The time of new files and of the image, in seconds since 1970.
    pub epoch: i64,
    /// How much hostile input may make of itself.
    pub limits: Limits,
    /// Threads that compress.
    pub threads: usize,
    /// Whether what is made stays on the disk of `work`, as in a layout there, which then writes it while it is made.
    pub local: bool,
    /// Where indexes of base layers are kept between builds.
    pub cache: Option<PathBuf>,
    /// Where temporary files go.
    pub work: PathBuf,
    /// `org.opencontainers.image.version`: of what the image packages.
    pub version: Option<String>,
    /// `org.opencontainers.image.revision`: of the repository that describes the image.
    pub revision: Option<String>,
    /// `org.opencontainers.image.title`.
    pub title: Option<String>,
}

impl Options {
    fn writing(&self, work: &Path) -> Writing {
        Writing { work: work.to_owned(), compression: self.compression, threads: self.threads, local: self.local }
    }
}

/// Bounds on what is unpacked, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What an archive of `ADD` may unpack to. It is unpacked into temporary files.
    pub archive_bytes: u64,
    /// What a layer of a base may unpack to. It is read for its headers and goes nowhere.
    pub layer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { archive_bytes: 8 << 30, layer_bytes: MAX_LAYER_BYTES }
    }
}

/// A context beside the main one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An image.
    Image(Reference),
}

/// Opens the images that a Dockerfile names.
#[async_trait]
pub trait Images: Send + Sync {
    /// Opens one image for reading.
    async fn open(&self, reference: &Reference) -> Result<Arc<dyn ImageSource>, Error>;
}

#[async_trait]
impl Images for TransportOptions {
    async fn open(&self, reference: &Reference) -> Result<Arc<dyn ImageSource>, Error> {
        open_source(reference, self).await.map(Arc::from)
    }
}

/// Watches a build.
pub trait Progress: Send + Sync {
    /// A step begins.
    fn step(&self, text: &str);

    /// Something looks wrong but does not stop the build.
    fn warning(&self, text: &str);

    /// A line that another engine printed.
    fn output(&self, line: &str);
}

/// A build that was planned and can be carried out or shown.
#[derive(Debug)]
pub struct Build {
    dockerfile: Dockerfile,
    options: Options,
    plans: Vec<plan::Plan>,
    engine: Engine,
}

impl Build {
    /// Reads and plans the Dockerfile, and chooses the engine. Nothing is fetched and nothing is written.
    ///
    /// # Errors
    /// A Dockerfile that cannot be read, parsed or planned; with [`Engine::Native`], one that needs a process.
    pub fn plan(options: Options) -> Result<Self, Error> {
        let request = |reason: &str| Error::Request { folder: options.folder.clone(), reason: reason.to_owned() };
        if !options.folder.is_dir() {
            return Err(request("it is not a directory"));
        }
        if options.platforms.is_empty() {
            return Err(request("no platform was chosen"));
        }
        let path = &options.dockerfile;
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let dockerfile = Dockerfile::parse(&path.display().to_string(), &text)?;
        let plans = options
            .platforms
            .iter()
            .map(|platform| plan::Plan::new(&dockerfile, &options, platform))
            .collect::<Result<Vec<_>, _>>()?;
        let obstacle = plans.iter().find_map(|plan| plan.obstacle(&dockerfile));
        let engine = match (options.engine, obstacle) {
            (Engine::Native, Some((line, obstacle))) => {
                return Err(plan::at(&dockerfile, line, BuildProblem::NeedsEngine(obstacle)));
            }
            (Engine::Auto, obstacle) => {
                let found = obstacle.as_ref().map(|(_, obstacle)| obstacle);
                match (Engine::choose(found, options.builder.as_deref(), &options.installed), obstacle) {
                    (Some(engine), _) => engine,
                    (None, Some((line, obstacle))) => {
                        return Err(plan::at(&dockerfile, line, BuildProblem::NoEngine(obstacle)));
                    }
                    (None, None) => Engine::Native,
                }
            }
            (chosen, _) => chosen,
        };
        if options.builder.is_some() && engine != Engine::Buildkit {
            return Err(request(&format!("the {engine} engine has no builders: --builder is for --engine buildkit")));
        }
        Ok(Self { dockerfile, options, plans, engine })
    }

    /// The engine that will be used.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The steps that the native engine carries out or another is asked for, one line each.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let Some(plan) = self.plans.first() else { return Vec::new() };
        let stage = |(number, _, base): &(usize, Platform, plan::Origins)| {
            let stage = &self.dockerfile.stages[*number];
            let from = match base {
                plan::Origins::Scratch => "scratch".to_owned(),
                plan::Origins::Stage(number) => format!("stage {number}"),
                plan::Origins::Directory(name, path) => format!("{name} ({})", path.display()),
                plan::Origins::Image(reference) => reference.to_string(),
            };
            let name = stage.name.as_ref().map_or_else(String::new, |name| format!(" AS {name}"));
            let instructions = stage.instructions.iter().map(|instruction| instruction.text.clone());
            std::iter::once(format!("FROM {from}{name}")).chain(instructions).collect::<Vec<_>>()
        };
        plan.stages.iter().flat_map(stage).collect()
    }

    /// Build arguments that were given but that no `ARG` declares.
    #[must_use]
    pub fn unused_build_args(&self) -> Vec<&str> {
        use crate::dockerfile::Instruction;
        let global = self.dockerfile.global_args.iter().flat_map(|located| &located.value);
        let instructions = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let own = instructions.filter_map(|located| match &located.value {
            Instruction::Arg(arguments) => Some(arguments),
            _ => None,
        });
        let declared: Vec<&str> = global.chain(own.flatten()).map(|argument| argument.name.as_str()).collect();
        let given = self.options.build_args.keys().map(String::as_str);
        given.filter(|name| !declared.contains(name)).collect()
    }

    /// Carries the build out. What it makes is in temporary files that go with the result, or with the error.
    ///
    /// # Errors
    /// The first instruction that cannot be carried out, with its file and line.
    pub async fn run(
        &self,
        images: &dyn Images,
        runner: &Arc<dyn runner::Runner>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Built, Error> {
        let parent = &self.options.work;
        let work = std::fs::create_dir_all(parent)
            .and_then(|()| tempfile::Builder::new().prefix("imagegen-").tempdir_in(parent))
            .map_err(|source| Error::File { action: "create", path: parent.clone(), source })?;
        for name in self.unused_build_args() {
            progress.warning(&format!("build argument `{name}` is not declared in `{}`", self.dockerfile.file));
        }
        let context = Context {
            dockerfile: &self.dockerfile,
            options: &self.options,
            images,
            progress,
            work: work.path(),
            cache: new_cache(&self.options),
        };
        let mut built = Vec::new();
        if self.engine == Engine::Buildkit {
            built = buildkit::build(&context, &self.plans, runner).await?;
        } else {
            for plan in &self.plans {
                let buildah = (self.engine == Engine::Buildah).then(|| buildah::Buildah::new(runner, work.path()));
                built.push(native::build(&context, plan, buildah.as_ref()).await?);
            }
        }
        Built::new(built, work)
    }
}

/// What every engine is given.
struct Context<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a Options,
    images: &'a dyn Images,
    progress: &'a Arc<dyn Progress>,
    work: &'a Path,
    /// What is known of layers from the layers themselves: no record is loaded into it.
    cache: IndexCache,
}

impl Context<'_> {
    /// A cache that shares with the build's what is on disk, which is what was read from the layers themselves.
    fn new_cache(&self) -> IndexCache {
        new_cache(self.options)
    }
}

fn new_cache(options: &Options) -> IndexCache {
    IndexCache::new(options.cache.as_deref()).with_layer_limit(options.limits.layer_bytes)
}
