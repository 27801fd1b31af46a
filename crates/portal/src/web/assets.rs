//! The page and what it loads, from the binary.

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::error::Refusal;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_str!(concat!("../../assets/", $name)))
    };
}

const PAGE: (&str, &str, &str) = asset!("index.html", HTML);
const FILES: [(&str, &str, &str); 10] = [
    asset!("portal.css", CSS),
    ("icon.svg", "image/svg+xml", crate::ICON),
    asset!("js/main.js", JS),
    asset!("js/dom.js", JS),
    asset!("js/overview.js", JS),
    asset!("js/applications.js", JS),
    asset!("js/processes.js", JS),
    asset!("js/logs.js", JS),
    asset!("js/terminal.js", JS),
    asset!("js/boot.js", JS),
];
const OPENAPI: &str = include_str!("../../assets/openapi.json");

/// Nothing from elsewhere but framed applications, which live on other ports of this address; and nobody else frames
/// this page, whose buttons stop processes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      manifest-src 'self'; frame-src http: https:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'self'";

pub(super) async fn page(headers: HeaderMap) -> Response {
    answer(PAGE, &headers)
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some(file) => answer(*file, &headers),
        None => Refusal::new(StatusCode::NOT_FOUND, "there is no such asset").into_response(),
    }
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// An asset, or 304: the browser keeps it but asks each time, so a new binary's page is never mixed with an old one's.
fn answer((_, kind, text): (&str, &'static str, &'static str), headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(text.as_bytes())[..12]));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if known { Body::empty() } else { Body::from(text) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
