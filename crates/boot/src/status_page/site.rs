//! What is answered to whom.
//!
//! | asked | answer |
//! |---|---|
//! | a page (`Accept: text/html`), any path | 503 with the page |
//! | `/status.json` | 200 with the [`View`] |
//! | anything else | 503 with the [`View`] for programs that accept JSON, else a line of text |
//!
//! 503 with `Retry-After`: neither a proxy nor a health check takes the page for the portal, and browsers show it as any other.
//! Every answer names itself by a header; the page knows by its absence that the portal is there.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use vast_portal::auth::{self, Decision, How, LOGIN_PATH, answer};
use vast_portal::caddy::Settings;

use super::board::Board;
use super::gate::{Gate, Rules, Variables};
use super::page;
use super::request::Request;
use super::tls::Speaker;
use super::view::View;

/// The header that every answer of the page has, and none of the portal's.
pub(super) const SIGN: HeaderName = HeaderName::from_static("x-vast-boot-status");

/// Seconds after which it is worth asking again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Where programs ask.
const JSON_PATH: &str = "/status.json";

/// Answers requests.
pub(super) struct Site {
    root: PathBuf,
    port: u16,
    variables: Variables,
    board: Board,
    /// Read when the first request comes: a boot that nobody looks at does not pay for them.
    rules: Option<Rules>,
    tls: Option<Speaker>,
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) address: Option<IpAddr>,
    pub(super) tls: bool,
}

impl Site {
    pub(super) fn new(root: PathBuf, port: u16, variables: Variables, board: Board) -> Self {
        Self { root, port, variables, board, rules: None, tls: None }
    }

    /// Other variables, or another port. The certificate that was shown stays: browsers have been told to take that one.
    pub(super) fn change(&mut self, port: u16, variables: Variables) {
        (self.port, self.variables) = (port, variables);
        self.rules = None;
    }

    /// The rules. While they cannot be read whole, or lack the certificate that stage 55 makes, they are read again.
    pub(super) fn rules(&mut self) -> &Rules {
        let load = || Rules::load(&self.root, &self.variables, self.port);
        let mut rules = self.rules.take().filter(|rules| rules.gate.is_ok()).unwrap_or_else(load);
        if rules.https && rules.tls.is_none() {
            rules.tls = Settings::from_env(&self.variables, &self.root).tls;
        }
        self.rules.insert(rules)
    }

