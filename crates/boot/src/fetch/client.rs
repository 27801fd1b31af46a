//! HTTP with retries.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, RequestBuilder, ResponseExt as _, http::Response};

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
    /// How long all tries and pauses may take together; no limit but theirs when there is none.
    pub total_limit: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 6,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            try_limit: Duration::from_mins(1),
            total_limit: None,
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

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The content.
    pub content: Vec<u8>,
    /// The addresses that it was asked under, one after the other: the first, then those of the redirects.
    pub addresses: Vec<String>,
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
            .save_redirect_history(true)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
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
    pub fn get(&self, url: &str) -> Result<Answer, FetchError> {
        let (url, login) = split_login(url);
        self.repeat(|limit| {
            let request = self.agent.get(&url).config().timeout_global(Some(limit)).build();
            with_login(request, login.as_deref()).call()
        })
    }

    /// What a POST of `body` gives.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, url: &str, content_type: &str, body: &str) -> Result<Answer, FetchError> {
        let (url, login) = split_login(url);
        self.repeat(|limit| {
            let request = self.agent.post(&url).content_type(content_type);
            with_login(request.config().timeout_global(Some(limit)).build(), login.as_deref()).send(body)
        })
    }

    /// Tries with `send`, which is told how long it may take.
    fn repeat(&self, send: impl Fn(Duration) -> Result<Response<Body>, ureq::Error>) -> Result<Answer, FetchError> {
        let deadline = self.retry.total_limit.and_then(|limit| Instant::now().checked_add(limit));
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut failed = 0;
        loop {
            let (error, asked) = match attempt(send(self.retry.try_limit.min(left()))) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, asked)) => (error, asked),
            };
            let pause = self.retry.pause(failed, asked);
            failed += 1;
            // A try that could not begin in time is none.
            if failed >= self.retry.tries || pause >= left() {
                return Err(error);
            }
            if self.cancel.sleep(pause) {
                return Err(FetchError::Cancelled);
            }
        }
    }
}

/// The URL without user and password, and the header that carries them: encoded in the one, as they are in the other (RFC 7617).
fn split_login(url: &str) -> (String, Option<String>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((login, host)) = authority.rsplit_once('@') else { return whole() };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let login = [percent_decoded(user), b":".to_vec(), percent_decoded(password)].concat();
    (format!("{scheme}://{host}{path}"), Some(format!("Basic {}", STANDARD.encode(login))))
}

/// A `%` that no two digits follow stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%').and_then(|digits| hex::decode(digits).ok());
        rest = if digits.is_some() { after.get(2..).unwrap_or_default() } else { after };
        decoded.extend(digits.unwrap_or_else(|| vec![byte]));
    }
    decoded
}

fn with_login<Any>(request: RequestBuilder<Any>, login: Option<&str>) -> RequestBuilder<Any> {
    match login {
        Some(login) => request.header("authorization", login),
        None => request,
    }
}

fn attempt(sent: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
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
    let content = response.body_mut().with_config().limit(LIMIT_BYTES + 1).read_to_vec().map_err(transport)?;
    let addresses = response.get_redirect_history().unwrap_or_default().iter().map(ToString::to_string).collect();
    Ok(Answer { content, addresses })
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
        // Their messages quote addresses and headers, with the secrets in them.
        Error::BadUri(_) | Error::Http(_) => Failure::Final(FetchError::BadAddress),
        Error::Protocol(inner) if inner.to_string().starts_with("location header") => {
            Failure::Final(FetchError::BadAddress)
        }
        Error::Protocol(_) => Failure::Passing(FetchError::NotHttp, None),
        // The address or the server's identity is wrong; the next try would find the same.
        Error::TooManyRedirects | Error::RedirectFailed | Error::Rustls(_) | Error::Tls(_) => {
            Failure::Final(FetchError::Transport { source: Box::new(error) })
        }
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
