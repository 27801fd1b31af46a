//! What all images of a process share when they speak to registries.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::attempts::Failure;
use super::auth::{Access, Auth, Refusal};
use super::credentials::AuthFiles;
use super::error::{Cause, RegistryError, message_of, status_text};
use super::retry::{Clock, RetryPolicy, SystemClock, retry_after};
use super::sessions::Sessions;
use crate::reference::is_loopback;

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Speak plain HTTP to every registry, not to this machine's alone.
    pub insecure: bool,
    /// How many connections are in use at once at most: half of them to read, half to write.
    pub connections: usize,
    /// When failed requests are repeated.
    pub retry: RetryPolicy,
    /// How long a connection may do nothing before it counts as cut.
    pub stall: Duration,
    /// Where credentials are.
    pub auth_files: AuthFiles,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            insecure: false,
            connections: 12,
            retry: RetryPolicy::default(),
            stall: Duration::from_mins(1),
            auth_files: AuthFiles::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Settings {
    /// The defaults, with the auth files that the environment names.
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        Self { auth_files: AuthFiles::from_env(env), ..Self::default() }
    }
}

/// Speaks to registries.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    /// To this machine: no proxy stands in between.
    local: OnceLock<reqwest::Client>,
    remote: OnceLock<reqwest::Client>,
    auth: Auth,
    reads: Semaphore,
    writes: Semaphore,
    sessions: Sessions,
}

/// What a request asked for, such as `PUT /v2/app/manifests/v1`: kept with its answer, for messages.
///
/// Without the query, where registries keep states and signatures.
#[derive(Debug, Clone)]
struct Asked(String);

/// What the request of this answer asked for.
pub(super) fn asked(response: &Response) -> String {
    response.extensions().get::<Asked>().map_or_else(String::new, |asked| asked.0.clone())
}

