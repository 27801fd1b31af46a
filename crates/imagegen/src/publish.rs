//! Publishing: blobs in parallel, then manifests, then the name; and copying, which publishes what a source has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use futures_util::stream::{self, StreamExt as _};
use oci_spec::image::{Descriptor, ImageManifest};

use crate::Error;
use crate::artifact;
use crate::digest::Digest;
use crate::history::{self, Written};
use crate::manifest::{Manifest, is_image, is_index, malformed};
use crate::platform::Platform;
use crate::record::{ENVIRONMENT, PATH_INDEXES};
use crate::registry::RegistryError;
use crate::sink::{Content, ImageSink, Placed};
use crate::source::{ImageSource, RawManifest};

/// How many blobs are on their way at once where nothing else is asked for.
pub const DEFAULT_PARALLEL: usize = 6;

/// How long a failed publication waits for what is under way beside the blob that failed.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How deep indexes may name indexes. Nobody nests them more than once; a hostile one would go on for ever.
pub(crate) const MAX_DEPTH: usize = 4;

/// How many artifacts about one image are copied with it at most.
const MAX_REFERRERS: usize = 1000;

/// A blob and where its bytes are.
#[derive(Debug, Clone)]
pub struct Blob<'a> {
    /// Digest, size and media type.
    pub descriptor: Descriptor,
    /// The bytes.
    pub content: Content<'a>,
}

/// All that a name is to stand for: the blobs, and the manifests from the innermost to the one that is named.
#[derive(Debug, Default)]
pub struct Publication<'a> {
    /// Configurations, layers, records. A blob that occurs twice is put once.
    pub blobs: Vec<Blob<'a>>,
    /// Each after those that it names; the last one gets the name.
    pub manifests: Vec<RawManifest>,
    /// Artifacts about those manifests, or about each other, each after what it is about. Their blobs are among the blobs.
    pub referrers: Vec<RawManifest>,
}

/// What happens to a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come.
    Started,
    /// So many bytes have gone out so far.
    Sent(u64),
    /// It is there.
    Done(Placed),
}

/// Watches a publication, for progress bars.
pub trait Progress: Sync {
    /// Something happened to a blob.
    fn blob(&self, descriptor: &Descriptor, event: Event);
}

/// Watches nothing.
impl Progress for () {
    fn blob(&self, _: &Descriptor, _: Event) {}
}

/// What a publication did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The digest that the name stands for now.
    pub digest: Digest,
    /// Blobs that were there already.
    pub present: usize,
    /// Blobs that the registry took over from another of its repositories.
    pub mounted: usize,
    /// Blobs whose bytes were written, and how many bytes those were.
    pub written: usize,
    /// Their size together.
    pub written_bytes: u64,
    /// What was written down about what the names stood for before, one after the other.
    pub history: Vec<Written>,
    /// Why the registry took no records about the image: path indexes, environments. It has the image without them.
    pub refused_records: Vec<String>,
}

impl Publication<'_> {
    /// The manifest that gets the name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(&self) -> Result<&RawManifest, Error> {
        self.manifests.last().ok_or_else(|| malformed("publication", "nothing", "it has no manifest"))
    }
}

