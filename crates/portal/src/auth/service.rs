//! The answers to Caddy's questions, over a socket that root alone may use.
//!
//! `GET /auth` describes the client's request in `X-Forwarded-Method`, `-Uri`, `-Proto`, `X-Real-Ip` and the client's own
//! headers. 204 lets it pass; everything else is sent to the client as it is. Since only root can connect, the
//! description is Caddy's word.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{any, post};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::net::UnixListener;

use super::login::{Form, page};
use super::{Authenticator, Decision, Request, request};
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
    let Some(asked) = Asked::read(&headers) else { return answer(StatusCode::BAD_REQUEST, Body::empty()) };
    let request = asked.request(&headers);
    match authenticator.decide(&request) {
        Decision::Allow { strip_authorization, query, .. } => {
            let mut response = answer(StatusCode::NO_CONTENT, Body::empty());
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
        Decision::Redirect { location, cookie } => redirect(StatusCode::FOUND, &location, &cookie),
        refused => refuse(&refused, &request),
    }
}

async fn log_in(State(authenticator): State<Arc<Authenticator>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = Form::parse(&String::from_utf8_lossy(&body));
    let post = Asked { method: Method::POST, uri: form.next.clone() };
    let request = post.request(&headers);
    match authenticator.log_in(&form.password, &request) {
        Ok(cookie) => redirect(StatusCode::SEE_OTHER, &form.next, &cookie),
        Err(refused) => refusal_page(&refused, &form.next),
    }
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

/// A person gets a page to sign in, a program a line of text and the name of the way in.
fn refuse(refused: &Decision, request: &Request<'_>) -> Response {
    if request::is_navigation(request) {
        return refusal_page(refused, request.uri);
    }
    let (status, text, wait) = refusal(refused);
    let mut response = answer(status, Body::from(format!("{text}\n")));
    // A page's own requests must not open the browser's password window over the page.
    if status == StatusCode::UNAUTHORIZED && !request.headers.contains_key("sec-fetch-mode") {
        let realm = HeaderValue::from_static("Basic realm=\"instance\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    retry_after(&mut response, wait);
    response
}

fn refusal_page(refused: &Decision, next: &str) -> Response {
    let (status, text, wait) = refusal(refused);
    let message = matches!(refused, Decision::Deny { wrong: true } | Decision::Wait(_)).then_some(text.as_str());
    let mut response = answer(status, Body::from(page(next, message)));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    retry_after(&mut response, wait);
    response
}

fn refusal(refused: &Decision) -> (StatusCode, String, Option<Duration>) {
    match refused {
        Decision::Wait(wait) => {
            let text = format!("Too many wrong attempts; try again in {} s.", wait.as_secs() + 1);
            (StatusCode::TOO_MANY_REQUESTS, text, Some(*wait))
        }
        Decision::Deny { wrong: true } => {
            (StatusCode::UNAUTHORIZED, "That is not the password or token.".to_owned(), None)
        }
        _ => (StatusCode::UNAUTHORIZED, "This needs the instance's token or password.".to_owned(), None),
    }
}

fn retry_after(response: &mut Response, wait: Option<Duration>) {
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
}

fn redirect(status: StatusCode, location: &str, cookie: &str) -> Response {
    let (Ok(location), Ok(cookie)) = (HeaderValue::from_str(location), HeaderValue::from_str(cookie)) else {
        return answer(StatusCode::BAD_REQUEST, Body::empty());
    };
    let mut response = answer(status, Body::empty());
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// An answer that nobody keeps and that no address leaks from.
fn answer(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
