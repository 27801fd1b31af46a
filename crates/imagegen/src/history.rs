//! What a tag named before: written down by whoever moves it, and read to put it back.
//!
//! A record is an [artifact] about the manifest that the tag names *from then on*, so the image's own
//! bytes and digest stay what they are, and whoever sees what a tag names finds what it named before. Its annotations say
//! it all:
//!
//! | annotation | meaning |
//! |---|---|
//! | `ai.vast.history.tag` | the tag |
//! | `ai.vast.history.previous` | the digest that it named before |
//! | `ai.vast.history.operation` | `publish`, `rollback` or `undo` |
//! | `ai.vast.history.before` | the record of what it named before, where there is one |
//! | `ai.vast.history.restores` | of a rollback: the record of the state that it goes back to, where there is one |
//! | `org.opencontainers.image.created` | when, to the millisecond |
//!
//! Records form a chain through `before`, because the same image may be named more than once: after A, B, A, B two steps
//! back from B lead to B again, and only the records tell which of the two it is. A rollback stands for the state that it
//! `restores`, so that the next one goes on from there. A record is written before the tag moves: whoever dies in between
//! leaves one about a move that did not happen, which nobody follows as long as the tag does not name that manifest.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::Error;
use crate::artifact::{self, EMPTY, EMPTY_CONFIG};
use crate::build::output::CREATED;
use crate::digest::Digest;
use crate::manifest::{describe, digest_of};
use crate::registry::{RegistryError, RegistryImage};
use crate::sink::{Content, ImageSink as _};
use crate::source::{ImageSource as _, RawManifest};

/// The type of the artifacts that are records.
pub const ARTIFACT_TYPE: &str = "application/vnd.vastai.image.history.v1";

const TAG: &str = "ai.vast.history.tag";
const PREVIOUS: &str = "ai.vast.history.previous";
const OPERATION: &str = "ai.vast.history.operation";
const BEFORE: &str = "ai.vast.history.before";
const RESTORES: &str = "ai.vast.history.restores";

/// How often what a tag names is looked up again before other publishers are taken to be in the way for good.
const MAX_ROUNDS: usize = 5;

/// Why a tag was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Something was published under it.
    Publish,
    /// It went back to what it named before.
    Rollback,
    /// A rollback was taken back.
    Undo,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Rollback => "rollback",
            Self::Undo => "undo",
        })
    }
}

/// One move of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The record's own digest.
    pub digest: Digest,
    /// What the tag named before.
    pub previous: Digest,
    /// Why it was moved.
    pub operation: Operation,
    /// The record of what it named before.
    pub before: Option<Digest>,
    /// The record of the state that this one went back to.
    pub restores: Option<Digest>,
    /// When.
    pub at: Timestamp,
}

/// Where a tag goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The digest that it will name.
    pub to: Digest,
    /// The record of the state in which it named that.
    pub restores: Option<Digest>,
    /// The record of what it names now.
    pub before: Digest,
}

/// What was written down about a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The tag is new, or names the same already.
    NothingBefore,
    /// It named this before.
    Previous(Digest),
    /// It named this before, but the registry did not take the record.
    Refused {
        /// What it named before.
        previous: Digest,
        /// Why there is no record.
        why: String,
    },
}

impl Record {
    /// The record that an entry of a list of referrers stands for; `None` if it is about another tag, or no record.
    fn parse(digest: Digest, annotations: &BTreeMap<&str, &str>, tag: &str) -> Option<Self> {
        if *annotations.get(TAG)? != tag {
            return None;
        }
        let operation = match *annotations.get(OPERATION)? {
            "publish" => Operation::Publish,
            "rollback" => Operation::Rollback,
            "undo" => Operation::Undo,
            _ => return None,
        };
        let digest_at = |name: &str| annotations.get(name).and_then(|text| text.parse().ok());
        Some(Self {
            digest,
            previous: digest_at(PREVIOUS)?,
            operation,
            before: digest_at(BEFORE),
            restores: digest_at(RESTORES),
            at: annotations.get(CREATED)?.parse().ok()?,
        })
    }
}

