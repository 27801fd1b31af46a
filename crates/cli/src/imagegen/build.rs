//! `vast-imagegen build`: what the user typed, what it means, and what is printed about it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::build::runner::{Runner, System};
use vast_imagegen::build::{BASE_CONTEXT, Build, Built, Engine, Limits, NamedContext, Options, Progress, base_context};
use vast_imagegen::definition::Definition;
use vast_imagegen::env_vars;
use vast_imagegen::layer::Compression;
use vast_imagegen::platform::Platform;
use vast_imagegen::publish::publish;
use vast_imagegen::reference::Reference;
use vast_imagegen::transport::open_sink;

use super::transport::TransportArgs;
use super::{progress, published, session, stamp, text};
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image's folder: Dockerfile, ROOT/, image.toml.
    folder: PathBuf,
    /// Where the image goes: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]` or `oci-archive:FILE`.
    #[arg(long, value_name = "REF")]
    to: Reference,
    /// The Dockerfile, if not FOLDER/Dockerfile.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What to build for; several make one multi-platform image. [default: this machine]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// The value of an ARG; without `=VALUE` it is taken from the environment.
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// A further context for COPY --from=NAME: a directory, or an image with its transport.
    #[arg(long, value_name = "NAME=DIR|REF")]
    build_context: Vec<String>,
    /// The stage to build instead of the last.
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Who carries out the instructions: auto, native, buildkit or buildah.
    #[arg(long, default_value = "auto")]
    engine: Engine,
    /// The builder that `docker buildx` uses, local or remote; asks for the buildkit engine.
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// How new layers are compressed: gzip or zstd.
    #[arg(long, default_value = "gzip")]
    compression: Compression,
    /// The most that an archive of ADD may unpack to.
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = text::bytes)]
    max_archive: u64,
    /// The most that a layer of a base may unpack to.
    #[arg(long, value_name = "SIZE", default_value = "256GiB", value_parser = text::bytes)]
    max_layer: u64,
    /// The version of what the image packages. [default: the value of the folder's ref-arg]
    #[arg(long, value_name = "VERSION")]
    image_version: Option<String>,
    /// The commit that the folder is from. [default: `$GITHUB_SHA`]
    #[arg(long, value_name = "COMMIT")]
    revision: Option<String>,
    /// Where indexes of base layers are kept. [default: `$XDG_CACHE_HOME/vast-imagegen`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was built as JSON.
    #[arg(long)]
    json: bool,
    /// Plan, print the steps and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Builds and publishes.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let env = session::environment();
    let planned = Build::plan(options(args, &env)?)?;
    if args.dry_run {
        print_plan(args, &planned);
        return Ok(Exit::Success);
    }
    let transports = args.transport.options(&env);
    let watch: Arc<dyn Progress> = Arc::new(Lines);
    let runner: Arc<dyn Runner> = Arc::new(System::default());
    session::publishing(&transports, async {
        // A destination that cannot be written to is found before the work is done, not after.
        let sink = open_sink(&args.to, &transports).await?;
        let built = planned.run(&transports, &runner, &watch).await?;
        let published =
            publish(&built.publication(), &*sink, args.transport.parallel(), &*progress::progress()).await?;
        published::warn(&published, &args.to);
        print_result(args, planned.engine(), &built);
        Ok(Exit::Success)
    })
}

