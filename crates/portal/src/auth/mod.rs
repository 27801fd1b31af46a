//! Who may pass: authentication of the requests that Caddy receives.
//!
//! Caddy asks for every request (as its `forward_auth` does) over a socket that root alone may use, and
//! [`Authenticator::decide`] answers. The ways in, tried in this order: `?token=`, the cookie, `Authorization: Bearer`,
//! HTTP basic. What the application is not to see of them is part of the decision.
//!
//! The comparison happens here rather than in matchers of the Caddyfile because then no secret is written there, every
//! comparison takes the same time, guesses are limited, the token leaves the address on every version of Caddy, and the
//! rules are functions with tests. When nobody answers on the socket, Caddy refuses: it never fails open.

pub mod answer;
mod cookie;
mod credentials;
mod limiter;
mod login;
mod request;
mod secret;
mod service;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};

pub use cookie::{COOKIE_DAYS, cookie_name};
pub use credentials::Credentials;
pub use limiter::Limiter;
pub use login::escape_html;
pub use secret::{Generated, key_file, token_file};
pub use service::{AUTH_PATH, LOGIN_PATH, QUERY_HEADER, STRIP_HEADER, bind_private, router};

/// A request: as Caddy reports it, or as it came to the page that stands in the portal's place during a boot.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The client's method.
    pub method: &'a Method,
    /// The client's path and query, as sent.
    pub uri: &'a str,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// The client's address, where it could be told.
    pub client: Option<IpAddr>,
    /// Whether the client speaks TLS to us (or to the tunnel before us).
    pub https: bool,
    /// The moment of the request.
    pub now: SystemTime,
}

/// How a request proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The path is open to everybody, such as `/.well-known/acme-challenge/…`.
    OpenPath,
    /// `?token=` in the address.
    Token,
    /// The cookie that an earlier visit was given.
    Cookie,
    /// `Authorization: Bearer`.
    Bearer,
    /// HTTP basic authentication.
    Basic,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may pass, less what proved it.
    Allow {
        /// The proof that counted.
        how: How,
        /// The `Authorization` header is ours and must not reach the application.
        strip_authorization: bool,
        /// The query without our token, where it held one.
        query: Option<String>,
    },
    /// A browser came with a token: it gets the cookie and an address without the token.
    Redirect {
        /// Path and query on the same server.
        location: String,
        /// The value of `Set-Cookie`.
        cookie: String,
    },
    /// It may not pass.
    Deny {
        /// Something was offered, and it was wrong.
        wrong: bool,
    },
    /// Too many wrong guesses from this client: not even looked at.
    Wait(Duration),
}

/// Decides about requests: cheap to ask, less so to make. What it knows of guesses begins anew with it.
#[derive(Debug)]
pub struct Authenticator {
    credentials: Credentials,
    limiter: Limiter,
}

impl Authenticator {
    /// An authenticator for these credentials, with no guesses counted yet.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, limiter: Limiter::default() }
    }

    /// What it compares with.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Decides about one request.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let allow = |how, strip_authorization, query| Decision::Allow { how, strip_authorization, query };
        if request::is_open_path(request.uri) {
            return allow(How::OpenPath, false, None);
        }
        let locked = self.limiter.locked(request.client, request.now);
        let offers = request::Offers::read(request, self.credentials.cookie_name());
        let token = offers.tokens.iter().any(|token| self.credentials.accepts(token, locked.is_some()));
        let authorization = offers.authorization.as_ref().is_some_and(|offer| match offer {
            request::Authorization::Bearer(secret) => self.credentials.accepts(secret, locked.is_some()),
            request::Authorization::Basic { user, password } => {
                self.credentials.accepts_user(user, password, locked.is_some())
            }
        });
        let query =
            || token.then(|| request::query_without(request.uri, |value| self.credentials.accepts(value, false)));
        if token && request::is_navigation(request) {
            return Decision::Redirect {
                location: request::local_location(request.uri, query().as_deref()),
                cookie: self.credentials.set_cookie(request.https, request.now),
            };
        }
        if token {
            return allow(How::Token, authorization, query());
        }
        if offers.cookies.iter().any(|value| self.credentials.accepts_cookie(value, request.now)) {
            return allow(How::Cookie, authorization, None);
        }
        if authorization {
            let how = match offers.authorization {
                Some(request::Authorization::Basic { .. }) => How::Basic,
                _ => How::Bearer,
            };
            return allow(how, true, None);
        }
        let wrong = !offers.tokens.is_empty() || offers.authorization.is_some();
        match locked {
            Some(wait) if wrong => Decision::Wait(wait),
            _ => {
                if wrong {
                    self.limiter.count_wrong(request.client, request.now);
                }
                Decision::Deny { wrong }
            }
        }
    }

    /// Checks the password of the login page; the cookie to set when it is right.
    pub(crate) fn log_in(&self, password: &str, request: &Request<'_>) -> Result<String, Decision> {
        let locked = self.limiter.locked(request.client, request.now);
        if self.credentials.accepts(password, locked.is_some()) {
            return Ok(self.credentials.set_cookie(request.https, request.now));
        }
        if let Some(wait) = locked {
            return Err(Decision::Wait(wait));
        }
        self.limiter.count_wrong(request.client, request.now);
        Err(Decision::Deny { wrong: true })
    }
}

#[cfg(test)]
mod tests;
