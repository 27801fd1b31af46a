//! Whether a failed request is made again: after a pause, with a new token, or not at all.

use std::time::Duration;

use http::StatusCode;

use super::auth::{Access, Authorization, Refusal};
use super::client::Client;
use super::error::{Cause, RegistryError, status_text};
use crate::Error;
use crate::digest::Digest;

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection came about.
    Unreachable { host: String, cause: Cause },
    /// The connection broke.
    Cut { host: String, asked: String, cause: Cause },
    /// 429, 408 or 5xx.
    Overloaded { host: String, asked: String, status: StatusCode, retry_after: Option<Duration>, message: String },
    /// 401.
    Challenged(Box<Refusal>),
    /// What was sent arrived as something else, and was taken.
    Altered { host: String, expected: Digest, actual: Digest },
    /// Another attempt would end the same.
    Final(Box<RegistryError>),
    /// What was to be sent could not be read.
    Content(Error),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(Box::new(error))
    }
}

/// What is left when attempts are over: the registry's failure, or that of the content that was to be sent to it.
#[derive(Debug)]
pub(super) enum Outcome {
    Registry(RegistryError),
    Content(Error),
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Registry(error) => Self::from(error),
            Outcome::Content(error) => Self::Content(error),
        }
    }
}

/// How many tokens may end during one operation. Some registries' last for a few requests, and other requests use them too.
const MOST_ENDS: u32 = 50;

/// The attempts at one operation.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    client: &'a Client,
    access: &'a Access,
    failed: u32,
    /// A new token was fetched and nothing was accepted since: a second 401 is final.
    renewed: bool,
    renewals: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(client: &'a Client, access: &'a Access) -> Self {
        Self { client, access, failed: 0, renewed: false, renewals: 0 }
    }

    /// Progress was made: what fails from here on is a new failure.
    pub(super) fn progress(&mut self) {
        self.failed = 0;
        self.renewals = 0;
        self.renewed = false;
    }

    /// The token was accepted.
    pub(super) fn accepted(&mut self) {
        self.renewed = false;
    }

    /// The token was accepted, by a request that moved the operation on: it may need any number of them.
    pub(super) fn accepted_for_long(&mut self) {
        self.renewed = false;
        self.renewals = 0;
    }

    /// Returns when the next attempt may be made.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn next(&mut self, failure: Failure) -> Result<(), Outcome> {
        let mut failure = failure;
        if let Failure::Challenged(refusal) = failure {
            // A token that was taken and is refused has come to its end, perhaps by the requests beside this one: that may happen
            // again and again, but not for ever. One that never was taken is wrong, and another one hardly better.
            let ended = refusal.used.as_ref().is_some_and(Authorization::was_accepted);
            let most = self.client.settings().retry.attempts.max(2);
            let again = if ended { self.renewals < MOST_ENDS } else { !self.renewed && self.renewals < most };
            self.renewed = true;
            self.renewals += 1;
            match self.client.auth().challenged(self.client, self.access, *refusal, again).await {
                Ok(()) => return Ok(()),
                Err(next) => failure = next,
            }
        }
        self.failed += 1;
        let retry = self.client.settings().retry;
        let (retry_after, possible) = match &failure {
            Failure::Unreachable { .. } => (None, self.failed < retry.connect_attempts),
            Failure::Cut { .. } | Failure::Altered { .. } => (None, true),
            Failure::Overloaded { retry_after, .. } => (*retry_after, true),
            _ => (None, false),
        };
        let clock = &self.client.settings().clock;
        match retry.pause(self.failed, retry_after, clock.jitter()).filter(|_| possible) {
            Some(pause) => {
                tracing::debug!(?failure, ?pause, failed = self.failed, "trying again");
                clock.sleep(pause).await;
                Ok(())
            }
            None => Err(self.outcome(failure)),
        }
    }

    fn outcome(&self, failure: Failure) -> Outcome {
        let attempts = self.failed;
        Outcome::Registry(match failure {
            Failure::Unreachable { host, cause } => RegistryError::Unreachable { host, source: cause },
            Failure::Cut { host, asked, cause } => RegistryError::Cut { host, asked, attempts, source: cause },
            Failure::Overloaded { host, asked, status, retry_after, message } => RegistryError::Overloaded {
                host,
                asked,
                status: status_text(status),
                attempts,
                retry_after_seconds: retry_after
                    .filter(|&asked| asked > self.client.settings().retry.longest_retry_after)
                    .map(|asked| asked.as_secs()),
                message,
            },
            Failure::Challenged(refusal) => {
                let Refusal { asked, message, .. } = *refusal;
                RegistryError::Refused { host: self.access.registry.clone(), status: 401, asked, user: None, message }
            }
            Failure::Altered { host, expected, actual } => {
                RegistryError::Digest { host, what: "back a manifest", expected, actual }
            }
            Failure::Final(error) => *error,
            Failure::Content(error) => return Outcome::Content(error),
        })
    }
}
