//! `vast-imagegen promote`.

use std::sync::Arc;

use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::promote::{self, Move};
use vast_imagegen::publish::contents;
use vast_imagegen::reference::{Reference, RegistryReference};
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::transport::open_source;

use super::progress::progress;
use super::transport::TransportArgs;
use super::{published, session};
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    source: Reference,
    /// Where it goes: `docker://host/repo:tag`, or bare.
    target: RegistryReference,
    /// Another tag in the target's repository that shall name it as well. May be repeated.
    #[arg(long, value_name = "TAG")]
    also: Vec<String>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    /// Say what would be promoted, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Promotes.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    let mut targets = vec![args.target.clone()];
    for tag in &args.also {
        targets.push(args.target.with_tag(tag)?);
    }
    session::publishing(&options, async {
        let targets: Vec<RegistryImage> =
            targets.into_iter().map(|target| RegistryImage::new(Arc::clone(&options.registry), target)).collect();
        let source = open_source(&args.source, &options).await?;
        let publication = contents(&*source).await?;
        if args.dry_run {
            let moves = promote::plan(&publication, &targets).await?;
            print(args, &moves, &json!(null));
            return Ok(Exit::Success);
        }
        let promoted = promote::promote(&publication, &targets, args.transport.parallel(), &*progress()).await?;
        published::warn(&promoted.published, &args.target);
        print(args, &promoted.moves, &published::blobs(&promoted.published));
        Ok(Exit::Success)
    })
}

fn print(args: &Args, moves: &[Move], blobs: &serde_json::Value) {
    if args.json {
        let document =
            json!({ "dry_run": args.dry_run, "source": args.source.to_string(), "tags": moves, "blobs": blobs });
        println!("{}", serde_json::to_string_pretty(&document).unwrap_or_default());
        return;
    }
    for one in moves {
        let would = if args.dry_run { "would name" } else { "names" };
        match one.from {
            Some(from) if from == one.to => println!("{} {would} {} as before", one.reference, one.to),
            Some(from) => println!("{} {would} {}, before {from}", one.reference, one.to),
            None => println!("{} {would} {}, and is new", one.reference, one.to),
        }
    }
}
