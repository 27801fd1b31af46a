//! Merging: one index out of images for several platforms, and out of the entries of other indexes.
//!
//! Entries are carried over as they stand, whatever they hold: `os.version`, `variant`, features, annotations, and the
//! attestations that belong to them. An image without an index gets the platform that its configuration names. Indexes
//! within indexes are flattened, since hardly any client looks for a platform more than one level deep.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::Descriptor;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::artifact;
use crate::digest::Digest;
use crate::manifest::{
    DOCKER_CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, MAX_CONFIG_BYTES, Manifest, OCI_CONFIG, OCI_INDEX, describe,
    digest_of, is_image, is_index, malformed, read_small,
};
use crate::publish::{MAX_DEPTH, Publication, contents};
use crate::source::{ImageSource, RawManifest};

/// An image in the merged index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// `os/architecture[/variant]`, with the version of the system where the entry names one.
    pub platform: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Where it comes from.
    pub source: String,
}

/// What is to be published, and what is in it.
#[derive(Debug)]
pub struct Merged<'a> {
    /// The blobs, the manifests, and the index last.
    pub publication: Publication<'a>,
    /// The images, in the index's order.
    pub members: Vec<Member>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// What decides whether two entries are for the same machine.
type Key = (String, String, String, String, Vec<String>);

/// Entries that were gathered so far.
#[derive(Debug, Default)]
struct Gathered {
    entries: Vec<Value>,
    members: Vec<Member>,
    by_digest: BTreeSet<Digest>,
    by_platform: BTreeMap<Key, (Digest, String)>,
    /// By name: the values that sources have for it.
    annotations: BTreeMap<String, BTreeSet<String>>,
}

/// Merges the images of `sources` into one index with `annotations` of its own.
///
/// # Errors
/// Two different images for the same platform, or a source that cannot be read or used.
pub async fn merge<'a>(
    sources: &'a [Box<dyn ImageSource>],
    annotations: &BTreeMap<String, String>,
) -> Result<Merged<'a>, Error> {
    let mut gathered = Gathered::default();
    let mut all = Vec::new();
    for source in sources {
        let contents = contents(&**source).await?;
        gather(&**source, &contents, &mut gathered).await?;
        all.push((source, contents));
    }
    if gathered.members.is_empty() {
        let names: Vec<String> = sources.iter().map(|source| source.reference()).collect();
        return Err(malformed("index", &names.join("`, `"), "there is no image for any platform"));
    }
    let mut notes = Vec::new();
    let mut top = BTreeMap::new();
    for (name, values) in &gathered.annotations {
        match values.first().filter(|_| values.len() == 1) {
            Some(value) => drop(top.insert(name.clone(), value.clone())),
            None if annotations.contains_key(name) => {}
            None => notes.push(format!("the annotation `{name}` is left out: the images do not agree about it")),
        }
    }
    top.extend(annotations.clone());
    let index = index(&gathered.entries, &top);
    let mut publication = Publication::default();
    let mut kept = BTreeSet::new();
    for (source, all) in all {
        publication.blobs.extend(all.blobs);
        let manifests = all
            .manifests
            .into_iter()
            .filter(|manifest| !is_index(&manifest.media_type) && gathered.by_digest.contains(&manifest.digest()));
        for manifest in manifests {
            if kept.insert(manifest.digest()) {
                publication.manifests.push(manifest);
            }
        }
        // What is said about an index that is not kept is said about nothing.
        for referrer in all.referrers {
            let about = artifact::subject(&referrer, &source.reference())?;
            if about.is_some_and(|about| kept.contains(&about)) && kept.insert(referrer.digest()) {
                publication.referrers.push(referrer);
            }
        }
    }
    publication.manifests.push(index);
    Ok(Merged { publication, members: gathered.members, notes })
}

fn index(entries: &[Value], annotations: &BTreeMap<String, String>) -> RawManifest {
    // Docker's own type only where everything is Docker's: it knows no annotations.
    let docker = annotations.is_empty()
        && entries.iter().all(|entry| entry["mediaType"] == DOCKER_MANIFEST && entry["annotations"].is_null());
    let media_type = if docker { DOCKER_INDEX } else { OCI_INDEX };
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !annotations.is_empty() {
        index["annotations"] = json!(annotations);
    }
    // JSON of values cannot fail.
    RawManifest { bytes: serde_json::to_vec(&index).unwrap_or_default(), media_type: media_type.to_owned() }
}