/// The last move: that by which the tag came to name what it names.
#[must_use]
pub fn newest(records: &[Record]) -> Option<&Record> {
    records.iter().max_by_key(|record| (record.at, record.digest))
}

/// One step back in the life of a tag, from the records about what it names; `None` where nothing is known before.
#[must_use]
pub fn back(records: &[Record]) -> Option<Step> {
    let newest = newest(records)?;
    let state = match newest.operation {
        Operation::Publish => newest,
        // Whatever was rolled back or undone, it is a state that was there before.
        Operation::Rollback | Operation::Undo => {
            records.iter().find(|record| Some(record.digest) == newest.restores)?
        }
    };
    // A restored state that was itself restored stands for the first of its kind.
    let state = original(records, state)?;
    Some(Step { to: state.previous, restores: state.before, before: newest.digest })
}

fn original<'a>(records: &'a [Record], state: &'a Record) -> Option<&'a Record> {
    let mut state = state;
    // No chain is longer than there are records, unless somebody made a ring.
    for _ in 0..=records.len() {
        if state.operation == Operation::Publish {
            return Some(state);
        }
        state = records.iter().find(|record| Some(record.digest) == state.restores)?;
    }
    None
}

/// The way back from a rollback, if the tag's last move was one.
#[must_use]
pub fn undo(records: &[Record]) -> Option<Step> {
    let newest = newest(records).filter(|record| record.operation == Operation::Rollback)?;
    Some(Step { to: newest.previous, restores: newest.before, before: newest.digest })
}

/// The records about `subject` that are about the image's tag. What is gone or cannot be understood is no record: it must
/// not keep anybody from publishing under the tag.
///
/// # Errors
/// The registry does not answer, or not with what was asked for.
pub async fn records(image: &RegistryImage, subject: &Digest) -> Result<Vec<Record>, Error> {
    let Some(tag) = image.tag() else { return Ok(Vec::new()) };
    let reference = image.name_of();
    let mut found = Vec::new();
    for entry in image.referrers(subject, Some(ARTIFACT_TYPE)).await? {
        let Ok(digest) = digest_of(&entry, &reference) else { continue };
        let annotations = match entry.annotations() {
            Some(annotations) if annotations.contains_key(TAG) => annotations.clone(),
            // Not every registry copies them into its list.
            _ => {
                let Some(artifact) = artifact::fetch(image, &entry).await? else { continue };
                let Ok(manifest) = artifact::parse(&artifact, ARTIFACT_TYPE, &reference) else { continue };
                manifest.annotations().clone().unwrap_or_default()
            }
        };
        let annotations = annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        found.extend(Record::parse(digest, &annotations, tag));
    }
    Ok(found)
}

/// Writes down what the image's tag names, before it is moved to `named`, which is in the registry already.
///
/// # Errors
/// The registry does not answer. A registry that refuses records is no error: [`Written::Refused`].
pub async fn write(image: &RegistryImage, named: &RawManifest) -> Result<Written, Error> {
    if image.tag().is_none() {
        return Ok(Written::NothingBefore);
    }
    let mut written = Written::NothingBefore;
    // What is written down shall be what the tag names when it is moved, so it is looked up again after writing.
    for _ in 0..MAX_ROUNDS {
        let previous = match image.named().await? {
            Some(previous) if previous != named.digest() => previous,
            _ => return Ok(Written::NothingBefore),
        };
        if written == Written::Previous(previous) {
            return Ok(written);
        }
        let before = newest(&records(image, &previous).await?).map(|record| record.digest);
        match write_move(image, named, Operation::Publish, previous, before, None).await {
            Ok(_) => written = Written::Previous(previous),
            Err(error) => return refused(error).map(|why| Written::Refused { previous, why }),
        }
    }
    Ok(written)
}

/// Whether the error says that the registry takes no records, and how it said that.
fn refused(error: Error) -> Result<String, Error> {
    match &error {
        Error::Registry { source, .. } if matches!(**source, RegistryError::Answer { .. }) => Ok(source.to_string()),
        _ => Err(error),
    }
}

