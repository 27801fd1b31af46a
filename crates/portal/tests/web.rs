//! The web application over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;

use futures_util::{SinkExt as _, StreamExt as _};
use support::{Answer, Instance, PASSWORD, PATIENCE, TOKEN, application, free_port, get, on_a_thread, send};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use vast_portal::web::{Portal, router};

/// A portal for an empty root, on a free port.
fn portal(root: &Path, env: &[(&str, &str)]) -> u16 {
    let mut map: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    map.entry("OPEN_BUTTON_TOKEN".to_owned()).or_insert_with(|| TOKEN.to_owned());
    let portal = Portal::new(root, map, "127.0.0.1:0".parse().unwrap()).unwrap();
    let (sender, receiver) = mpsc::channel();
    on_a_thread(move || async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        sender.send(listener.local_addr().unwrap().port()).unwrap();
        axum::serve(listener, router(portal)).await.unwrap();
    });
    receiver.recv().unwrap()
}

/// A request as Caddy and SSH tunnels send it.
fn local(port: u16, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let host = format!("localhost:{port}");
    let headers: Vec<(&str, &str)> = [("Host", host.as_str())].into_iter().chain(headers.iter().copied()).collect();
    send(port, method, uri, &headers, b"")
}

fn logs(root: &Path) -> std::path::PathBuf {
    let logs = root.join("var/log/portal");
    std::fs::create_dir_all(&logs).unwrap();
    logs
}

#[test]
fn the_page_and_all_it_names_come_from_the_binary() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[]);
    let page = local(port, "GET", "/", &[]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let mut waiting = vec![("/".to_owned(), page.text())];
    let mut seen = std::collections::BTreeSet::new();
    while let Some((from, text)) = waiting.pop() {
        for foreign in ["http://", "https://"] {
            let namespaces = text.matches("http://www.w3.org/").count();
            let count = text.matches(foreign).count() - if foreign == "http://" { namespaces } else { 0 };
            assert_eq!(count, 0, "{from} names another server");
        }
        let named = text
            .split(['"', '\''])
            .filter(|part| part.rsplit_once('.').is_some_and(|(_, kind)| ["js", "css", "svg"].contains(&kind)));
        for name in named {
            let path = name.strip_prefix("./").map_or_else(|| format!("/{name}"), |name| format!("/assets/js/{name}"));
            if seen.insert(path.clone()) {
                let answer = local(port, "GET", &path, &[]);
                assert_eq!(answer.status, 200, "{path}, named by {from}");
                let tag = answer.header("etag").unwrap().to_owned();
                assert_eq!(local(port, "GET", &path, &[("If-None-Match", &tag)]).status, 304);
                waiting.push((path, answer.text()));
            }
        }
    }
    assert!(seen.len() >= 10, "{seen:?}");
}

#[test]
fn every_documented_path_is_there() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[]);
    let document: serde_json::Value = serde_json::from_slice(&local(port, "GET", "/openapi.json", &[]).body).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let method = operations.as_object().unwrap().keys().next().unwrap().to_uppercase();
        let uri = path.replace("{port}", "9").replace("{name}", "x").replace("{action}", "start");
        let answer = local(port, &method, &uri, &[]);
        let ours = answer.status != 404 || answer.text().contains("\"error\"");
        assert!(ours && answer.status != 405, "{method} {path}: {}", answer.head);
    }
}

#[test]
fn another_name_for_loopback_is_not_served() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[]);
    assert_eq!(send(port, "GET", "/health", &[("Host", "evil.example")], b"").status, 421);
    assert_eq!(send(port, "GET", "/health", &[("Host", "[::1]:1")], b"").status, 200);
}

#[test]
fn only_the_portals_own_page_or_a_token_changes_something() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[("WEB_PASSWORD", PASSWORD), ("PORTAL_UNSTOPPABLE", "ssh, cron")]);
    let own = format!("http://localhost:{port}");
    let bearer = format!("Bearer {TOKEN}");
    let start = "/supervisor/process/app/start";
    // Without a Supervisor, who may change something learns that it does not answer.
    for (uri, headers, status) in [
        (start, vec![], 403),
        (start, vec![("Cookie", "instance_auth_token=x")], 403),
        (start, vec![("Origin", "https://evil.example")], 403),
        (start, vec![("Origin", "https://evil.example"), ("Authorization", bearer.as_str())], 403),
        (start, vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "same-site")], 403),
        (start, vec![("Authorization", "Bearer wrong")], 403),
        (start, vec![("Origin", own.as_str())], 503),
        (start, vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")], 503),
        (start, vec![("Origin", "https://203.0.113.5:41111"), ("X-Forwarded-Host", "203.0.113.5:41111")], 503),
        (start, vec![("Authorization", bearer.as_str())], 503),
        ("/supervisor/process/app/start?token=hunter2", vec![], 503),
        ("/supervisor/process/app/kill", vec![("Origin", own.as_str())], 404),
        ("/supervisor/process/caddy/stop", vec![("Origin", own.as_str())], 403),
        ("/supervisor/process/instance_portal/restart", vec![("Origin", own.as_str())], 403),
        ("/supervisor/process/cron/stop", vec![("Origin", own.as_str())], 403),
        ("/supervisor/process/cron/restart", vec![("Origin", own.as_str())], 503),
    ] {
        let answer = local(port, "POST", uri, &headers);
        assert_eq!(answer.status, status, "{uri} {headers:?}: {}", answer.text());
    }
    assert_eq!(local(port, "GET", start, &[("Origin", &own)]).status, 405);
    let open = portal(root.path(), &[("ENABLE_AUTH", "false")]);
    assert_eq!(local(open, "POST", start, &[]).status, 503);
    assert_eq!(local(open, "POST", start, &[("Origin", "https://evil.example")]).status, 403);
}

