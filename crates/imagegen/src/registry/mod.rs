//! Registries: any OCI distribution 1.1 registry, and Docker Hub's dialect.
//!
//! [`Client`] holds what all images share (connections, tokens, limits, the retry policy); [`RegistryImage`] is one image
//! as a source and a sink. An operation is a loop over attempts: `send` makes one request, `Attempts` decides whether a
//! failure is worth another one, waits, or fetches a new token.
//!
//! # What comes from `oci-client`, and what does not
//! References and their grammar, media types, the token and the error envelope of registries are `oci-client`'s. Its own
//! `Client` is not used, for reasons read in version 0.18:
//! - it does not retry; its errors drop the response's headers, so `Retry-After` (which Docker Hub sends exactly for
//!   manifests) cannot be honoured around it either, and a token service that is down looks like refused credentials;
//! - it does not fetch a new token after 401;
//! - `push` holds whole layers in memory and sends blobs that the registry has;
//! - `mount_blob` takes 202 (mount declined, upload instead) for an error and asks for no pull scope on the source;
//! - it keeps its `reqwest::Client` to itself: a second one beside it would halve what "at most N connections" means.

mod attempts;
mod auth;
mod client;
mod credentials;
mod error;
mod fetch;
mod image;
mod naming;
mod pump;
mod referrers;
mod retry;
mod sessions;
mod tls;
mod upload;

pub use client::{Client, Settings};
pub use credentials::{AuthFiles, Credential};
pub use error::{Cause, RegistryError};
pub use image::RegistryImage;
pub use retry::{Clock, RetryPolicy, SystemClock};
