//! Reading what a request offers, from text that anybody may have written.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, header};

use super::Request;

/// Paths that are open whatever the configuration: what certificate authorities, security researchers, browsers (which
/// fetch manifests without credentials) and the portal's own resolver ask for.
const OPEN_PATHS: [&str; 6] = [
    "/.well-known/security.txt",
    "/security.txt",
    "/manifest.json",
    "/manifest.webmanifest",
    "/site.webmanifest",
    "/portal-resolver",
];
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Whether the path, byte for byte as sent, is open. An encoded or dotted spelling is not: an application might read it
/// as another path.
pub(super) fn is_open_path(uri: &str) -> bool {
    let path = uri.split_once('?').map_or(uri, |(path, _)| path);
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    OPEN_PATHS.contains(&path)
        || path.strip_prefix(ACME_CHALLENGE).is_some_and(|token| !token.is_empty() && token.bytes().all(base64url))
}

/// What a request offers as proof.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// The values of `token` in the query, decoded.
    pub(super) tokens: Vec<String>,
    /// The values of our cookie.
    pub(super) cookies: Vec<String>,
    pub(super) authorization: Option<Authorization>,
}

/// What an `Authorization` header offers; other schemes offer us nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    Bearer(String),
    Basic { user: String, password: String },
}

impl Offers {
    pub(super) fn read(request: &Request<'_>, cookie_name: &str) -> Self {
        // Applications put any bytes into their cookies; ours is to be found beside them.
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        // Two Authorization headers are one too many: which of them an application reads is anybody's guess.
        let mut authorizations = request.headers.get_all(header::AUTHORIZATION).iter().map(text);
        let authorization = authorizations.next().filter(|_| authorizations.next().is_none());
        Self {
            tokens: pairs(request.uri).filter(|(_, name, _)| name == "token").map(|(_, _, value)| value).collect(),
            cookies: request
                .headers
                .get_all(header::COOKIE)
                .iter()
                .flat_map(|value| text(value).split(';').map(|pair| pair.trim().to_owned()).collect::<Vec<_>>())
                .filter_map(|pair| pair.strip_prefix(cookie_name)?.strip_prefix('=').map(str::to_owned))
                .collect(),
            authorization: authorization.as_deref().and_then(parse_authorization),
        }
    }
}

fn parse_authorization(value: &str) -> Option<Authorization> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Authorization::Bearer(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Authorization::Basic { user: user.to_owned(), password: password.to_owned() })
}

/// The pairs of the query: the raw text, the decoded name, the decoded value.
fn pairs(uri: &str) -> impl Iterator<Item = (&str, String, String)> {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter(|raw| !raw.is_empty()).map(|raw| {
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        (raw, decode(name), decode(value))
    })
}

/// The query of the address less the `token` pairs whose value is ours, every other byte as it was.
pub(super) fn query_without(uri: &str, is_ours: impl Fn(&str) -> bool) -> String {
    let kept: Vec<&str> =
        pairs(uri).filter(|(_, name, value)| !(name == "token" && is_ours(value))).map(|(raw, _, _)| raw).collect();
    kept.join("&")
}

/// Decodes `application/x-www-form-urlencoded` text; broken escapes stay as they are.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                if let (Some(high), Some(low)) = (digit(ahead.next()), digit(ahead.next())) {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    rest = ahead;
                } else {
                    bytes.push(byte);
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a person's browser wants to show the answer as a page.
pub(super) fn is_navigation(request: &Request<'_>) -> bool {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let shows_pages = header("accept").is_some_and(|accept| accept.contains("text/html"));
    let mode_fits = header("sec-fetch-mode").is_none_or(|mode| mode == "navigate" || mode == "nested-navigate");
    (request.method == Method::GET || request.method == Method::HEAD) && shows_pages && mode_fits
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// Path and query as an address on the same server: `//host` and `/\host` would lead to another one.
pub(super) fn local_location(uri: &str, query: Option<&str>) -> String {
    let (path, old_query) = uri.split_once('?').unwrap_or((uri, ""));
    let printable = |text: &str| {
        let mut clean = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'!'..=b'~' => clean.push(char::from(byte)),
                0x80.. => clean.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
                _ => {}
            }
        }
        clean
    };
    let query = query.unwrap_or(old_query);
    let (path, query) = (printable(path), printable(query));
    let path = path.trim_start_matches(['/', '\\']);
    if query.is_empty() { format!("/{path}") } else { format!("/{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_spelling_of_an_open_path_is_open() {
        for open in [
            "/manifest.json",
            "/manifest.json?v=1",
            "/portal-resolver",
            "/security.txt",
            "/.well-known/security.txt",
            "/.well-known/acme-challenge/Ab_-9",
        ] {
            assert!(is_open_path(open), "{open}");
        }
        for closed in [
            "/",
            "/manifest.json/",
            "/Manifest.json",
            "/manifest.json%2f..%2fapi",
            "//manifest.json",
            "/x/manifest.json",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../../api",
            "/.well-known/acme-challenge/..%2f..%2fapi",
            "/.well-known/acme-challenge/a/b",
            "/.well-known/acme-challenge/%61",
            "/?/manifest.json",
            "manifest.json",
            "",
        ] {
            assert!(!is_open_path(closed), "{closed}");
        }
    }

    #[test]
    fn only_our_token_leaves_the_query() {
        for (uri, left) in [
            ("/?token=s", ""),
            ("/p?a=1&token=s&b=%20", "a=1&b=%20"),
            ("/p?token=other&token=s", "token=other"),
            ("/p?%74oken=%73", ""),
            ("/p?xtoken=s&token", "xtoken=s&token"),
            ("/p", ""),
        ] {
            assert_eq!(query_without(uri, |value| value == "s"), left, "{uri}");
        }
    }

    #[test]
    fn a_location_never_leads_to_another_server() {
        for (uri, location) in [
            ("//evil.example/?token=s&a=1", "/evil.example/?a=1"),
            ("/\\evil.example?token=s", "/evil.example?a=1"),
            ("/\t/evil.example", "/evil.example?a=1"),
            ("/a//b", "/a//b?a=1"),
            ("/é", "/%C3%A9?a=1"),
            ("", "/?a=1"),
        ] {
            let made = local_location(uri, Some("a=1"));
            assert_eq!(made, location);
        }
    }

    #[test]
    fn authorization_is_read_leniently_and_other_schemes_offer_nothing() {
        let basic = |user: &str, password: &str| {
            Some(Authorization::Basic { user: user.to_owned(), password: password.to_owned() })
        };
        for (value, expected) in [
            ("Bearer  abc ", Some(Authorization::Bearer("abc".to_owned()))),
            ("bearer abc", Some(Authorization::Bearer("abc".to_owned()))),
            ("Basic dmFzdGFpOmE6Yg==", basic("vastai", "a:b")),
            ("Basic !!!", None),
            ("Basic dmFzdGFp", None),
            ("Digest x", None),
            ("", None),
        ] {
            assert_eq!(parse_authorization(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_panics_or_leads_away(uri in "\\PC{0,40}", query in proptest::option::of("[ -~]{0,20}")) {
            let location = local_location(&uri, query.as_deref());
            proptest::prop_assert!(location.starts_with('/'));
            proptest::prop_assert!(!location.starts_with("//") && !location.starts_with("/\\"));
            let _ = query_without(&uri, |_| true);
        }
    }
}
