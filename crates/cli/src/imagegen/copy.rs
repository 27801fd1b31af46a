//! `vast-imagegen copy`.

use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::manifest::total;
use vast_imagegen::platform::Platform;
use vast_imagegen::publish::{Publication, contents, platform_contents, publish};
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::ImageSink;
use vast_imagegen::transport::{open_sink, open_source};

use super::progress::progress;
use super::text::size;
use super::transport::TransportArgs;
use super::{published, session};
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    source: Reference,
    /// Where it goes: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]` or `oci-archive:FILE`.
    target: Reference,
    /// Copy this platform's image alone, not the whole index.
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    /// Say what would be copied, and copy nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Copies.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    session::publishing(&options, async {
        let source = open_source(&args.source, &options).await?;
        let sink = open_sink(&args.target, &options).await?;
        let publication = match &args.platform {
            Some(platform) => platform_contents(&*source, platform).await?,
            None => contents(&*source).await?,
        };
        if args.dry_run {
            return plan(args, &publication, &*sink).await;
        }
        let published = publish(&publication, &*sink, args.transport.parallel(), &*progress()).await?;
        published::warn(&published, &args.target);
        if args.json {
            println!(
                "{}",
                json!({
                    "reference": args.target.to_string(),
                    "digest": published.digest,
                    "previous": published::previous(&published),
                    "blobs": published::blobs(&published),
                })
            );
        } else {
            println!("{}", args.target.pinned(published.digest));
        }
        Ok(Exit::Success)
    })
}

async fn plan(args: &Args, publication: &Publication<'_>, sink: &dyn ImageSink) -> Result<Exit, Error> {
    let mut missing = Vec::new();
    for blob in &publication.blobs {
        if !sink.has_blob(&blob.descriptor).await? {
            missing.push(&blob.descriptor);
        }
    }
    let bytes = total(missing.iter().map(|blob| blob.size()));
    if args.json {
        let blobs: Vec<_> = missing.iter().map(|blob| json!({"digest": blob.digest(), "size": blob.size()})).collect();
        let manifests: Vec<_> = publication.manifests.iter().map(|manifest| json!(manifest.digest())).collect();
        println!("{}", json!({"target": args.target.to_string(), "missing": blobs, "manifests": manifests}));
        return Ok(Exit::Success);
    }
    for blob in &missing {
        println!("blob {} ({})", blob.digest(), size(blob.size()));
    }
    for manifest in &publication.manifests {
        println!("manifest {}", manifest.digest());
    }
    println!("{} blobs to place, {}; then {}", missing.len(), size(bytes), args.target);
    Ok(Exit::Success)
}
