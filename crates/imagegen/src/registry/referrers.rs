//! Artifacts about a manifest: finding and attaching them (OCI distribution spec 1.1, "Listing Referrers", "Pushing
//! Manifests with Subject").
//!
//! A registry that keeps track says so in its answer to the push (`OCI-Subject`) and lists referrers through its API. For
//! all others, among them the distribution project's 2.8, the clients keep the list themselves: an index under the tag
//! `sha256-<hex of the subject>`. Such a registry has no compare-and-swap, so the list is read, added to, written and read
//! again until everything of ours is in it; and once more when the publication is over, because a writer that had read the
//! list before us may have written it after us.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, Method, StatusCode};
use oci_spec::image::{Descriptor, ImageIndex};
use reqwest::{Response, Url};
use serde_json::{Map, Value, json};

use super::attempts::{Attempts, Failure, Outcome};
use super::client::Request;
use super::error::RegistryError;
use super::image::RegistryImage;
use crate::Error;
use crate::artifact;
use crate::digest::Digest;
use crate::manifest::{MAX_MANIFEST_BYTES, OCI_INDEX, digest_of, is_index, malformed};
use crate::source::RawManifest;

/// The header of a registry that keeps track of subjects.
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// How often a list is written at most before another writer is taken to be in the way for good.
const MAX_ROUNDS: usize = 10;

/// How many pages of referrers are read at most: a list that never ends is an attack or a defect.
const MAX_PAGES: usize = 64;

/// What an image knows about its registry's lists of referrers.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The registry has no API for them.
    by_tag: AtomicBool,
    /// What was added to lists under tags, to be confirmed.
    added: Mutex<BTreeMap<String, Vec<Descriptor>>>,
}

/// One page of a list.
struct Page {
    entries: Vec<Descriptor>,
    next: Option<Url>,
}

/// The tag that holds the list of what refers to `subject`.
fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

impl RegistryImage {
    /// What refers to `subject`, each once, in the registry's order.
    pub(super) async fn list_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let listed = match self.list_by_api(subject, artifact_type).await? {
            Some(listed) => listed,
            None => entries_of(&self.read_list(&fallback_tag(subject)).await?),
        };
        let mut seen = BTreeSet::new();
        let wanted = |entry: &Descriptor| artifact_type.is_none_or(|wanted| artifact::is_of_type(entry, wanted));
        // Registries may ignore the filter.
        Ok(listed.into_iter().filter(|entry| wanted(entry) && seen.insert(entry.digest().to_string())).collect())
    }

    /// `None` where the registry has no such API.
    async fn list_by_api(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        if self.referrers.by_tag.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let read = |outcome| self.failed("read", outcome);
        let path = format!("{}/referrers/{subject}", self.reference.repository());
        let mut url = self.client.url(&self.pull.host, &path).map_err(|error| read(Outcome::Registry(error)))?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut listed = Vec::new();
        for _ in 0..MAX_PAGES {
            let _permit = self.client.to_read().await;
            let mut attempts = Attempts::new(&self.client, &self.pull);
            let page = loop {
                let failure = match self.page(&url).await {
                    Ok(page) => break page,
                    // A registry that knows no such address may answer as if it were somebody else's.
                    Err(Failure::Final(error)) if matches!(*error, RegistryError::Refused { .. }) => break None,
                    Err(failure) => failure,
                };
                attempts.next(failure).await.map_err(read)?;
            };
            let Some(page) = page else {
                self.referrers.by_tag.store(true, Ordering::Relaxed);
                return Ok(None);
            };
            listed.extend(page.entries);
            match page.next {
                Some(next) => url = next,
                None => return Ok(Some(listed)),
            }
        }
        let what = format!("a list of referrers that has more than {MAX_PAGES} pages");
        let host = self.pull.host.clone();
        Err(read(Outcome::Registry(RegistryError::Protocol { host, what })))
    }

    async fn page(&self, url: &Url) -> Result<Option<Page>, Failure> {
        let request = Request::new(Method::GET, url.clone()).header(http::header::ACCEPT, OCI_INDEX);
        let response = self.client.send(&self.pull, request).await?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.client.unexpected(&self.pull, response).await),
        }
        // The specification demands this type; a page for people or a proxy's answer has another one.
        let media_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if media_type.and_then(|value| value.split(';').next()).map(str::trim) != Some(OCI_INDEX) {
            return Ok(None);
        }
        let next = next_page(&response);
        let host = &self.pull.host;
        let body = self.client.read_body(host, response, MAX_MANIFEST_BYTES).await?;
        let index: ImageIndex = serde_json::from_slice(&body).map_err(|error| RegistryError::Protocol {
            host: host.clone(),
            what: format!("a list of referrers that cannot be read ({error})"),
        })?;
        Ok(Some(Page { entries: index.manifests().clone(), next }))
    }

    /// The index under a tag, as it is stored; an empty one where there is none.
    async fn read_list(&self, tag: &str) -> Result<Map<String, Value>, Error> {
        let raw = match self.fetch_manifest(tag, None).await {
            Ok(raw) => raw,
            Err(Error::Registry { source, .. }) if matches!(*source, RegistryError::NotFound { .. }) => {
                return Ok(Map::new());
            }
            Err(error) => return Err(error),
        };
        let reference = self.reference.to_string();
        if !is_index(&raw.media_type) {
            return Err(malformed("list of referrers", &reference, &format!("the tag {tag} holds something else")));
        }
        serde_json::from_slice(&raw.bytes).map_err(|error| Error::Malformed {
            what: "list of referrers",
            reference,
            source: Box::new(error),
        })
    }

    pub(super) async fn attach_referrers(&self, subject: &Digest, referrers: &[RawManifest]) -> Result<(), Error> {
        let mut untracked = Vec::new();
        for referrer in referrers {
            if !self.put_manifest_as(referrer, &referrer.digest().to_string()).await? {
                untracked.push(artifact::entry(referrer, &self.reference.to_string())?);
            }
        }
        if untracked.is_empty() {
            return Ok(());
        }
        let tag = fallback_tag(subject);
        self.add_to_list(&tag, &untracked).await?;
        self.referrers.added.lock().unwrap_or_else(PoisonError::into_inner).entry(tag).or_default().extend(untracked);
        Ok(())
    }

    /// Adds what is missing in the list under `tag`, and does not believe it before it has read it.
    async fn add_to_list(&self, tag: &str, entries: &[Descriptor]) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            let Some(list) = with_entries(self.read_list(tag).await?, entries) else { return Ok(()) };
            let written = self.write_list(tag, &list).await;
            let Err(Error::Registry { source, .. }) = &written else {
                written?;
                continue;
            };
            // A list that names what was deleted meanwhile is refused, and would be for ever.
            if !matches!(**source, RegistryError::Answer { .. }) {
                return written;
            }
            let Some(pruned) = self.without_deleted(&list).await? else { return written };
            self.write_list(tag, &pruned).await?;
        }
        let why = format!("others keep writing it: what was added to {tag} was lost {MAX_ROUNDS} times in a row");
        Err(malformed("list of referrers", &self.reference.to_string(), &why))
    }

    async fn write_list(&self, tag: &str, list: &Map<String, Value>) -> Result<(), Error> {
        let bytes = serde_json::to_vec(list).unwrap_or_default();
        self.put_manifest_as(&RawManifest { bytes, media_type: OCI_INDEX.to_owned() }, tag).await.map(drop)
    }

    /// The list without what the registry no longer has; `None` where that is nothing.
    async fn without_deleted(&self, list: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Error> {
        let reference = self.reference.to_string();
        let mut deleted = BTreeSet::new();
        for entry in entries_of(list) {
            let digest = digest_of(&entry, &reference)?;
            match self.fetch_manifest(&digest.to_string(), Some(digest)).await {
                Err(Error::Registry { source, .. }) if matches!(*source, RegistryError::NotFound { .. }) => {
                    deleted.insert(digest.to_string());
                }
                other => drop(other?),
            }
        }
        if deleted.is_empty() {
            return Ok(None);
        }
        let mut list = list.clone();
        if let Some(entries) = list.get_mut("manifests").and_then(Value::as_array_mut) {
            entries.retain(|entry| !entry["digest"].as_str().is_some_and(|digest| deleted.contains(digest)));
        }
        Ok(Some(list))
    }

    /// Looks at the lists once more, and mends them where a slower writer undid ours. What fails now was there before.
    pub(super) async fn confirm_referrers(&self) {
        let added = std::mem::take(&mut *self.referrers.added.lock().unwrap_or_else(PoisonError::into_inner));
        for (tag, entries) in added {
            if let Err(error) = self.add_to_list(&tag, &entries).await {
                tracing::debug!(%tag, %error, "cannot confirm a list of referrers");
            }
        }
    }
}

