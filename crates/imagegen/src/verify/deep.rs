//! Reading the layers: each once for its digests and headers, and the few files of the environment hash once more.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;
use vast_envhash::EnvHash;

use super::{Check, wrong};
use crate::Error;
use crate::build::envhash;
use crate::build::stack::{LayerBlob, Stack, StackLayer};
use crate::digest::{Digest, Hashing};
use crate::layer::{IndexCache, LayerError, LayerIndex, NodeKind};
use crate::manifest::{blocking, digest_of};
use crate::platform::Platform;
use crate::publish::DEFAULT_PARALLEL;
use crate::source::{BlobReader, Image, ImageSource};

type Findings = Vec<(Check, String)>;

/// Reads all layers of `image`.
pub(super) async fn verify(
    source: &Arc<dyn ImageSource>,
    image: &Image,
    platform: &Platform,
    parallel: usize,
) -> Result<Findings, Error> {
    // Headers stay out of memory, and every layer is read for them once.
    let work = tempfile::tempdir().map_err(|source| Error::File {
        action: "create a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let cache = IndexCache::new(Some(&work.path().join("indexes")));
    let parallel = if parallel == 0 { DEFAULT_PARALLEL } else { parallel };
    let layers = image.manifest.layers().iter().zip(image.config.rootfs().diff_ids());
    let readings: Vec<_> = layers
        .clone()
        .map(|(descriptor, diff_id)| Box::pin(verify_layer(&**source, descriptor, diff_id, &cache)))
        .collect();
    let mut findings: Findings =
        stream::iter(readings).buffered(parallel).try_collect::<Vec<_>>().await?.into_iter().flatten().collect();
    if findings.iter().any(|(check, _)| *check == Check::Layer) {
        // What the layers amount to cannot be told.
        return Ok(findings);
    }
    let reference = source.reference();
    let layers = layers.map(|(descriptor, diff_id)| {
        let diff_id = diff_id.parse().unwrap_or(digest_of(descriptor, &reference)?);
        Ok(StackLayer { descriptor: descriptor.clone(), diff_id, blob: LayerBlob::Source(Arc::clone(source)) })
    });
    let stack = Stack::new(layers.collect::<Result<Vec<_>, Error>>()?);
    findings.extend(env_hash(stack, &cache, platform, work.path()).await?);
    Ok(findings)
}

async fn verify_layer(
    source: &dyn ImageSource,
    descriptor: &Descriptor,
    diff_id: &str,
    cache: &IndexCache,
) -> Result<Findings, Error> {
    let reference = source.reference();
    let named = descriptor.digest().to_string();
    let read = match source.open_blob(descriptor).await {
        Ok(blob) => {
            let (reference, named) = (reference.clone(), named.clone());
            blocking(move || {
                read(blob).map_err(|error| match error {
                    LayerError::Io(error) => Error::from_read(error, &reference),
                    source => Error::Layer { reference, digest: named, source },
                })
            })
            .await
        }
        Err(error) => Err(error),
    };
    let (index, actual) = match read {
        Ok(read) => read,
        Err(error @ Error::Content { .. }) if !is_transport(&error) => {
            return Ok(vec![(Check::Layer, format!("layer {named}: {}", innermost(&error)))]);
        }
        Err(error) => return Ok(vec![(Check::Layer, format!("layer {named}: {}", wrong(error)?))]),
    };
    // Only a cache: without it the layer is read again.
    let _ = cache.store(&digest_of(descriptor, &reference)?, &index);
    if actual.to_string() == diff_id {
        return Ok(Vec::new());
    }
    Ok(vec![(Check::DiffId, format!("layer {named} unpacks to {actual}, the configuration says {diff_id}"))])
}

/// Whether a failed read says nothing about the content: the disk or the connection failed.
fn is_transport(error: &Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error {
        // Decoders report damage with these.
        Error::Content { source, .. } => ![InvalidData, InvalidInput, Other, UnexpectedEof].contains(&source.kind()),
        _ => true,
    }
}

fn innermost(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Headers and diff id of a layer, whichever way it is compressed.
fn read(blob: BlobReader) -> Result<(LayerIndex, Digest), LayerError> {
    let mut blob = BufReader::with_capacity(256 << 10, blob);
    let magic = blob.fill_buf()?;
    let read = if magic.starts_with(&[0x1f, 0x8b]) {
        entries(flate2::bufread::MultiGzDecoder::new(&mut blob))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        entries(zstd::stream::read::Decoder::with_buffer(&mut blob)?)
    } else {
        entries(&mut blob)
    };
    // To its end, whatever the decoder made of it: a wrong digest explains what looks like damage.
    io::copy(&mut blob, &mut io::sink())?;
    read
}

fn entries(tar: impl Read) -> Result<(LayerIndex, Digest), LayerError> {
    let mut tar = Hashing::new(tar);
    let index = LayerIndex::read_tar(&mut tar)?;
    let (_, diff_id, _) = tar.finish();
    Ok((index, diff_id))
}

/// Whether `/.env_hash` is there and right.
async fn env_hash(mut stack: Stack, cache: &IndexCache, platform: &Platform, work: &Path) -> Result<Findings, Error> {
    let finding = |message: String| Ok(vec![(Check::EnvHash, message)]);
    let path = Path::new(envhash::FILE.trim_start_matches('/'));
    let tree = match stack.tree(cache).await {
        Ok(tree) => tree,
        Err(error) => return Ok(vec![(Check::Layer, wrong(error)?)]),
    };
    let content = match tree.get(path).map(|node| &node.kind) {
        Some(NodeKind::File { size, content }) if *size <= 64 => *content,
        Some(_) => return finding(format!("{} is no file with a hash", envhash::FILE)),
        None => return finding(format!("{} is missing", envhash::FILE)),
    };
    let spool = stack.contents(&[content].into(), cache, work).await?;
    let recorded = spool.path(content).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let Ok(recorded) = recorded.trim().parse::<EnvHash>() else {
        return finding(format!("{} holds `{}`, which is no hash", envhash::FILE, recorded.trim().escape_debug()));
    };
    match envhash::inventory(&mut stack, cache, platform, work).await {
        Ok(inventory) if inventory.hash == recorded => Ok(Vec::new()),
        Ok(inventory) => {
            finding(format!("{} says {recorded}, the environment's hash is {}", envhash::FILE, inventory.hash))
        }
        Err(error) => finding(wrong(error)?),
    }
}
