//! Artifacts that refer to an image: manifests with a `subject` (OCI image spec, "Guidelines for Artifact Usage").
//!
//! An artifact is stored beside its subject and found from it, while the subject's own bytes and digest stay what they
//! are. What this crate records about images (path indexes, inventories) and what others attach (signatures, bills of
//! materials) are such artifacts, and travel with the image when it is copied.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::Serialize;

use crate::Error;
use crate::digest::Digest;
use crate::manifest::{Manifest, OCI_MANIFEST, describe, digest_of, malformed};
use crate::registry::RegistryError;
use crate::source::{ImageSource, RawManifest};

/// The configuration of an artifact that has none (OCI image spec, "Guidance for an Empty Descriptor").
pub const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";

/// The content of [`EMPTY_CONFIG`].
pub const EMPTY: &[u8] = b"{}";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: &'a [Descriptor],
    subject: Descriptor,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// The manifest of an artifact of `blobs` about `subject`. Its configuration is [`EMPTY`].
///
/// # Errors
/// None in practice: what cannot be written as JSON.
pub fn manifest(
    artifact_type: &str,
    subject: &RawManifest,
    blobs: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> Result<RawManifest, Error> {
    let document = Document {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        artifact_type,
        config: describe(EMPTY_CONFIG, EMPTY),
        layers: blobs,
        subject: describe(&subject.media_type, &subject.bytes),
        annotations,
    };
    let bytes = serde_json::to_vec(&document).map_err(|error| Error::Malformed {
        what: "artifact",
        reference: artifact_type.to_owned(),
        source: Box::new(error),
    })?;
    Ok(RawManifest { bytes, media_type: OCI_MANIFEST.to_owned() })
}

/// What an artifact refers to; `None` where it refers to nothing.
///
/// # Errors
/// The manifest cannot be parsed, or its subject's digest is of no kind that can be checked.
pub fn subject(artifact: &RawManifest, reference: &str) -> Result<Option<Digest>, Error> {
    let subject = match Manifest::parse(artifact, reference)? {
        Manifest::Image(manifest) => manifest.subject().clone(),
        Manifest::Index(index) => index.subject().clone(),
    };
    subject.map(|subject| digest_of(&subject, reference)).transpose()
}

/// The descriptor that lists of referrers have for an artifact: with its type and annotations (OCI distribution spec,
/// "Listing Referrers").
///
/// # Errors
/// The manifest cannot be parsed.
pub fn entry(artifact: &RawManifest, reference: &str) -> Result<Descriptor, Error> {
    let (artifact_type, annotations) = match Manifest::parse(artifact, reference)? {
        Manifest::Image(manifest) => (Some(type_of(&manifest)), manifest.annotations().clone()),
        Manifest::Index(index) => (index.artifact_type().clone(), index.annotations().clone()),
    };
    let mut entry = describe(&artifact.media_type, &artifact.bytes);
    entry.set_artifact_type(artifact_type);
    entry.set_annotations(annotations.filter(|annotations| !annotations.is_empty()));
    Ok(entry)
}

/// The type of an artifact: its own, or that of its configuration.
fn type_of(manifest: &ImageManifest) -> MediaType {
    manifest.artifact_type().clone().unwrap_or_else(|| manifest.config().media_type().clone())
}

/// Whether a listed artifact is of this type.
#[must_use]
pub fn is_of_type(entry: &Descriptor, artifact_type: &str) -> bool {
    entry.artifact_type().as_ref().is_some_and(|own| own.as_ref() == artifact_type)
}

/// The image manifest of an artifact, which must be of this type.
///
/// # Errors
/// It is not, or cannot be parsed.
pub fn parse(artifact: &RawManifest, artifact_type: &str, reference: &str) -> Result<ImageManifest, Error> {
    match Manifest::parse(artifact, reference)? {
        Manifest::Image(manifest) if type_of(&manifest).as_ref() == artifact_type => Ok(*manifest),
        _ => Err(malformed("artifact", reference, &format!("it is not of the type {artifact_type}"))),
    }
}

/// Reads an artifact that a list of referrers names; `None` where it is gone. No tag names an artifact, so a clean-up may
/// delete it, and a list that clients keep under a tag goes on naming it.
pub(crate) async fn fetch(source: &dyn ImageSource, entry: &Descriptor) -> Result<Option<RawManifest>, Error> {
    match source.manifest(entry).await {
        Err(Error::Registry { source, .. }) if matches!(*source, RegistryError::NotFound { .. }) => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_says_what_it_is_and_what_it_is_about() {
        let image = RawManifest { bytes: b"{}".to_vec(), media_type: OCI_MANIFEST.to_owned() };
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let blob = describe("text/plain", b"note");
        let artifact = manifest("application/vnd.example", &image, std::slice::from_ref(&blob), &annotations).unwrap();
        assert_eq!(subject(&artifact, "x").unwrap(), Some(image.digest()));
        let entry = entry(&artifact, "x").unwrap();
        assert!(is_of_type(&entry, "application/vnd.example") && !is_of_type(&entry, "application/vnd.other"));
        assert_eq!(entry.annotations().as_ref().unwrap()["a"], "b");
        assert_eq!(parse(&artifact, "application/vnd.example", "x").unwrap().layers(), &[blob]);
        assert!(parse(&artifact, "application/vnd.other", "x").is_err());
    }
}
