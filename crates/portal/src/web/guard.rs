//! Who may change something.
//!
//! Caddy lets browsers in by a cookie, and a browser sends cookies with requests that other pages make: a page of an
//! application on another port of the same address is "the same site". So a request that changes something must come
//! from a page of exactly this origin, which browsers say in `Origin`, or from a program that carries a token itself.

use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::error::Refusal;
use super::state::Portal;
use crate::auth::{self, Decision, How};

/// Lets only requests through that are addressed to this machine's loopback, as Caddy and tunnels address them: a
/// page elsewhere whose name was made to resolve to 127.0.0.1 is addressed by that name.
pub(super) async fn addressed_to_us(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if portal.faces_network() || is_loopback(host) {
        return next.run(request).await;
    }
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "this host name is not served here").into_response()
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether this request may change something.
pub(super) fn may_change(portal: &Portal, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let carries_token = || {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = auth::Request { method, uri: path, headers, client: None, https: false, now: SystemTime::now() };
        let decision = portal.authenticator().decide(&request);
        matches!(decision, Decision::Allow { how: How::Token | How::Bearer | How::Basic, .. })
    };
    match same_origin(headers) {
        Some(true) => Ok(()),
        Some(false) => Err(Refusal::new(StatusCode::FORBIDDEN, "requests from other origins change nothing here")),
        None if portal.is_open() || carries_token() => Ok(()),
        None => Err(Refusal::new(StatusCode::FORBIDDEN, "a program needs a token to change something")
            .with_hint("send `Authorization: Bearer <token>`; `vast-portal token` prints it")),
    }
}

/// Whether a page of this origin asks; `None` when no page does.
pub(super) fn same_origin(headers: &HeaderMap) -> Option<bool> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = header("sec-fetch-site").map(|site| site == "same-origin");
    let origin = header("origin").map(|origin| {
        // Caddy says what the browser asked for in X-Forwarded-Host; Host is then the portal's own address.
        let own = header("x-forwarded-host").or_else(|| header("host")).unwrap_or_default();
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        !own.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own))
    });
    match (origin, site) {
        (Some(same), site) => Some(same && site.unwrap_or(true)),
        (None, Some(same)) => Some(same),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_in_every_spelling_and_nothing_else_is() {
        for host in ["localhost", "LOCALHOST:11111", "127.0.0.1:1", "127.8.8.8", "[::1]:11111", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:11111", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn only_the_very_same_origin_is_the_same() {
        let own = ("x-forwarded-host", "203.0.113.5:41111");
        for (sent, expected) in [
            (vec![], None),
            (vec![("origin", "https://203.0.113.5:41111")], Some(true)),
            (vec![("origin", "https://203.0.113.5:41111"), ("sec-fetch-site", "same-origin")], Some(true)),
            (vec![("origin", "https://203.0.113.5:48080"), ("sec-fetch-site", "same-site")], Some(false)),
            (vec![("origin", "https://203.0.113.5")], Some(false)),
            (vec![("origin", "https://evil.example")], Some(false)),
            (vec![("origin", "null")], Some(false)),
            (vec![("origin", "")], Some(false)),
            (vec![("origin", "file://203.0.113.5:41111")], Some(false)),
            (vec![("origin", "https://203.0.113.5:41111"), ("sec-fetch-site", "cross-site")], Some(false)),
            (vec![("sec-fetch-site", "same-site")], Some(false)),
            (vec![("sec-fetch-site", "none")], Some(false)),
        ] {
            let headers: HeaderMap = sent
                .iter()
                .chain([&own])
                .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect();
            assert_eq!(same_origin(&headers), expected, "{sent:?}");
        }
    }
}