/// One request, to be made once.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<reqwest::Body>,
    /// The body takes its time, and whoever sends it watches over it.
    streamed: bool,
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, streamed: false }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl IntoHeader) -> Self {
        if let Some(value) = value.into_header() {
            self.headers.append(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Method and path.
    pub(super) fn asked(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }

    pub(super) fn streamed(self, body: reqwest::Body) -> Self {
        Self { streamed: true, ..self.body(body) }
    }
}

/// What can be the value of a header. Text that cannot is left out: all of ours can.
pub(super) trait IntoHeader {
    fn into_header(self) -> Option<HeaderValue>;
}

impl IntoHeader for &str {
    fn into_header(self) -> Option<HeaderValue> {
        HeaderValue::from_str(self).ok()
    }
}

impl IntoHeader for u64 {
    fn into_header(self) -> Option<HeaderValue> {
        Some(self.into())
    }
}

impl IntoHeader for HeaderValue {
    fn into_header(self) -> Option<HeaderValue> {
        Some(self)
    }
}

impl Client {
    /// A client that has not connected to anything yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let writes = settings.connections.div_ceil(2).max(1);
        let reads = settings.connections.saturating_sub(writes).max(1);
        Self {
            settings,
            local: OnceLock::new(),
            remote: OnceLock::new(),
            auth: Auth::default(),
            reads: Semaphore::new(reads),
            writes: Semaphore::new(writes),
            sessions: Sessions::default(),
        }
    }

    /// Tells the registries to forget all uploads that were begun and not completed. For the end of a program: whatever
    /// still uploads fails.
    pub async fn cancel_uploads(&self) {
        self.sessions.cancel_all(self).await;
    }

    /// Begins no more uploads, and waits up to two seconds for the addresses of those that registries were asked for: only
    /// what has an address can be cancelled. For the end of a program, while what uploads is still polled.
    pub async fn stop_uploads(&self) {
        self.sessions.stop_asking().await;
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Waits for a connection to read with.
    ///
    /// Whoever holds one to write may wait for one to read, never the other way around: a copy within one registry needs
    /// both at once, and so cannot lock itself out.
    pub(super) async fn to_read(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphores are never closed.
        self.reads.acquire().await.ok()
    }

    /// Waits for a connection to write with.
    pub(super) async fn to_write(&self) -> Option<SemaphorePermit<'_>> {
        self.writes.acquire().await.ok()
    }

    /// The address of `path` in the registry's API, such as `library/debian/tags/list`.
    pub(super) fn url(&self, host: &str, path: &str) -> Result<Url, RegistryError> {
        let scheme = if self.settings.insecure || is_loopback(host) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/v2/{path}"))
            .map_err(|error| RegistryError::Unreachable { host: host.to_owned(), source: Cause::of(&error) })
    }

    /// The address that a `Location` header names, relative or absolute.
    pub(super) fn location(response: &Response, access: &Access) -> Result<Url, RegistryError> {
        let location = response.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| response.url().join(location).ok());
        let what = match location {
            Some(url) if !["http", "https"].contains(&url.scheme()) => "an address to upload to that is none",
            // What is uploaded, and the signature in the address, would be readable on the way.
            Some(url) if response.url().scheme() == "https" && url.scheme() != "https" => {
                "an address to upload to that leads from HTTPS to plain HTTP"
            }
            Some(url) => return Ok(url),
            None => "no usable address to upload to",
        };
        Err(RegistryError::Protocol { host: access.host.clone(), what: format!("{what}, asked {}", asked(response)) })
    }

    /// Makes the request with what `access` needs, once.
    ///
    /// # Errors
    /// What may be mended by another attempt, or cannot be mended at all. Any other status is the caller's to judge.
    pub(super) async fn send(&self, access: &Access, mut request: Request) -> Result<Response, Failure> {
        // Uploads may go to other hosts: those get no credentials of ours (CVE-2020-15157).
        let own = self.url(&access.host, "")?.origin() == request.url.origin();
        let used = if own { self.auth.authorization(self, access).await? } else { None };
        if let Some(authorization) = &used {
            request.headers.insert(http::header::AUTHORIZATION, authorization.header());
        }
        let response = self.execute(&access.host, request).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED if own => {
                let asked = asked(&response);
                let challenges = response.headers().get_all(http::header::WWW_AUTHENTICATE);
                let challenges = challenges.iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
                let message = self.message(response).await;
                Err(Failure::Challenged(Box::new(Refusal { challenges, used, asked, message })))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::from(RegistryError::Refused {
                host: access.registry.clone(),
                status: response.status().as_u16(),
                asked: asked(&response),
                user: used.and_then(|used| used.user().map(str::to_owned)),
                message: self.message(response).await,
            })),
            _ => {
                if let Some(used) = &used {
                    used.accept();
                }
                Ok(response)
            }
        }
    }

    /// Makes the request, once, as it is.
    pub(super) async fn execute(&self, host: &str, request: Request) -> Result<Response, Failure> {
        let client = self.http(host)?;
        let asked = request.asked();
        let Request { method, url, headers, body, streamed } = request;
        let mut builder = client.request(method, url).headers(headers);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let response = if streamed {
            builder.send().await
        } else {
            match tokio::time::timeout(self.settings.stall, builder.send()).await {
                Ok(response) => response,
                Err(_) => return Err(Failure::Cut { host: host.to_owned(), asked, cause: self.stalled() }),
            }
        };
        let mut response = response.map_err(|error| transport_failure(host, &asked, &error))?;
        response.extensions_mut().insert(Asked(asked.clone()));
        let status = response.status();
        let transient = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
            || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
        if !transient {
            return Ok(response);
        }
        let header = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|header| retry_after(header, self.settings.clock.now()));
        let message = self.message(response).await;
        Err(Failure::Overloaded { host: host.to_owned(), asked, status, retry_after, message })
    }

    /// The next bytes of a body. A connection that does nothing for too long counts as cut.
    pub(super) async fn chunk(&self, host: &str, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        let cause = match tokio::time::timeout(self.settings.stall, response.chunk()).await {
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(error)) => Cause::of(&error),
            Err(_) => self.stalled(),
        };
        Err(Failure::Cut { host: host.to_owned(), asked: asked(response), cause })
    }

    /// A whole body of at most `limit_bytes`.
    pub(super) async fn read_body(
        &self,
        host: &str,
        mut response: Response,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(host, &mut response).await? {
            if (body.len() + chunk.len()) as u64 > limit_bytes {
                let what = format!("more than the {limit_bytes} bytes that are read of such an answer");
                return Err(RegistryError::Protocol { host: host.to_owned(), what }.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What the body of an error says; nothing where it cannot be read.
    pub(super) async fn message(&self, response: Response) -> String {
        let body = self.read_body("", response, 64 << 10).await.unwrap_or_default();
        message_of(&body)
    }

    /// The failure of an answer that no one expects.
    pub(super) async fn unexpected(&self, access: &Access, response: Response) -> Failure {
        let status = response.status();
        Failure::from(RegistryError::Answer {
            host: access.host.clone(),
            asked: asked(&response),
            status: status_text(status),
            message: self.message(response).await,
        })
    }

    pub(super) fn stalled(&self) -> Cause {
        Cause::new(format!("nothing arrived for {} s", self.settings.stall.as_secs()))
    }

    fn http(&self, host: &str) -> Result<&reqwest::Client, RegistryError> {
        let local = is_loopback(host);
        let cell = if local { &self.local } else { &self.remote };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let tls = super::tls::configuration().map_err(|error| RegistryError::Client(Cause::of(&error)))?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("vast-imagegen/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(self.settings.connections)
            .redirect(redirects())
            .tls_backend_preconfigured(tls);
        let builder = if local { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| RegistryError::Client(Cause::of(&error)))?;
        Ok(cell.get_or_init(|| client))
    }
}

/// Follows redirects as registries need them to their storage, but never from HTTPS to plain HTTP.
fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if encrypted && attempt.url().scheme() != "https" {
            return attempt.error("a redirect leads from HTTPS to plain HTTP");
        }
        if attempt.previous().len() >= 10 { attempt.error("too many redirects") } else { attempt.follow() }
    })
}

fn transport_failure(host: &str, asked: &str, error: &reqwest::Error) -> Failure {
    let (host, asked, cause) = (host.to_owned(), asked.to_owned(), Cause::of(error));
    if error.is_connect() {
        Failure::Unreachable { host, cause }
    } else if error.is_redirect() || error.is_builder() {
        Failure::from(RegistryError::Protocol { host, what: cause.to_string() })
    } else {
        Failure::Cut { host, asked, cause }
    }
}