/// The entries of a list that can be understood.
fn entries_of(list: &Map<String, Value>) -> Vec<Descriptor> {
    let entries = list.get("manifests").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect()
}

/// The list with `entries` in it; `None` where they are in it already. All else stays, known or not.
fn with_entries(mut list: Map<String, Value>, entries: &[Descriptor]) -> Option<Map<String, Value>> {
    list.entry("schemaVersion").or_insert(json!(2));
    list.entry("mediaType").or_insert(json!(OCI_INDEX));
    let listed = list.entry("manifests").or_insert_with(|| json!([]));
    if !listed.is_array() {
        *listed = json!([]);
    }
    let listed = listed.as_array_mut()?;
    let before = listed.len();
    for entry in entries {
        let digest = entry.digest().to_string();
        if !listed.iter().any(|other| other["digest"] == digest.as_str()) {
            listed.push(serde_json::to_value(entry).ok()?);
        }
    }
    (listed.len() > before).then_some(list)
}

/// The address of the next page, from `Link: </v2/…>; rel="next"` (RFC 8288). Another host's is not followed.
fn next_page(response: &Response) -> Option<Url> {
    let links = response.headers().get_all(http::header::LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|links| links.split(',')).find_map(|link| {
        let (target, parameters) = link.split_once(';')?;
        let next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=next" | "rel=\"next\""));
        next.then(|| target.trim().strip_prefix('<')?.strip_suffix('>')).flatten()
    })?;
    let next = response.url().join(next).ok()?;
    (next.origin() == response.url().origin()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::describe;

    #[test]
    fn a_list_keeps_what_others_wrote_and_takes_each_entry_once() {
        let (ours, other) = (describe(OCI_INDEX, b"ours"), describe(OCI_INDEX, b"other"));
        let stored = json!({"schemaVersion": 2, "x": 1, "manifests": [{"digest": "sha512:?", "y": 2}, other]});
        let stored = stored.as_object().unwrap().clone();
        let list = with_entries(stored, &[other.clone(), ours.clone(), ours.clone()]).unwrap();
        assert_eq!((&list["x"], &list["manifests"][0]["y"]), (&json!(1), &json!(2)));
        assert_eq!(entries_of(&list), [other, ours.clone()]);
        assert_eq!(with_entries(list, std::slice::from_ref(&ours)), None);
        assert_eq!(entries_of(&with_entries(Map::new(), std::slice::from_ref(&ours)).unwrap()), [ours]);
    }
}