/// Puts everything into `sink`, at most `parallel` blobs at once, and names it last.
///
/// # Errors
/// The first failure; then nothing was named.
pub async fn publish(
    publication: &Publication<'_>,
    sink: &dyn ImageSink,
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Published, Error> {
    let published = async {
        let mut published = place_all(publication, sink, parallel, progress).await?;
        published.history = name_all(publication.named()?, &[sink]).await?.into_iter().flatten().collect();
        Ok(published)
    };
    let published = published.await;
    sink.settle().await;
    published
}

/// Puts everything into all of `sinks`, and names it when it is in each of them. Gives what was done in each.
///
/// # Errors
/// The first failure. Before anything was named, nothing is; after that it is [`Error::Promotion`], which says how far it went.
pub async fn publish_all(
    publication: &Publication<'_>,
    sinks: &[&dyn ImageSink],
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Vec<Published>, Error> {
    let published = async {
        let mut published = Vec::new();
        for sink in sinks {
            published.push(place_all(publication, *sink, parallel, progress).await?);
        }
        for (published, written) in published.iter_mut().zip(name_all(publication.named()?, sinks).await?) {
            published.history.extend(written);
        }
        Ok(published)
    };
    let published = published.await;
    for sink in sinks {
        sink.settle().await;
    }
    published
}

/// Moves names to a manifest that is there with all that it names. What they stood for before is written down for all of
/// them before the first one moves. Gives that for each of `sinks`; none where names have no history.
///
/// # Errors
/// The first failure. After the first name was moved it is [`Error::Promotion`], which says how far it went.
pub(crate) async fn name_all(named: &RawManifest, sinks: &[&dyn ImageSink]) -> Result<Vec<Option<Written>>, Error> {
    let mut history = Vec::new();
    for sink in sinks {
        history.push(match sink.registry() {
            Some(image) => Some(history::write(image, named).await?),
            None => None,
        });
    }
    let mut moved = Vec::new();
    for sink in sinks {
        match sink.name(named).await {
            Ok(()) => moved.push(sink.reference()),
            Err(error) if moved.is_empty() => return Err(error),
            Err(error) => {
                return Err(Error::Promotion { moved, failed: sink.reference(), source: Box::new(error) });
            }
        }
    }
    Ok(history)
}

/// Puts everything into `sink` and names nothing.
pub(crate) async fn place_all(
    publication: &Publication<'_>,
    sink: &dyn ImageSink,
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Published, Error> {
    let named = publication.named()?;
    let mut seen = BTreeSet::new();
    let blobs = publication.blobs.iter().filter(|blob| seen.insert(blob.descriptor.digest().to_string()));
    let mut published = Published {
        digest: named.digest(),
        present: 0,
        mounted: 0,
        written: 0,
        written_bytes: 0,
        history: Vec::new(),
        refused_records: Vec::new(),
    };
    // Boxed one by one: the compiler cannot prove nested futures of borrowed blobs to be `Send` otherwise.
    let failed = &AtomicBool::new(false);
    let placings: Vec<_> = blobs
        .map(|blob| {
            Box::pin(async move {
                if failed.load(Ordering::Relaxed) { Ok(None) } else { place(blob, sink, progress).await.map(Some) }
            })
        })
        .collect();
    let mut placings = stream::iter(placings).buffer_unordered(parallel.max(1));
    let mut placed = Vec::new();
    while let Some(result) = placings.next().await {
        match result {
            Ok(one) => placed.extend(one),
            Err(error) => {
                // What has only just been asked of the sink gets its answer: an upload can be cancelled once it is known.
                failed.store(true, Ordering::Relaxed);
                let _ = tokio::time::timeout(LAST_ANSWERS, placings.for_each(|_| future::ready(()))).await;
                return Err(error);
            }
        }
    }
    for (placed, size_bytes) in placed {
        match placed {
            Placed::Present => published.present += 1,
            Placed::Mounted => published.mounted += 1,
            Placed::Written => {
                published.written += 1;
                published.written_bytes += size_bytes;
            }
        }
    }
    for manifest in &publication.manifests {
        sink.put_manifest(manifest).await?;
    }
    // Before there is a name through which somebody could miss them.
    for (subject, group) in by_subject(&publication.referrers, sink)? {
        match sink.attach(&subject, &group).await {
            // A registry that takes no artifacts still takes the image, which is what was asked for; what others attached to
            // it is part of it.
            Err(Error::Registry { source, .. })
                if matches!(*source, RegistryError::Answer { .. }) && group.iter().all(is_record) =>
            {
                published.refused_records.push(source.to_string());
            }
            attached => attached?,
        }
    }
    Ok(published)
}

/// Attaches records to what is there already: `publication` has artifacts and their blobs, and gives no name to anything.
///
/// # Errors
/// The first failure, a registry that takes no artifacts included.
pub async fn attach_only(publication: &Publication<'_>, sink: &dyn ImageSink) -> Result<(), Error> {
    let attached = async {
        for blob in &publication.blobs {
            place(blob, sink, &()).await?;
        }
        for (subject, group) in by_subject(&publication.referrers, sink)? {
            sink.attach(&subject, &group).await?;
        }
        Ok(())
    };
    let attached = attached.await;
    sink.settle().await;
    attached
}

/// The artifacts, those about one manifest together.
fn by_subject(referrers: &[RawManifest], sink: &dyn ImageSink) -> Result<Vec<(Digest, Vec<RawManifest>)>, Error> {
    let reference = sink.reference();
    let mut groups: Vec<(Digest, Vec<RawManifest>)> = Vec::new();
    for referrer in referrers {
        let Some(subject) = artifact::subject(referrer, &reference)? else {
            return Err(malformed("artifact", &reference, "it refers to nothing"));
        };
        match groups.iter_mut().find(|(other, _)| *other == subject) {
            Some((_, group)) => group.push(referrer.clone()),
            None => groups.push((subject, vec![referrer.clone()])),
        }
    }
    Ok(groups)
}

/// Whether an artifact is a record of this program, which can be made again.
fn is_record(artifact: &RawManifest) -> bool {
    [PATH_INDEXES, ENVIRONMENT].iter().any(|own| artifact::parse(artifact, own, "record").is_ok())
}

async fn place(blob: &Blob<'_>, sink: &dyn ImageSink, progress: &dyn Progress) -> Result<(Placed, u64), Error> {
    let descriptor = &blob.descriptor;
    progress.blob(descriptor, Event::Started);
    let sent = |bytes| progress.blob(descriptor, Event::Sent(bytes));
    let placed = sink.put_blob(descriptor, blob.content, &sent).await?;
    progress.blob(descriptor, Event::Done(placed));
    Ok((placed, descriptor.size()))
}

/// What has to be published to have all of `source`'s image, every platform and attestation of it and what refers to it,
/// somewhere else.
pub async fn contents(source: &dyn ImageSource) -> Result<Publication<'_>, Error> {
    let mut publication = Publication::default();
    let reference = source.reference();
    let mut seen = BTreeSet::new();
    // Depth first, parents after their children: the manifests end with the top.
    let mut open = vec![(source.top().await?, 0, false)];
    while let Some((raw, depth, expanded)) = open.pop() {
        if expanded {
            publication.manifests.push(raw);
            continue;
        }
        if !seen.insert(raw.digest()) {
            continue;
        }
        match Manifest::parse(&raw, &reference)? {
            Manifest::Image(manifest) => {
                add_blobs(&mut publication, &manifest, source);
                publication.manifests.push(raw);
            }
            Manifest::Index(index) => {
                if depth >= MAX_DEPTH {
                    return Err(malformed("index", &reference, "its indexes are nested too deep"));
                }
                open.push((raw, depth, true));
                for descriptor in index.manifests() {
                    let media_type = descriptor.media_type().as_ref();
                    if is_image(media_type) || is_index(media_type) {
                        open.push((source.manifest(descriptor).await?, depth + 1, false));
                    } else {
                        let content = Content::Source(source);
                        publication.blobs.push(Blob { descriptor: descriptor.clone(), content });
                    }
                }
            }
        }
    }
    add_referrers(&mut publication, source).await?;
    Ok(publication)
}

/// What has to be published to have one platform of `source`'s image somewhere else.
pub async fn platform_contents<'a>(source: &'a dyn ImageSource, platform: &Platform) -> Result<Publication<'a>, Error> {
    let image = source.image(platform).await?;
    let mut publication = Publication::default();
    add_blobs(&mut publication, &image.manifest, source);
    publication.manifests.push(image.raw);
    add_referrers(&mut publication, source).await?;
    Ok(publication)
}

