//! `vast-imagegen extend`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::build::Stamp;
use vast_imagegen::extend::{Extended, Options, extend};
use vast_imagegen::layer::Compression;
use vast_imagegen::publish::{attach_only, publish};
use vast_imagegen::reference::Reference;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::{TransportOptions, open_sink, open_source};

use super::transport::TransportArgs;
use super::{progress, published, session, stamp};
use crate::report::{Exit, with_causes};

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    image: Reference,
    /// The folder that goes on top, as `COPY DIR/ /` would put it there.
    #[arg(long, value_name = "DIR")]
    overlay: PathBuf,
    /// Where the result goes: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]` or `oci-archive:FILE`.
    #[arg(long, value_name = "REF")]
    to: Reference,
    /// Where layers have no path index, read them once and attach the indexes to the image.
    #[arg(long)]
    index: bool,
    /// How the new layer is compressed: gzip or zstd.
    #[arg(long, default_value = "gzip")]
    compression: Compression,
    /// The version of what the image packages. [default: what the image says]
    #[arg(long, value_name = "VERSION")]
    image_version: Option<String>,
    /// The commit that the overlay is from. [default: `$GITHUB_SHA`, else what the image says]
    #[arg(long, value_name = "COMMIT")]
    revision: Option<String>,
    /// Where indexes of layers are kept. [default: `$XDG_CACHE_HOME/vast-imagegen`]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
    /// Make the layer and the manifests, say what they are, and publish nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Extends and publishes.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let env = session::environment();
    let request = |reason| Error::Request { folder: args.overlay.clone(), reason };
    let options = Options {
        overlay: args.overlay.clone(),
        index: args.index,
        compression: args.compression,
        threads: stamp::threads(),
        local: stamp::local(&args.to, &std::env::temp_dir()),
        stamp: Stamp {
            epoch: stamp::epoch(&env).map_err(request)?,
            version: args.image_version.clone(),
            revision: stamp::revision(args.revision.as_ref(), &env),
            title: None,
        },
        cache: args.cache_dir.clone().or_else(|| stamp::cache(&env)),
        work: std::env::temp_dir(),
    };
    let transports = args.transport.options(&env);
    session::publishing(&transports, async {
        let sink = if args.dry_run { None } else { Some(open_sink(&args.to, &transports).await?) };
        let source: Arc<dyn ImageSource> = open_source(&args.image, &transports).await?.into();
        let extended = extend(&source, &args.image, &options).await?;
        if let Some(sink) = sink {
            let parallel = args.transport.parallel();
            let published = publish(&extended.built.publication(), &*sink, parallel, &*progress::progress()).await?;
            published::warn(&published, &args.to);
            attach_indexes(args, &extended, &transports).await;
        }
        print(args, &extended);
        Ok(Exit::Success)
    })
}

/// Keeps what was read for the next time. The image that was asked for is there already, so a failure is only told.
async fn attach_indexes(args: &Args, extended: &Extended, transports: &TransportOptions) {
    let indexes = extended.indexes();
    if indexes.referrers.is_empty() || !matches!(args.image, Reference::Registry(_)) {
        return;
    }
    let attached = async { attach_only(&indexes, &*open_sink(&args.image, transports).await?).await };
    match attached.await {
        Ok(()) => eprintln!("{}: path indexes are attached to {} now", super::PROGRAM, args.image),
        Err(error) => {
            let why = with_causes(&error);
            eprintln!("{}: warning: cannot attach path indexes to {}: {why}", super::PROGRAM, args.image);
        }
    }
}

fn print(args: &Args, extended: &Extended) {
    for report in &extended.platforms {
        let warn = |text: &str| eprintln!("{}: warning: {}: {text}", super::PROGRAM, report.platform);
        report.warnings.iter().for_each(|warning| warn(warning));
        if !report.indexed.is_empty() {
            warn(&format!("{} layers had no path index and were read", report.indexed.len()));
        }
        if !report.tree_known {
            warn("the image has no path indexes, so its directories are taken to be plain ones");
        }
    }
    let reference = args.to.pinned(extended.built.digest()).to_string();
    if !args.json {
        println!("{reference}");
        // Under the same name there is nothing left that names what it was.
        if !args.dry_run && args.to.to_string() != args.image.to_string() {
            super::diff::suggest(&args.image, &reference);
        }
        return;
    }
    let images: Vec<_> = extended
        .built
        .images()
        .iter()
        .zip(&extended.platforms)
        .map(|(image, report)| {
            json!({
                "platform": report.platform.to_string(),
                "digest": image.manifest.digest(),
                "layers": image.layer_digests(),
                "env_hash": report.env_hash,
                "environment_changed": report.environment_changed,
                "tree_known": report.tree_known,
                "indexed": report.indexed,
                "warnings": report.warnings,
            })
        })
        .collect();
    println!("{}", json!({"reference": reference, "digest": extended.built.digest(), "images": images}));
}