/// What the command line means in this environment.
fn options(args: &Args, env: &BTreeMap<String, String>) -> Result<Options, Error> {
    let request = |reason: String| Error::Request { folder: args.folder.clone(), reason };
    let definition = Definition::load(&args.folder)?;
    let mut build_args = definition.as_ref().map(Definition::default_build_args).unwrap_or_default();
    for argument in &args.build_arg {
        match argument.split_once('=') {
            Some((name, value)) => {
                build_args.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = env.get(argument) {
                    build_args.insert(argument.clone(), value.clone());
                }
            }
        }
    }
    let mut contexts = BTreeMap::new();
    if let Some(base) = base_context(&args.folder) {
        contexts.insert(BASE_CONTEXT.to_owned(), NamedContext::Directory(base));
    }
    for argument in &args.build_context {
        let (name, value) = argument
            .split_once('=')
            .ok_or_else(|| request(format!("`--build-context {argument}` is not of the form NAME=DIR")))?;
        contexts.insert(
            name.to_owned(),
            context(value).map_err(|reason| request(format!("build context `{name}`: {reason}")))?,
        );
    }
    let epoch = stamp::epoch(env).map_err(request)?;
    let version = definition.as_ref().and_then(|definition| build_args.get(definition.ref_arg.as_ref()?)).cloned();
    Ok(Options {
        dockerfile: args.file.clone().unwrap_or_else(|| args.folder.join("Dockerfile")),
        folder: args.folder.clone(),
        platforms: if args.platform.is_empty() { vec![Platform::host()] } else { args.platform.clone() },
        build_args,
        contexts,
        target: args.target.clone(),
        engine: args.engine,
        installed: Engine::installed(env.get(env_vars::PATH).map(OsStr::new)),
        builder: args.builder.clone(),
        compression: args.compression,
        epoch,
        limits: Limits { archive_bytes: args.max_archive, layer_bytes: args.max_layer },
        threads: stamp::threads(),
        local: stamp::local(&args.to, &std::env::temp_dir()),
        cache: args.cache_dir.clone().or_else(|| stamp::cache(env)),
        work: std::env::temp_dir(),
        version: args.image_version.clone().or(version),
        revision: stamp::revision(args.revision.as_ref(), env),
        title: definition.map(|definition| definition.label),
    })
}

/// A directory, or an image where a transport says so; `docker-image://` is what `docker buildx` calls docker://.
fn context(value: &str) -> Result<NamedContext, String> {
    let image = value.strip_prefix("docker-image://").map(|bare| format!("docker://{bare}"));
    let transports = ["docker://", "oci:", "oci-archive:", "docker-archive:"];
    if image.is_some() || transports.iter().any(|transport| value.starts_with(transport)) {
        let reference: Reference = image
            .as_deref()
            .unwrap_or(value)
            .parse()
            .map_err(|error: vast_imagegen::reference::ParseReferenceError| error.to_string())?;
        return Ok(NamedContext::Image(reference));
    }
    if Path::new(value).is_dir() {
        Ok(NamedContext::Directory(value.into()))
    } else {
        Err(format!("`{value}` is not a directory"))
    }
}

fn print_plan(args: &Args, build: &Build) {
    if args.json {
        println!(
            "{}",
            json!({"engine": build.engine().to_string(), "to": args.to.to_string(), "steps": build.steps()})
        );
        return;
    }
    println!("engine: {}", build.engine());
    for step in build.steps() {
        println!("{step}");
    }
    println!("publish: {}", args.to);
}

fn print_result(args: &Args, engine: Engine, built: &Built) {
    let reference = args.to.pinned(built.digest()).to_string();
    if !args.json {
        println!("{reference}");
        return;
    }
    let image = |image: &vast_imagegen::build::BuiltImage| {
        json!({
            "platform": image.platform.to_string(),
            "digest": image.manifest.digest().to_string(),
            "layers": image.layer_digests(),
        })
    };
    let images: Vec<_> = built.images().iter().map(image).collect();
    println!(
        "{}",
        json!({
            "reference": reference,
            "digest": built.digest().to_string(),
            "engine": engine.to_string(),
            "images": images,
        })
    );
}

/// Progress as plain lines on standard error.
struct Lines;

impl Progress for Lines {
    fn step(&self, text: &str) {
        eprintln!("{text}");
    }

    fn warning(&self, text: &str) {
        eprintln!("warning: {text}");
    }

    fn output(&self, line: &str) {
        eprintln!("  {line}");
    }
}