/// Adds what refers to the manifests of `publication`, and what refers to that: a signature of a bill of materials.
async fn add_referrers<'a>(publication: &mut Publication<'a>, source: &'a dyn ImageSource) -> Result<(), Error> {
    let reference = source.reference();
    let mut open: VecDeque<(Digest, usize)> =
        publication.manifests.iter().map(|manifest| (manifest.digest(), 0)).collect();
    let mut seen: BTreeSet<Digest> = open.iter().map(|(digest, _)| *digest).collect();
    while let Some((subject, depth)) = open.pop_front() {
        for entry in source.referrers(&subject, None).await? {
            // The history of a tag is not about the image, and not true of another tag.
            if artifact::is_of_type(&entry, history::ARTIFACT_TYPE) {
                continue;
            }
            let Some(artifact) = artifact::fetch(source, &entry).await? else { continue };
            if !seen.insert(artifact.digest()) {
                continue;
            }
            if depth >= MAX_DEPTH || publication.referrers.len() >= MAX_REFERRERS {
                return Err(malformed("image", &reference, "more refers to it than can be meant seriously"));
            }
            // Nothing attaches indexes; what one names would have to be followed as well.
            let Manifest::Image(manifest) = Manifest::parse(&artifact, &reference)? else { continue };
            open.push_back((artifact.digest(), depth + 1));
            add_blobs(publication, &manifest, source);
            publication.referrers.push(artifact);
        }
    }
    Ok(())
}

fn add_blobs<'a>(publication: &mut Publication<'a>, manifest: &ImageManifest, source: &'a dyn ImageSource) {
    for descriptor in std::iter::once(manifest.config()).chain(manifest.layers()) {
        // Layers that may not be distributed stay where their addresses say (Windows base layers).
        let media_type = descriptor.media_type().as_ref();
        let foreign = media_type.contains(".nondistributable.") || media_type.contains(".foreign.");
        if !(foreign && descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty())) {
            publication.blobs.push(Blob { descriptor: descriptor.clone(), content: Content::Source(source) });
        }
    }
}

/// Copies an image, every platform of it, and names it last.
///
/// # Errors
/// The first failure; then nothing was named.
pub async fn copy(
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Published, Error> {
    let publication = contents(source).await?;
    publish(&publication, sink, parallel, progress).await
}