/// Writes down one move. Gives the record's digest.
pub(crate) async fn write_move(
    image: &RegistryImage,
    named: &RawManifest,
    operation: Operation,
    previous: Digest,
    before: Option<Digest>,
    restores: Option<Digest>,
) -> Result<Digest, Error> {
    let subject = named.digest();
    // Later than all that is known about the same manifest, whatever the clocks of other machines say.
    let latest = newest(&records(image, &subject).await?).map(|record| record.at.as_millisecond());
    let at = latest.map_or(image.now_ms(), |latest| image.now_ms().max(latest + 1));
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    let mut annotations = BTreeMap::from([
        (TAG.to_owned(), image.tag().unwrap_or_default().to_owned()),
        (PREVIOUS.to_owned(), previous.to_string()),
        (OPERATION.to_owned(), operation.to_string()),
        (CREATED.to_owned(), format!("{at:.3}")),
    ]);
    annotations.extend(before.map(|digest| (BEFORE.to_owned(), digest.to_string())));
    annotations.extend(restores.map(|digest| (RESTORES.to_owned(), digest.to_string())));
    let empty: Descriptor = describe(EMPTY_CONFIG, EMPTY);
    let record = artifact::manifest(ARTIFACT_TYPE, named, std::slice::from_ref(&empty), &annotations)?;
    image.put_blob(&empty, Content::Bytes(EMPTY), &|_| ()).await?;
    image.attach(&subject, std::slice::from_ref(&record)).await?;
    Ok(record.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn record(name: &str, previous: &str, operation: Operation, before: &str, restores: &str, at: i64) -> Record {
        let named = |name: &str| (!name.is_empty()).then(|| digest(name));
        Record {
            digest: digest(name),
            previous: digest(previous),
            operation,
            before: named(before),
            restores: named(restores),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn the_same_image_named_twice_is_two_states() {
        // A, B, A: from the second A back to B, and from there to the first A, where it ends.
        let on_b = vec![record("b1", "A", Operation::Publish, "", "", 1)];
        let mut on_a = vec![record("a1", "B", Operation::Publish, "b1", "", 2)];
        let step = back(&on_a).unwrap();
        assert_eq!((step.to, step.restores), (digest("B"), Some(digest("b1"))));
        let mut on_b_later = on_b.clone();
        on_b_later.push(record("b2", "A", Operation::Rollback, "a1", "b1", 3));
        let step = back(&on_b_later).unwrap();
        assert_eq!((step.to, step.restores), (digest("A"), None));
        on_a.push(record("a2", "B", Operation::Rollback, "b2", "", 4));
        assert_eq!(back(&on_a), None);
        // Undone, it is B again, as of its rollback, and so one step from the end.
        let step = undo(&on_a).unwrap();
        assert_eq!((step.to, step.restores), (digest("B"), Some(digest("b2"))));
        on_b_later.push(record("b3", "A", Operation::Undo, "a2", "b2", 5));
        assert_eq!(back(&on_b_later).unwrap().to, digest("A"));
        assert_eq!(undo(&on_b_later), None, "what was undone is not undone again");
    }

    #[test]
    fn only_the_last_move_can_be_undone() {
        let mut records = vec![record("r", "C", Operation::Rollback, "c1", "b1", 3)];
        assert!(undo(&records).is_some());
        records.push(record("p", "D", Operation::Publish, "d1", "", 4));
        assert_eq!(undo(&records), None);
        assert_eq!(back(&records).unwrap().to, digest("D"));
    }

    #[test]
    fn rings_and_other_tags_lead_nowhere() {
        let ring = vec![record("x", "A", Operation::Rollback, "", "x", 1)];
        assert_eq!(back(&ring), None);
        let annotations = BTreeMap::from([
            (TAG, "v1"),
            (PREVIOUS, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (OPERATION, "publish"),
            (CREATED, "2026-01-02T03:04:05.678Z"),
        ]);
        assert!(Record::parse(digest("r"), &annotations, "v1").is_some());
        assert_eq!(Record::parse(digest("r"), &annotations, "v2"), None);
        let mut unknown = annotations.clone();
        unknown.insert(OPERATION, "something newer");
        assert_eq!(Record::parse(digest("r"), &unknown, "v1"), None);
    }
}
