//! What tags name: looking it up, and moving on from there.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, StatusCode};

use super::attempts::{Attempts, Failure};
use super::client::Request;
use super::image::{RegistryImage, accepting_manifests, stated_digest};
use crate::Error;
use crate::digest::Digest;

impl RegistryImage {
    /// The image as the user would write it.
    #[must_use]
    pub fn name_of(&self) -> String {
        self.reference.to_string()
    }

    /// The tag; none where only a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.reference.tag()
    }

    /// The same repository and tag, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self::new(Arc::clone(&self.client), self.reference.pinned(digest))
    }

    /// The digest that the tag names now; `None` where it names nothing.
    ///
    /// # Errors
    /// The registry does not answer.
    pub async fn named(&self) -> Result<Option<Digest>, Error> {
        let Some(tag) = self.tag() else { return Ok(None) };
        let found = {
            let _permit = self.client.to_read().await;
            let mut attempts = Attempts::new(&self.client, &self.push);
            loop {
                let failure = match self.named_once(tag).await {
                    Ok(found) => break found,
                    Err(failure) => failure,
                };
                attempts.next(failure).await.map_err(|outcome| self.failed("look up", outcome))?;
            }
        };
        match found {
            Found::Nothing => Ok(None),
            Found::Digest(digest) => Ok(Some(digest)),
            // A registry that does not say the digest: the content does.
            Found::Something => Ok(Some(self.fetch_manifest(tag, None).await?.digest())),
        }
    }

    async fn named_once(&self, tag: &str) -> Result<Found, Failure> {
        let url = self.client.url(&self.push.host, &format!("{}/manifests/{tag}", self.push.repository))?;
        let response = self.client.send(&self.push, accepting_manifests(Request::new(Method::HEAD, url))).await?;
        match response.status() {
            StatusCode::OK => Ok(stated_digest(&response).map_or(Found::Something, Found::Digest)),
            StatusCode::NOT_FOUND => Ok(Found::Nothing),
            _ => Err(self.client.unexpected(&self.push, response).await),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        let since = self.client.settings().clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What a look-up came to.
enum Found {
    Nothing,
    Something,
    Digest(Digest),
}
