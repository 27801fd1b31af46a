//! A real Caddy in front of an application that tells what it received, with the portal's own access decisions between.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by several test binaries"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use vast_portal::auth::{Authenticator, Credentials, bind_private, router};
use vast_portal::caddy::{Settings, caddyfile, publish};
use vast_portal_config::Application;

/// The Caddy to test with: Debian's 2.6.2, unless `VAST_TEST_CADDY` names another.
pub fn caddy() -> PathBuf {
    std::env::var_os("VAST_TEST_CADDY").map_or_else(|| PathBuf::from("/usr/bin/caddy"), PathBuf::from)
}

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const PASSWORD: &str = "hunter2";
/// Long enough for a loaded machine; only a failure takes it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub fn application(label: &str, internal_port: u16, external_port: u16) -> Application {
    let (label, host, path) = (label.to_owned(), "127.0.0.1".to_owned(), "/".to_owned());
    Application { label, host, internal_port, external_port, path, proxied: true }
}

/// Runs `serve` on its own thread and runtime; it ends with the process.
pub fn on_a_thread<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve());
    });
}

/// An application that answers with what it received; its port.
pub fn echo_application() -> u16 {
    let (sender, receiver) = mpsc::channel();
    on_a_thread(move || async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        sender.send(listener.local_addr().unwrap().port()).unwrap();
        let app = axum::Router::new().fallback(echo);
        axum::serve(listener, app).await.unwrap();
    });
    receiver.recv().unwrap()
}

async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/events" {
        // One event at once, the rest never: only a proxy that flushes shows the first.
        let first = futures_util::stream::once(async { Ok::<_, std::io::Error>("data: first\n\n".to_owned()) });
        let body = Body::from_stream(first.chain(futures_util::stream::pending()));
        return ([("content-type", "text/event-stream")], body).into_response();
    }
    if parts.uri.path() == "/socket" {
        return (http::StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "websocket"), ("connection", "upgrade")])
            .into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let headers: BTreeMap<String, Vec<String>> = parts
        .headers
        .keys()
        .map(|name| {
            let values = parts.headers.get_all(name).iter();
            (name.to_string(), values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect())
        })
        .collect();
    let uri = parts.uri.to_string();
    let told = serde_json::json!({"method": parts.method.as_str(), "uri": uri, "headers": headers, "body": body.len()});
    let text = format!("{told}{}", " ".repeat(2000));
    ([("content-type", "application/json"), ("x-portal-placeholder", "forged")], text).into_response()
}

/// A root with a published Caddyfile, its Caddy and its access service.
pub struct Instance {
    pub root: tempfile::TempDir,
    caddy: Child,
}

impl Instance {
    /// Publishes and starts Caddy; ready when every site answers.
    pub fn start(applications: &[Application], env: &[(&str, &str)]) -> Self {
        Self::start_with(applications, env, true, |_| ())
    }

    pub fn start_with(
        applications: &[Application],
        env: &[(&str, &str)],
        service: bool,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let root = tempfile::Builder::new().prefix("portal-").tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        prepare(root.path());
        let mut map = BTreeMap::from([
            ("WEB_PASSWORD".to_owned(), PASSWORD.to_owned()),
            ("OPEN_BUTTON_TOKEN".to_owned(), TOKEN.to_owned()),
            ("VAST_CONTAINERLABEL".to_owned(), "C.1".to_owned()),
        ]);
        map.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let settings = Settings::from_env(&map, root.path());
        if service {
            let credentials = Credentials::load(root.path(), &map).unwrap();
            let socket = settings.auth_socket.clone();
            let (sender, receiver) = mpsc::channel();
            on_a_thread(move || async move {
                let listener = bind_private(&socket).unwrap();
                sender.send(()).unwrap();
                axum::serve(listener, router(Arc::new(Authenticator::new(credentials)))).await.unwrap();
            });
            receiver.recv().unwrap();
        }
        publish(applications, &settings, root.path(), &caddy()).unwrap();
        let log = std::fs::File::create(root.path().join("caddy.log")).unwrap();
        let caddy = Command::new(caddy())
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(caddyfile(root.path()))
            .env_clear()
            .env("HOME", root.path())
            .env("CANARY", "canary-in-the-environment")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let instance = Self { root, caddy };
        let end = Instant::now() + PATIENCE;
        for application in applications {
            while TcpStream::connect(("127.0.0.1", application.external_port)).is_err() {
                assert!(Instant::now() < end, "Caddy did not start: {}", instance.log());
                std::thread::yield_now();
            }
        }
        instance
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("caddy.log")).unwrap_or_default()
    }

    /// Stops Caddy gracefully, so that its logs are complete.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.caddy);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.caddy.wait().unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.caddy.kill();
        let _ = self.caddy.wait();
    }
}

/// An answer, read from the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the echo application received.
    pub fn received(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.text()))
    }

    /// A header that the echo application received, `None` when it did not.
    pub fn received_header(&self, name: &str) -> Option<String> {
        Some(self.received()["headers"].get(name)?[0].as_str().unwrap().to_owned())
    }
}

/// Sends a request as written and reads the answer to its end.
pub fn send(port: u16, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = vec![format!("{method} {uri} HTTP/1.1"), "Connection: close".to_owned()];
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push(format!("Host: 203.0.113.5:{port}"));
    }
    request.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if !body.is_empty() {
        request.push(format!("Content-Length: {}", body.len()));
    }
    request.push("\r\n".to_owned());
    stream.write_all(request.join("\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

pub fn get(port: u16, uri: &str, headers: &[(&str, &str)]) -> Answer {
    send(port, "GET", uri, headers, b"")
}

fn parse(bytes: &[u8]) -> Answer {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer with a head");
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = &bytes[split + 4..];
    Answer { status, head, body: if chunked { dechunk(body) } else { body.to_vec() } }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
        if size == 0 {
            break;
        }
    }
    body
}
