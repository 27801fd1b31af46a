//! The answers to Caddy's questions, over a socket that root alone may use.
//!
//! `GET /auth` describes the client's request in `X-Forwarded-Method`, `-Uri`, `-Proto`, `X-Real-Ip` and the client's own
//! headers. 204 lets it pass; everything else is sent to the client as it is. Since only root can connect, the
//! description is Caddy's word.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{any, post};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::net::UnixListener;

use super::{Authenticator, Decision, Request, answer};
use crate::Error;

/// Where Caddy asks.
pub const AUTH_PATH: &str = "/auth";
/// Where the login page sends its form, on every authenticated site.
pub const LOGIN_PATH: &str = "/portal-login";
/// The answer's header that names what must not reach the application: `none`, or some of `authorization` and `query`.
pub const STRIP_HEADER: &str = "X-Portal-Strip";
/// The answer's header with the query that is left when `query` is to be stripped.
pub const QUERY_HEADER: &str = "X-Portal-Query";

/// A form with one password is small.
const FORM_LIMIT_BYTES: usize = 8192;

/// The service's routes.
pub fn router(authenticator: Arc<Authenticator>) -> Router {
    Router::new()
        .route(AUTH_PATH, any(ask))
        .route(LOGIN_PATH, post(log_in))
        .layer(DefaultBodyLimit::max(FORM_LIMIT_BYTES))
        .with_state(authenticator)
}

/// Listens on a Unix socket that its owner alone may connect to, replacing a stale one in one step.
///
/// # Errors
/// When the directory or the socket cannot be made.
pub fn bind_private(path: &Path) -> Result<UnixListener, Error> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    let cannot = |source| Error::Listen { address: path.display().to_string(), source };
    // Made under another name: between bind and chmod the socket has the mode that the umask gives.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(cannot)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(cannot)?;
    Ok(listener)
}

async fn ask(State(authenticator): State<Arc<Authenticator>>, headers: HeaderMap) -> Response {
    let Some(asked) = Asked::read(&headers) else {
        return answer::plain(StatusCode::BAD_REQUEST, String::new()).map(Body::from);
    };
    let request = asked.request(&headers);
    let decision = authenticator.decide(&request);
    let Decision::Allow { strip_authorization, query, .. } = decision else {
        let told = answer::to_client(&decision, &request);
        return told.unwrap_or_else(|| answer::plain(StatusCode::UNAUTHORIZED, String::new())).map(Body::from);
    };
    let mut response = answer::plain(StatusCode::NO_CONTENT, String::new()).map(Body::from);
    let strip = match (strip_authorization, query.is_some()) {
        (false, false) => "none",
        (true, false) => "authorization",
        (false, true) => "query",
        (true, true) => "authorization query",
    };
    response.headers_mut().insert(STRIP_HEADER, HeaderValue::from_static(strip));
    if let Some(query) = query.and_then(|query| HeaderValue::from_bytes(query.as_bytes()).ok()) {
        response.headers_mut().insert(QUERY_HEADER, query);
    }
    response
}

async fn log_in(State(authenticator): State<Arc<Authenticator>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8_lossy(&body);
    let post = Asked { method: Method::POST, uri: answer::way_on(&body) };
    answer::to_form(&authenticator, &body, &post.request(&headers)).map(Body::from)
}

/// The client's method and address, as Caddy gives them.
struct Asked {
    method: Method,
    uri: String,
}

impl Asked {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let method = Method::from_bytes(headers.get("x-forwarded-method")?.as_bytes()).ok()?;
        Some(Self { method, uri: String::from_utf8_lossy(headers.get("x-forwarded-uri")?.as_bytes()).into_owned() })
    }

    fn request<'a>(&'a self, headers: &'a HeaderMap) -> Request<'a> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Request {
            method: &self.method,
            uri: &self.uri,
            headers,
            client: header("x-real-ip").and_then(|address| address.parse::<IpAddr>().ok()),
            https: header("x-forwarded-proto") == Some("https"),
            now: SystemTime::now(),
        }
    }
}
