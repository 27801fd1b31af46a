//! `vast-imagegen merge`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vast_imagegen::Error;
use vast_imagegen::merge::{Merged, merge};
use vast_imagegen::publish::publish_all;
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::ImageSink;
use vast_imagegen::transport::{open_sink, open_source};

use super::progress::progress;
use super::transport::TransportArgs;
use super::{published, session};
use crate::report::Exit;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the merged image is called: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]` or `oci-archive:FILE`. May be repeated.
    #[arg(short, long, value_name = "TAG", required = true)]
    tag: Vec<Reference>,
    /// The images: each is one platform's, or an index whose entries are taken over.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// An annotation of the index. Those that all images agree about are kept anyway.
    #[arg(long, value_name = "NAME=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    /// Say what would be merged, and publish nothing.
    #[arg(long)]
    dry_run: bool,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is not of the form NAME=VALUE".to_owned()),
    }
}

/// Merges.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    session::publishing(&options, async {
        let mut sources = Vec::new();
        for image in &args.images {
            sources.push(open_source(image, &options).await?);
        }
        let annotations: BTreeMap<String, String> = args.annotation.iter().cloned().collect();
        let merged = merge(&sources, &annotations).await?;
        for note in &merged.notes {
            eprintln!("{}: warning: {note}", super::PROGRAM);
        }
        if args.dry_run {
            let digest = merged.publication.named()?.digest();
            let said: Vec<Value> =
                args.tag.iter().map(|tag| json!({ "reference": tag.to_string(), "digest": digest })).collect();
            print(args, &merged, &said)?;
            return Ok(Exit::Success);
        }
        let mut sinks = Vec::new();
        for tag in &args.tag {
            sinks.push(open_sink(tag, &options).await?);
        }
        let sinks: Vec<&dyn ImageSink> = sinks.iter().map(|sink| &**sink as &dyn ImageSink).collect();
        let published = publish_all(&merged.publication, &sinks, args.transport.parallel(), &*progress()).await?;
        for (tag, published) in args.tag.iter().zip(&published) {
            published::warn(published, tag);
        }
        let done = args.tag.iter().zip(&published).map(|(tag, published)| {
            json!({
                "reference": tag.to_string(),
                "digest": published.digest,
                "previous": published::previous(published),
                "blobs": published::blobs(published),
            })
        });
        print(args, &merged, &done.collect::<Vec<_>>())?;
        Ok(Exit::Success)
    })
}

fn print(args: &Args, merged: &Merged<'_>, done: &[Value]) -> Result<(), Error> {
    if args.json {
        let document =
            json!({ "dry_run": args.dry_run, "images": merged.members, "tags": done, "notes": merged.notes });
        println!("{}", serde_json::to_string_pretty(&document).unwrap_or_default());
        return Ok(());
    }
    for member in &merged.members {
        println!("{}  {}  {}", member.platform, member.digest, member.source);
    }
    let digest = merged.publication.named()?.digest();
    for tag in &args.tag {
        println!("{}{}", if args.dry_run { "would be " } else { "" }, tag.pinned(digest));
    }
    Ok(())
}
