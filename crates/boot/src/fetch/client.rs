//! HTTP with retries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, http::Response};

use super::{FetchError, LIMIT_BYTES};
use crate::cancel::Cancel;
use crate::env_vars;
use crate::environment::Environment;

/// The bundles that images keep the system's certificate authorities in.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A `Retry-After` beyond this is not waited for in full: a boot that stands still for an hour helps nobody.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(2);

/// When and how often to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often to try in all.
    pub tries: u32,
    /// The pause after the first failure; it doubles after each.
    pub first_pause: Duration,
    /// The longest pause that is not asked for by the server.
    pub longest_pause: Duration,
    /// How long one try may take.
    pub try_limit: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 6,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            try_limit: Duration::from_mins(1),
        }
    }
}

impl Retry {
    /// The pause after the failure of try number `failed` (from 0), when the server asked for `asked`.
    #[must_use]
    pub fn pause(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let grown = self.first_pause.saturating_mul(2_u32.saturating_pow(failed)).min(self.longest_pause);
        asked.map_or(grown, |asked| asked.min(LONGEST_RETRY_AFTER))
    }
}

/// What talks to servers; it owns all that it needs, so it can go to another thread.
pub struct Client {
    agent: Agent,
    retry: Retry,
    cancel: Cancel,
}

enum Failure {
    /// Another try may succeed, perhaps after the time that the server asked for.
    Passing(FetchError, Option<Duration>),
    Final(FetchError),
}

impl Client {
    /// A client for URLs with the scheme of `url`, with the proxy of `env`.
    #[must_use]
    pub fn new(url: &str, env: &Environment, retry: Retry, cancel: Cancel) -> Self {
        let roots = if has_system_bundle(env) { RootCerts::PlatformVerifier } else { RootCerts::WebPki };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(retry.try_limit))
            .proxy(proxy(url, env))
            .user_agent(concat!("vast-boot/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self { agent: config.new_agent(), retry, cancel }
    }

    /// What a GET gives.
    ///
    /// # Errors
    /// When the last try failed, or the first that cannot get better.
    pub fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.repeat(|| self.agent.get(url).call())
    }

    /// What a POST of `body` gives.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, url: &str, content_type: &str, body: &str) -> Result<Vec<u8>, FetchError> {
        self.repeat(|| self.agent.post(url).content_type(content_type).send(body))
    }

    fn repeat(&self, send: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, FetchError> {
        let mut failed = 0;
        loop {
            match attempt(send()) {
                Ok(content) => return Ok(content),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, _)) if failed + 1 >= self.retry.tries => return Err(error),
                Err(Failure::Passing(_, asked)) => {
                    if self.cancel.sleep(self.retry.pause(failed, asked)) {
                        return Err(FetchError::Cancelled);
                    }
                    failed += 1;
                }
            }
        }
    }
}

fn attempt(sent: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Failure> {
    let mut response = sent.map_err(transport)?;
    let status = response.status();
    if !status.is_success() {
        let error = FetchError::Status { status: status.as_u16() };
        let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, Timestamp::now()));
        let passing = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
        return Err(if passing { Failure::Passing(error, asked) } else { Failure::Final(error) });
    }
    // One byte more than allowed tells "too large" from "exactly as large as allowed".
    response.body_mut().with_config().limit(LIMIT_BYTES + 1).read_to_vec().map_err(transport)
}

fn transport(error: ureq::Error) -> Failure {
    use ureq::Error;
    if let Error::Io(inner) = &error
        && let Some(rustls::Error::InvalidCertificate(reason)) = inner.get_ref().and_then(|inner| inner.downcast_ref())
    {
        return Failure::Final(FetchError::Untrusted { reason: reason.to_string() });
    }
    match error {
        Error::BodyExceedsLimit(_) => Failure::Final(FetchError::TooLarge),
        // The address or the server's identity is wrong; the next try would find the same.
        Error::BadUri(_)
        | Error::Http(_)
        | Error::TooManyRedirects
        | Error::RedirectFailed
        | Error::Rustls(_)
        | Error::Tls(_) => Failure::Final(FetchError::Transport { source: Box::new(error) }),
        // Names, connections, resets, time: a network that is still coming up shows all of them.
        _ => Failure::Passing(FetchError::Transport { source: Box::new(error) }, None),
    }
}

/// What a `Retry-After` of `value` asks for at the time `now`: seconds, or a date (RFC 9110, 10.2.3).
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn has_system_bundle(env: &Environment) -> bool {
    env.non_empty("SSL_CERT_FILE").is_some_and(|file| Path::new(file).is_file())
        || SYSTEM_BUNDLES.iter().any(|file| Path::new(file).is_file())
}

/// The proxy for `url`. Names in lower case go first, as curl reads them.
fn proxy(url: &str, env: &Environment) -> Option<Proxy> {
    let either = |name: &str| env.non_empty(&name.to_ascii_lowercase()).or_else(|| env.non_empty(name));
    let own = if url.to_ascii_lowercase().starts_with("https:") { env_vars::HTTPS_PROXY } else { env_vars::HTTP_PROXY };
    let proxy = Proxy::new(either(own).or_else(|| either(env_vars::ALL_PROXY))?).ok()?;
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(name) = proxy.username() {
        builder = builder.username(name);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in either(env_vars::NO_PROXY).into_iter().flat_map(|hosts| hosts.split(',')) {
        builder = builder.no_proxy(host.trim());
    }
    builder.build().ok()
}

#[cfg(test)]
mod tests;