#[test]
fn logs_are_downloaded_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("secret.log"), "secret").unwrap();
    let logs = logs(root.path());
    std::fs::write(logs.join("app.log"), "hello\n").unwrap();
    std::fs::write(logs.join("we\"ird name.log"), "weird\n").unwrap();
    let port = portal(root.path(), &[]);
    let one = local(port, "GET", "/download-logs?file=app.log", &[]);
    assert_eq!((one.status, one.text().as_str()), (200, "hello\n"));
    assert_eq!(one.header("content-disposition"), Some("attachment; filename=\"app.log\""));
    let weird = local(port, "GET", "/download-logs?file=we%22ird%20name.log", &[]);
    assert_eq!(weird.header("content-disposition"), Some("attachment; filename=\"we_ird_name.log\""));
    let all = local(port, "GET", "/download-logs", &[]);
    assert_eq!(all.text(), "==> app.log <==\nhello\n\n==> we\"ird name.log <==\nweird\n\n");
    for name in ["..%2F..%2F..%2Fsecret.log", "%2Fetc%2Fpasswd", "..", "", "absent.log", "app.log%00"] {
        let answer = local(port, "GET", &format!("/download-logs?file={name}"), &[]);
        assert_eq!(answer.status, 404, "{name}");
        assert!(!answer.text().contains("secret\n"));
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn follow(port: u16, query: &str) -> Socket {
    let request = format!("ws://localhost:{port}/ws-logs{query}").into_client_request().unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

/// The next message that says something.
async fn next(socket: &mut Socket) -> serde_json::Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let message = tokio::time::timeout_at(end, socket.next()).await.expect("a message").unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn text_of(told: &serde_json::Value) -> &str {
    told["text"].as_str().unwrap_or_default()
}

/// Hands over every message up to the one that holds `wanted`.
async fn follow_until(port: u16, query: &str, wanted: &str, mut then: impl FnMut(&serde_json::Value)) {
    let mut socket = follow(port, query).await;
    loop {
        let told = next(&mut socket).await;
        then(&told);
        if text_of(&told).contains(wanted) {
            return;
        }
    }
}

#[tokio::test]
async fn lines_reach_a_viewer_as_they_are_written() {
    let root = tempfile::tempdir().unwrap();
    let logs = logs(root.path());
    std::fs::write(logs.join("app.log"), "before\n").unwrap();
    std::fs::write(logs.join("other.log"), "of another\n").unwrap();
    let port = portal(root.path(), &[]);
    let mut log = std::fs::OpenOptions::new().append(true).open(logs.join("app.log")).unwrap();
    let mut kinds = Vec::new();
    follow_until(port, "?file=app.log", "after", |told| {
        assert_eq!(told["file"], "app.log");
        kinds.push(told["type"].as_str().unwrap().to_owned());
        if told["text"] == "before\n" {
            log.write_all("\u{1b}[31m<b>after\r".as_bytes()).unwrap();
        }
    })
    .await;
    assert_eq!(kinds, ["restarted", "text", "text"]);
    follow_until(port, "", "of another", |_| ()).await;
}

#[tokio::test]
async fn a_viewer_of_a_flood_sees_its_end_and_how_much_was_left_out() {
    let root = tempfile::tempdir().unwrap();
    let logs = logs(root.path());
    std::fs::write(logs.join("app.log"), "begin\n").unwrap();
    let port = portal(root.path(), &[]);
    let mut log = std::fs::OpenOptions::new().append(true).open(logs.join("app.log")).unwrap();
    let (mut skipped, mut received) = (0, 0);
    follow_until(port, "?file=app.log", "the end", |told| {
        if told["text"] == "begin\n" {
            let flood = format!("{}\nthe end\n", "x".repeat(20 << 20));
            log.write_all(flood.as_bytes()).unwrap();
        }
        skipped += told["bytes"].as_u64().unwrap_or_default();
        received += told["text"].as_str().unwrap_or_default().len() as u64;
    })
    .await;
    assert_eq!(skipped + received, (20 << 20) + "begin\n\nthe end\n".len() as u64);
    assert!(received < 1 << 20, "{received} bytes for a viewer that is behind");
}

#[tokio::test]
async fn a_viewer_that_confirms_is_sent_no_more_than_it_shows() {
    let root = tempfile::tempdir().unwrap();
    let logs = logs(root.path());
    let port = portal(root.path(), &[]);
    std::fs::write(logs.join("app.log"), "begin\n").unwrap();
    let mut log = std::fs::OpenOptions::new().append(true).open(logs.join("app.log")).unwrap();
    let mut socket = follow(port, "?file=app.log&confirm=true").await;
    let (mut unconfirmed, mut received) = (0, 0);
    while received == 0 {
        received += text_of(&next(&mut socket).await).len();
        unconfirmed += 1;
    }
    // More than the window, less than what makes the portal skip.
    let flood = 800 << 10;
    log.write_all("y\n".repeat(flood / 2).as_bytes()).unwrap();
    // That nothing more comes needs a moment to show; on a slow machine less than the window has come by then.
    let moment = std::time::Duration::from_millis(300);
    while let Ok(told) = tokio::time::timeout(moment, next(&mut socket)).await {
        received += text_of(&told).len();
        unconfirmed += 1;
    }
    assert!(received < flood / 2, "{received} bytes unconfirmed");
    while received < flood + "begin\n".len() {
        for _ in 0..unconfirmed {
            socket.send(Message::text("shown")).await.unwrap();
        }
        received += text_of(&next(&mut socket).await).len();
        unconfirmed = 1;
    }
}

#[tokio::test]
async fn pages_of_other_origins_do_not_follow_logs() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[]);
    let mut request = format!("ws://localhost:{port}/ws-logs").into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let refused = tokio_tungstenite::client_async(request, stream).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[test]
fn applications_have_a_state_and_an_address() {
    let root = tempfile::tempdir().unwrap();
    let (up, down) = (support::echo_application(), free_port());
    let config = format!("localhost:7000:{up}:/a:Up|localhost:7001:{down}:/:Down");
    let port = portal(
        root.path(),
        &[
            ("PORTAL_CONFIG", &config),
            ("VAST_TCP_PORT_7000", "41000"),
            ("VAST_TCP_PORT_7001", "41001"),
            ("PUBLIC_IPADDR", "203.0.113.5"),
        ],
    );
    let told = local(port, "GET", "/get-applications", &[("X-Forwarded-Proto", "https")]).received();
    let state = |index: usize| told["applications"][index]["state"].as_str().unwrap().to_owned();
    assert_eq!((state(0).as_str(), state(1).as_str()), ("up", "down"), "{told}");
    assert_eq!(told["applications"][0]["url"], "https://203.0.113.5:41000/a");
    assert_eq!(local(port, "GET", "/get-direct-url/7001", &[]).received()["url"], "http://203.0.113.5:41001/");
    assert_eq!(local(port, "GET", "/get-direct-url/9", &[]).status, 404);
    assert_eq!(local(port, "GET", "/get-direct-url/x", &[]).status, 400);
}

#[test]
fn boot_progress_is_told_while_provisioning_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let port = portal(root.path(), &[]);
    let told = || local(port, "GET", "/boot", &[]).received();
    assert_eq!((&told()["provisioning"], &told()["boot"]), (&false.into(), &serde_json::Value::Null));
    std::fs::create_dir_all(root.path().join("run/vast")).unwrap();
    std::fs::write(root.path().join("run/vast/boot.json"), "{\"stages\":[{\"stage\":\"10-prep-env.sh\"}]}").unwrap();
    std::fs::write(root.path().join(".provisioning"), "").unwrap();
    assert_eq!(
        (&told()["provisioning"], &told()["boot"]["stages"][0]["stage"]),
        (&true.into(), &"10-prep-env.sh".into())
    );
    std::fs::write(root.path().join("run/vast/boot.json"), "{\"stages\":[{\"st").unwrap();
    assert_eq!(told()["boot"], serde_json::Value::Null);
}

#[test]
fn behind_caddy_a_signed_in_page_may_change_something_and_a_page_of_another_port_may_not() {
    let root = tempfile::tempdir().unwrap();
    let internal = portal(root.path(), &[]);
    let external = free_port();
    let _instance = Instance::start(&[application("Instance Portal", internal, external)], &[]);
    let browser = ("Accept", "text/html");
    let opened = get(external, &format!("/?token={TOKEN}"), &[browser]);
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let post = |origin: &str| {
        let headers = [("Cookie", cookie.as_str()), ("Origin", origin)];
        send(external, "POST", "/supervisor/process/app/start", &headers, b"").status
    };
    assert_eq!(post(&format!("http://203.0.113.5:{external}")), 503);
    assert_eq!(post("http://203.0.113.5:1"), 403);
    let page = get(external, "/", &[browser, ("Cookie", &cookie)]);
    assert!(page.text().contains("<title>Instance Portal</title>"));
}