/// Adds what `source` has, all of which is in `contents`.
async fn gather(source: &dyn ImageSource, contents: &Publication<'_>, gathered: &mut Gathered) -> Result<(), Error> {
    let reference = source.reference();
    let manifests: BTreeMap<Digest, &RawManifest> =
        contents.manifests.iter().map(|manifest| (manifest.digest(), manifest)).collect();
    // Depth first, in the order of the entries.
    let mut open = vec![(contents.named()?, None, 0)];
    while let Some((raw, entry, depth)) = open.pop() {
        match Manifest::parse(raw, &reference)? {
            Manifest::Image(manifest) => {
                let mut entry: Value = entry.unwrap_or_else(|| json!(describe(&raw.media_type, &raw.bytes)));
                let config = manifest.config();
                if entry["platform"].is_null() && [OCI_CONFIG, DOCKER_CONFIG].contains(&config.media_type().as_ref()) {
                    entry["platform"] = platform_of(source, config).await?;
                }
                add(gathered, entry, raw.digest(), &reference)?;
            }
            Manifest::Index(_) if depth >= MAX_DEPTH => {
                return Err(malformed("index", &reference, "its indexes are nested too deep"));
            }
            Manifest::Index(_) => {
                let index: Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
                if let Some(annotations) = index["annotations"].as_object().filter(|_| depth == 0) {
                    for (name, value) in annotations {
                        let values = gathered.annotations.entry(name.clone()).or_default();
                        values.extend(value.as_str().map(str::to_owned));
                    }
                }
                for entry in index["manifests"].as_array().into_iter().flatten().rev() {
                    let descriptor: Descriptor = serde_json::from_value(entry.clone()).map_err(|error| {
                        Error::Malformed { what: "index", reference: reference.clone(), source: Box::new(error) }
                    })?;
                    let media_type = descriptor.media_type().as_ref();
                    if !is_image(media_type) && !is_index(media_type) {
                        let why = format!("{} is of the type {media_type}, which no image is", descriptor.digest());
                        return Err(malformed("index", &reference, &why));
                    }
                    let manifest = manifests.get(&digest_of(&descriptor, &reference)?).copied();
                    let manifest = manifest.ok_or_else(|| malformed("index", &reference, "it names what it lacks"))?;
                    open.push((manifest, Some(entry.clone()), depth + 1));
                }
            }
        }
    }
    Ok(())
}

/// The platform in the configuration, with all that an index entry can say of it (OCI image spec, "Image Index").
async fn platform_of(source: &dyn ImageSource, config: &Descriptor) -> Result<Value, Error> {
    let raw = read_small(source, config, MAX_CONFIG_BYTES, "configuration").await?;
    let config: Map<String, Value> = serde_json::from_slice(&raw).map_err(|error| Error::Malformed {
        what: "configuration",
        reference: source.reference(),
        source: Box::new(error),
    })?;
    let said = ["architecture", "os", "os.version", "os.features", "variant"].into_iter();
    Ok(said.filter_map(|name| Some((name.to_owned(), config.get(name)?.clone()))).collect::<Map<_, _>>().into())
}

fn add(gathered: &mut Gathered, entry: Value, digest: Digest, reference: &str) -> Result<(), Error> {
    if !gathered.by_digest.insert(digest) {
        return Ok(());
    }
    if let Some(key) = key(&entry) {
        let platform = shown(&key);
        if let Some((other, source)) = gathered.by_platform.get(&key) {
            return Err(Error::SamePlatform {
                platform,
                first: pinned(source, *other),
                second: pinned(reference, digest),
            });
        }
        gathered.by_platform.insert(key, (digest, reference.to_owned()));
        gathered.members.push(Member { platform, digest, source: reference.to_owned() });
    }
    gathered.entries.push(entry);
    Ok(())
}

/// The image in its source, for messages.
fn pinned(reference: &str, digest: Digest) -> String {
    if reference.contains('@') { reference.to_owned() } else { format!("{reference}@{digest}") }
}

/// What the entry is for; `None` for what is for no machine: attestations and other artifacts.
fn key(entry: &Value) -> Option<Key> {
    let platform = &entry["platform"];
    let text = |name: &str| platform[name].as_str().unwrap_or_default().to_owned();
    let (os, architecture, variant) = (text("os"), text("architecture"), text("variant"));
    // BuildKit marks attestations so.
    if platform.is_null() || os == "unknown" {
        return None;
    }
    // Those that are the architecture's default, as containerd takes them.
    let variant = match (architecture.as_str(), variant.as_str()) {
        ("arm64", "v8") | ("amd64", "v1") => String::new(),
        ("arm", "") => "v7".to_owned(),
        _ => variant,
    };
    let features = platform["os.features"].as_array().into_iter().flatten();
    let mut features: Vec<String> = features.filter_map(|feature| feature.as_str().map(str::to_owned)).collect();
    features.sort();
    Some((os, architecture, variant, text("os.version"), features))
}

fn shown((os, architecture, variant, version, features): &Key) -> String {
    let mut text = format!("{os}/{architecture}");
    for part in [variant, version].into_iter().filter(|part| !part.is_empty()) {
        text = format!("{text}/{part}");
    }
    if features.is_empty() { text } else { format!("{text} with {}", features.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_same_machine_has_the_same_key() {
        let key_of = |platform: Value| key(&json!({ "platform": platform }));
        let same = |a: Value, b: Value| key_of(a) == key_of(b);
        assert!(same(
            json!({"os": "linux", "architecture": "arm64"}),
            json!({"os": "linux", "architecture": "arm64", "variant": "v8"})
        ));
        assert!(same(
            json!({"os": "linux", "architecture": "arm"}),
            json!({"os": "linux", "architecture": "arm", "variant": "v7"})
        ));
        assert!(!same(
            json!({"os": "linux", "architecture": "arm", "variant": "v6"}),
            json!({"os": "linux", "architecture": "arm", "variant": "v7"})
        ));
        assert!(!same(
            json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}),
            json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.2"})
        ));
        assert_eq!(key_of(json!({"os": "unknown", "architecture": "unknown"})), None);
        assert_eq!(key(&json!({})), None);
    }

    #[test]
    fn the_index_is_dockers_only_if_all_is() {
        let docker = json!({"mediaType": DOCKER_MANIFEST});
        let oci = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json"});
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(index(&[docker.clone(), docker.clone()], &BTreeMap::new()).media_type, DOCKER_INDEX);
        assert_eq!(index(&[docker.clone(), oci], &BTreeMap::new()).media_type, OCI_INDEX);
        assert_eq!(index(std::slice::from_ref(&docker), &annotations).media_type, OCI_INDEX);
    }
}