    /// How to speak TLS to a client that begins so; nothing where the portal will not.
    pub(super) fn tls(&mut self) -> Option<Arc<ServerConfig>> {
        let rules = self.rules();
        let (wanted, pair) = (rules.https, rules.tls.clone());
        if !wanted {
            return None;
        }
        if self.tls.as_ref().is_none_or(|tls| pair.is_some() && !tls.own) {
            self.tls = Speaker::new(pair.as_ref());
        }
        self.tls.as_ref().map(|tls| tls.config.clone())
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &Request, client: Client) -> Response<String> {
        let redirect = !client.tls && self.rules().tls.is_some();
        let board = self.board.clone();
        let mut response = if redirect {
            to_https(request)
        } else {
            match &self.rules().gate {
                Ok(Gate::Open) => status(&board, request),
                Ok(Gate::Closed(authenticator)) => guarded(authenticator, &board, request, client),
                Err(error) => {
                    let text = format!("The instance is booting. Who may see more cannot be told: {error}\n");
                    answer::plain(StatusCode::SERVICE_UNAVAILABLE, text)
                }
            }
        };
        let headers = response.headers_mut();
        headers.insert(SIGN, HeaderValue::from_static("booting"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Once there is a pair that the portal will speak TLS with, nothing is told, and no secret taken, without. Before, a program that
/// comes without TLS gets its answer: with a certificate that nobody vouches for it would get none.
fn to_https(request: &Request) -> Response<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]_".contains(&byte);
    let host = request.header("host").filter(|host| !host.is_empty() && host.bytes().all(plain));
    let location = host.and_then(|host| HeaderValue::from_str(&format!("https://{host}{}", request.uri)).ok());
    let Some(location) = location else {
        return answer::plain(StatusCode::BAD_REQUEST, "This port speaks HTTPS.\n".to_owned());
    };
    let mut response = answer::plain(StatusCode::TEMPORARY_REDIRECT, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn guarded(authenticator: &auth::Authenticator, board: &Board, request: &Request, client: Client) -> Response<String> {
    let body = String::from_utf8_lossy(&request.body);
    let log_in = request.method == Method::POST && request.path() == LOGIN_PATH;
    let way_on = log_in.then(|| answer::way_on(&body));
    let asked = auth::Request {
        method: &request.method,
        uri: way_on.as_deref().unwrap_or(&request.uri),
        headers: &request.headers,
        client: client.address,
        https: client.tls,
        now: SystemTime::now(),
    };
    if log_in {
        return answer::to_form(authenticator, &body, &asked);
    }
    match authenticator.decide(&asked) {
        // Open are these paths of an application that is not there yet; the page is not.
        Decision::Allow { how: How::OpenPath, .. } => busy("The instance is booting.\n".to_owned()),
        decision => answer::to_client(&decision, &asked).unwrap_or_else(|| status(board, request)),
    }
}

/// How the boot stands, as the client likes to read it.
fn status(board: &Board, request: &Request) -> Response<String> {
    let view = View::of(board, Timestamp::now(), Instant::now());
    let typed = |mut response: Response<String>, kind: &'static str| {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let json = || serde_json::to_string(&view).unwrap_or_default() + "\n";
    if request.path() == JSON_PATH {
        return typed(answer::plain(StatusCode::OK, json()), "application/json");
    }
    if request.accepts("text/html") {
        let mut response = typed(busy(page::render(&view)), "text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy().clone());
        return response;
    }
    if request.accepts("application/json") {
        return typed(busy(json()), "application/json");
    }
    busy(format!("{}\n", page::sentence(&view)))
}

fn busy(text: String) -> Response<String> {
    let mut response = answer::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

/// Nothing but the page's own style and script, told by their digests.
fn policy() -> &'static HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    POLICY.get_or_init(|| {
        let digest = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
            digest(page::STYLE),
            digest(page::SCRIPT)
        );
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    })
}

/// An answer as it goes over the wire. The connection ends with it.
pub(super) fn to_bytes(response: &Response<String>, head_only: bool) -> Vec<u8> {
    let status = response.status();
    let mut bytes = Vec::with_capacity(512 + response.body().len());
    // Writing to memory cannot fail.
    let _ = write!(bytes, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in response.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let _ = write!(bytes, "content-length: {}\r\nconnection: close\r\n\r\n", response.body().len());
    if !head_only {
        bytes.extend(response.body().as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::request::{Reading, read};
    use super::*;

    const LOCAL: Client = Client { address: None, tls: false };

    fn site(pairs: &[(&str, &str)]) -> (tempfile::TempDir, Site) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        let board = Board::default();
        board.open(vec!["10-prep-env.sh".to_owned()]);
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let site = Site::new(directory.path().to_owned(), 1111, variables, board);
        (directory, site)
    }

    fn ask(site: &mut Site, client: Client, text: &str) -> Response<String> {
        let Reading::Complete(request) = read(text.as_bytes()) else { panic!("{text}") };
        site.answer(&request, client)
    }

    fn get(site: &mut Site, path: &str, headers: &str) -> Response<String> {
        ask(site, LOCAL, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"))
    }

    fn header<'a>(response: &'a Response<String>, name: &str) -> &'a str {
        response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[test]
    fn each_way_in_opens_and_nothing_else_does() {
        let (_guard, mut site) =
            site(&[("OPEN_BUTTON_TOKEN", "t0ken"), ("WEB_PASSWORD", "pass"), ("VAST_CONTAINERLABEL", "C.7")]);
        for (path, headers, status) in [
            ("/status.json?token=t0ken", "", 200),
            ("/status.json?token=pass", "", 200),
            ("/status.json", "Authorization: Bearer t0ken\r\n", 200),
            // vastai:pass, and other:pass
            ("/status.json", "Authorization: Basic dmFzdGFpOnBhc3M=\r\n", 200),
            ("/status.json", "Authorization: Basic b3RoZXI6cGFzcw==\r\n", 401),
            ("/status.json?token=other", "", 401),
            ("/status.json", "Authorization: Bearer other\r\n", 401),
            ("/status.json", "Cookie: C.7_auth_token=1.00\r\n", 401),
            ("/status.json", "", 401),
            ("/", "Accept: text/html\r\n", 401),
            ("/anything", "", 401),
        ] {
            let response = get(&mut site, path, headers);
            assert_eq!(response.status().as_u16(), status, "{path} {headers}");
            assert_eq!(response.body().contains("10-prep-env.sh"), status == 200, "{}", response.body());
            assert_eq!(header(&response, "x-vast-boot-status"), "booting");
        }
    }

    #[test]
    fn a_browser_is_given_a_cookie_and_an_address_without_the_token() {
        let (_guard, mut site) = site(&[("OPEN_BUTTON_TOKEN", "t0ken")]);
        let browser = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
        let response = get(&mut site, "/?token=t0ken&a=1", browser);
        assert_eq!((response.status().as_u16(), header(&response, "location")), (302, "/?a=1"));
        let cookie = header(&response, "set-cookie").split(';').next().unwrap().to_owned();
        assert!(!cookie.contains("t0ken"), "{cookie}");
        let page = get(&mut site, "/?a=1", &format!("{browser}Cookie: {cookie}\r\n"));
        assert_eq!((page.status().as_u16(), header(&page, "retry-after")), (503, "2"));
        assert!(page.body().starts_with("<!doctype html>"));
        let form = get(&mut site, "/x", browser);
        assert!(form.status() == 401 && form.body().contains("action=\"/portal-login\""), "{}", form.body());
        let body = "password=t0ken&next=%2Fx";
        let post = |body: &str| format!("POST /portal-login HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let response = ask(&mut site, LOCAL, &post(body));
        assert_eq!((response.status().as_u16(), header(&response, "location")), (303, "/x"));
        assert_eq!(ask(&mut site, LOCAL, &post("password=guess")).status(), 401);
    }

    #[test]
    fn paths_that_are_open_for_applications_show_nothing() {
        let (_guard, mut site) = site(&[("OPEN_BUTTON_TOKEN", "t0ken")]);
        let response = get(&mut site, "/manifest.json", "Accept: text/html, application/json\r\n");
        assert_eq!((response.status().as_u16(), response.body().as_str()), (503, "The instance is booting.\n"));
    }

    #[test]
    fn a_program_gets_what_it_accepts_and_never_a_status_that_means_up() {
        let (_guard, mut site) = site(&[("ENABLE_AUTH", "false")]);
        for (path, accept, kind) in [
            ("/", "text/html,*/*", "text/html; charset=utf-8"),
            ("/health", "application/json", "application/json"),
            ("/health", "*/*", "text/plain; charset=utf-8"),
        ] {
            let response = get(&mut site, path, &format!("Accept: {accept}\r\n"));
            assert_eq!((response.status().as_u16(), header(&response, "content-type")), (503, kind));
        }
    }

    #[test]
    fn who_may_pass_being_unknown_nobody_does() {
        let (guard, mut site) = site(&[("OPEN_BUTTON_TOKEN", "t0ken")]);
        let key = guard.path().join("etc/vast-portal.key");
        std::fs::write(&key, "cut").unwrap();
        let response = get(&mut site, "/status.json?token=t0ken", "");
        assert!(response.status() == 503 && !response.body().contains("10-prep-env.sh"), "{}", response.body());
        std::fs::remove_file(key).unwrap();
        assert_eq!(get(&mut site, "/status.json?token=t0ken", "").status(), 200);
    }

    #[test]
    fn a_port_that_will_speak_tls_takes_no_token_without() {
        let (guard, mut site) = site(&[("OPEN_BUTTON_TOKEN", "t0ken"), ("ENABLE_HTTPS", "true")]);
        let key = crate::certificate::new_key().unwrap();
        let pair = crate::certificate::self_signed(&key, Timestamp::now()).unwrap();
        std::fs::write(guard.path().join("etc/instance.crt"), pair).unwrap();
        std::fs::write(guard.path().join("etc/instance.key"), key.serialize_pem()).unwrap();
        let response = get(&mut site, "/?token=t0ken", "Host: 192.0.2.1:41111\r\n");
        let location = "https://192.0.2.1:41111/?token=t0ken";
        assert_eq!((response.status().as_u16(), header(&response, "location")), (307, location));
        assert_eq!(get(&mut site, "/", "Host: a b\r\n").status(), 400);
        let over_tls = Client { address: None, tls: true };
        let text = "GET /?token=t0ken HTTP/1.1\r\nAccept: text/html\r\n\r\n";
        assert!(header(&ask(&mut site, over_tls, text), "set-cookie").ends_with("; Secure"));
    }

    #[test]
    fn a_made_up_certificate_stays_whatever_a_stage_changes_until_there_is_a_pair() {
        let (guard, mut site) = site(&[("OPEN_BUTTON_TOKEN", "t0ken"), ("ENABLE_HTTPS", "true")]);
        let first = site.tls().unwrap();
        let changed = |https: &str, token: &str| {
            [("ENABLE_HTTPS", https), ("OPEN_BUTTON_TOKEN", token)].map(|(n, v)| (n.to_owned(), v.to_owned())).into()
        };
        site.change(1111, changed("true", "other"));
        assert!(Arc::ptr_eq(&first, &site.tls().unwrap()));
        assert_eq!(get(&mut site, "/status.json?token=other", "").status(), 200);
        site.change(1111, changed("false", "other"));
        assert!(site.tls().is_none());
        site.change(2222, changed("true", "other"));
        assert!(Arc::ptr_eq(&first, &site.tls().unwrap()));
        let key = crate::certificate::new_key().unwrap();
        let pair = crate::certificate::self_signed(&key, Timestamp::now()).unwrap();
        std::fs::write(guard.path().join("etc/instance.crt"), pair).unwrap();
        std::fs::write(guard.path().join("etc/instance.key"), key.serialize_pem()).unwrap();
        assert!(!Arc::ptr_eq(&first, &site.tls().unwrap()));
    }

    #[test]
    fn the_policy_fits_the_page() {
        let (_guard, mut site) = site(&[("ENABLE_AUTH", "false")]);
        let response = get(&mut site, "/", "Accept: text/html\r\n");
        for part in [page::STYLE, page::SCRIPT] {
            assert_eq!(response.body().matches(part).count(), 1);
        }
        assert!(!response.body().contains(" style=") && !response.body().contains(" onclick="));
        let policy = header(&response, "content-security-policy");
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        let bytes = String::from_utf8(to_bytes(&response, true)).unwrap();
        assert!(
            bytes.ends_with("\r\n\r\n") && bytes.contains(&format!("content-length: {}\r\n", response.body().len()))
        );
    }
}
