//! What the rendered Caddyfile does in a real Caddy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use support::{
    Answer, Instance, PASSWORD, PATIENCE, TOKEN, application, caddy, echo_application, free_port, get, send,
};
use vast_portal::caddy::{Settings, caddyfile, publish, render};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

fn one_application(env: &[(&str, &str)]) -> (Instance, u16, u16) {
    let (internal, external) = (echo_application(), free_port());
    (Instance::start(&[application("My App", internal, external)], env), external, internal)
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn programs_pass_with_any_proof_and_the_application_sees_none_of_it() {
    let (_instance, port, internal) = one_application(&[]);
    let refused = get(port, "/", &[]);
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").unwrap().starts_with("Basic"));

    let by_token = get(port, &format!("/a%2Fb//c?x=%7B1%7D&token={TOKEN}&y={{env.CANARY}}"), &[]);
    assert_eq!(by_token.status, 200, "{}", by_token.head);
    let seen = by_token.received()["uri"].as_str().unwrap().to_owned();
    assert!(seen.ends_with("c?x=%7B1%7D&y={env.CANARY}") && seen.starts_with("/a%2Fb/"), "{seen}");

    for (name, value) in [
        ("Authorization", bearer(TOKEN)),
        ("Authorization", bearer(PASSWORD)),
        ("Authorization", "Basic dmFzdGFpOmh1bnRlcjI=".to_owned()),
    ] {
        let answer = get(port, "/p?a=1", &[(name, &value)]);
        assert_eq!((answer.status, answer.received_header("authorization")), (200, None), "{value}");
        assert_eq!(answer.received()["uri"], "/p?a=1");
    }

    let answer = send(port, "POST", "/upload", &[("Authorization", &bearer(TOKEN))], &vec![7; 300_000]);
    assert_eq!((&answer.received()["method"], &answer.received()["body"]), (&"POST".into(), &300_000.into()));
    assert_eq!(answer.received_header("host"), Some(format!("127.0.0.1:{internal}")));
    assert_eq!(answer.received_header("x-forwarded-host"), Some(format!("203.0.113.5:{port}")));
    assert_eq!(answer.header("x-portal-placeholder"), None, "an application cannot pose as the placeholder");
    let internals = ["x-portal-strip", "x-portal-query", "x-forwarded-uri", "x-forwarded-method"];
    assert!(internals.iter().all(|name| answer.received_header(name).is_none()), "{}", answer.received());
}

#[test]
fn a_browser_gets_a_cookie_and_comes_in_with_it() {
    let (_instance, port, _) = one_application(&[]);
    let page = get(port, "/lab?a=1", &[BROWSER]);
    assert_eq!(page.status, 401);
    assert!(page.text().contains("action=\"/portal-login\"") && page.text().contains("value=\"/lab?a=1\""));
    assert_eq!(page.header("www-authenticate"), None, "the password window would hide the page");

    let opened = get(port, &format!("/lab?token={TOKEN}&a=1"), &[BROWSER]);
    assert_eq!((opened.status, opened.header("location")), (302, Some("/lab?a=1")));
    let cookie = cookie(&opened);
    assert!(cookie.starts_with("C.1_auth_token=") && !opened.head.contains(TOKEN));
    let attributes = opened.header("set-cookie").unwrap();
    assert!(attributes.ends_with("Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"), "{attributes}");

    let own = "Bearer of-the-application";
    for (sent, seen) in [
        (cookie.clone(), None),
        (format!("a=1; {cookie}; b=2"), Some("a=1; b=2")),
        (format!("{cookie}; {cookie}; xC.1_auth_token=stays"), Some("xC.1_auth_token=stays")),
        (format!("a=1;{cookie}"), Some("a=1")),
    ] {
        let answer = get(port, "/lab?token=of-the-application", &[("Cookie", &sent), ("Authorization", own), BROWSER]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.received_header("cookie").as_deref(), seen);
        assert_eq!(answer.received_header("authorization").as_deref(), Some(own));
        assert_eq!(answer.received()["uri"], "/lab?token=of-the-application");
    }

    let form = format!("next=%2Flab%3Fa%3D1&username=vastai&password={PASSWORD}");
    let signed_in = send(port, "POST", "/portal-login", &[], form.as_bytes());
    assert_eq!((signed_in.status, signed_in.header("location")), (303, Some("/lab?a=1")));
    assert_eq!(get(port, "/", &[("Cookie", &self::cookie(&signed_in))]).status, 200);
    let wrong = send(port, "POST", "/portal-login", &[], b"password=guess");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
}

#[test]
fn nobody_passes_without_proof_however_the_request_is_written() {
    let (_instance, port, _) = one_application(&[]);
    for (method, uri, headers) in [
        ("GET", "/?token=", vec![]),
        ("GET", "/?token=*", vec![]),
        ("GET", "/?token[]=x", vec![]),
        ("GET", "/?token={env.CANARY}", vec![]),
        ("GET", "/", vec![("Cookie", "C.1_auth_token=")]),
        ("GET", "/", vec![("Cookie", "C.1_auth_token=9999999999.00")]),
        ("GET", "/", vec![("Authorization", "Bearer")]),
        ("GET", "/", vec![("Authorization", "Basic Og==")]),
        ("GET", "/", vec![("X-Portal-Strip", "none"), ("X-Forwarded-Uri", "/manifest.json")]),
        ("GET", "/", vec![("X-Forwarded-Uri", "/manifest.json"), ("X-Forwarded-Method", "GET")]),
        ("GET", "/", vec![("Connection", "X-Forwarded-Uri")]),
        ("OPTIONS", "/", vec![("Origin", "https://evil.example"), ("Access-Control-Request-Method", "GET")]),
        ("GET", "/auth", vec![]),
        ("GET", "/portal-login/../auth", vec![("X-Forwarded-Uri", "/manifest.json"), ("X-Forwarded-Method", "GET")]),
        ("GET", "/.well-known/acme-challenge/../../secret", vec![]),
        ("GET", "/.well-known/acme-challenge/..%2f..%2fsecret", vec![]),
        ("GET", "/manifest.json/../secret", vec![]),
        ("GET", "/manifest.json%3f", vec![]),
        ("GET", "//manifest.json", vec![]),
        ("HEAD", "/", vec![]),
        ("PROPFIND", "/", vec![]),
        ("GET", "/socket", vec![("Connection", "Upgrade"), ("Upgrade", "websocket")]),
    ] {
        let answer = send(port, method, uri, &headers, b"");
        assert!([401, 429].contains(&answer.status), "{method} {uri} {headers:?}: {}", answer.head);
    }
    for open in ["/manifest.json", "/.well-known/acme-challenge/abc", "/portal-resolver?x=1"] {
        assert_eq!(get(port, open, &[]).status, 200, "{open}");
    }
}

#[test]
fn without_the_portal_nobody_passes() {
    let (internal, external) = (echo_application(), free_port());
    let applications = [application("My App", internal, external)];
    let _instance = Instance::start_with(&applications, &[], false, |_| ());
    let answer = get(external, &format!("/?token={TOKEN}"), &[("Authorization", &bearer(TOKEN))]);
    assert_eq!((answer.status, answer.header("x-portal-placeholder")), (502, Some("true")));
    assert!(!answer.text().contains("headers"));
}

#[test]
fn excluded_ports_and_a_disabled_authentication_are_open_and_still_keep_our_cookie() {
    let (internal, open, closed) = (echo_application(), free_port(), free_port());
    let applications = [application("Open", internal, open), application("Closed", internal, closed)];
    let exclude = open.to_string();
    let _instance = Instance::start(&applications, &[("AUTH_EXCLUDE", &exclude)]);
    let answer = get(open, "/", &[("Cookie", "C.1_auth_token=x; a=1"), ("Authorization", "Bearer own")]);
    assert_eq!(answer.received_header("cookie").as_deref(), Some("a=1"));
    assert_eq!(answer.received_header("authorization").as_deref(), Some("Bearer own"));
    assert_eq!(get(closed, "/", &[]).status, 401);
    let (_other, port, _) = one_application(&[("ENABLE_AUTH", "false")]);
    assert_eq!(get(port, "/", &[]).status, 200);
}

#[test]
fn only_a_tunnel_on_loopback_may_name_the_client() {
    let (_instance, port, _) = one_application(&[]);
    let auth = bearer(TOKEN);
    let tunnel = [
        ("Authorization", auth.as_str()),
        ("CF-Connecting-IP", "198.51.100.7"),
        ("CF-Visitor", "{\"scheme\":\"https\"}"),
        ("X-Real-IP", "192.0.2.66"),
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Forwarded-Proto", "gopher"),
    ];
    let answer = get(port, "/", &tunnel);
    assert_eq!(answer.received_header("x-real-ip").as_deref(), Some("198.51.100.7"));
    assert_eq!(answer.received_header("x-forwarded-proto").as_deref(), Some("https"));
    let answer = get(port, "/", &[tunnel[0], tunnel[3], tunnel[4], tunnel[5]]);
    assert_eq!(answer.received_header("x-real-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(answer.received_header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(answer.received_header("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn while_an_application_does_not_answer_a_page_waits_for_it() {
    let (nobody, port) = (free_port(), free_port());
    let hostile = "`} respond \"{env.CANARY}\" {$CANARY}\n<script>alert(1)</script>";
    let _instance = Instance::start(&[application(hostile, nobody, port)], &[]);
    let auth = bearer(TOKEN);
    let page = get(port, "/", &[("Authorization", &auth), BROWSER]);
    assert_eq!((page.status, page.header("x-portal-placeholder")), (502, Some("true")));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("is starting") && page.text().contains("&#123;env.CANARY&#125;"), "{}", page.text());
    assert!(!page.text().contains("canary-in-the-environment") && !page.text().contains("<script>alert"));
    let program = get(port, "/", &[("Authorization", &auth)]);
    assert_eq!((program.status, program.header("x-portal-placeholder")), (502, Some("true")));
    assert_eq!(program.text(), "The application is starting.");
    assert_eq!(get(port, "/", &[("Authorization", &auth), ("Cf-Ray", "1"), BROWSER]).status, 200);
    assert_eq!(get(port, "/", &[]).status, 401);
}

#[test]
fn streams_are_flushed_and_answers_of_known_length_compressed() {
    let (_instance, port, _) = one_application(&[]);
    let auth = bearer(TOKEN);
    let headers = [("Authorization", auth.as_str()), ("Accept-Encoding", "gzip")];
    assert_eq!(get(port, "/", &headers).header("content-encoding"), Some("gzip"));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nAccept-Encoding: gzip\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("data: first") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("the first event, although the stream goes on");
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    let request = format!("GET /socket HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n{upgrade}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
}

#[test]
fn other_origins_may_call_where_they_are_listed() {
    let (_instance, port, _) =
        one_application(&[("CADDY_CORS_ALLOWED_ORIGINS", "https://a.example"), ("CADDY_HEADER_UP_LOCALHOST", "true")]);
    let preflight = |origin: &str| {
        let asked =
            [("Origin", origin), ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-y")];
        send(port, "OPTIONS", "/", &asked, b"")
    };
    let allowed = preflight("https://a.example");
    assert_eq!((allowed.status, allowed.header("access-control-allow-methods")), (204, Some("PUT")));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(preflight("https://a.example.evil").status, 401);
    let auth = bearer(TOKEN);
    let answer = get(port, "/", &[("Authorization", &auth), ("Origin", "https://a.example")]);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    assert!(answer.received_header("origin").unwrap().starts_with("http://localhost:"));
    assert!(answer.received_header("host").unwrap().starts_with("localhost:"));
    let other = get(port, "/", &[("Authorization", &auth), ("Origin", "https://evil.example")]);
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn logs_hold_no_secret_and_the_admin_endpoint_is_roots() {
    let (internal, nobody) = (echo_application(), free_port());
    let (port, broken) = (free_port(), free_port());
    let applications = [application("My App", internal, port), application("Broken", nobody, broken)];
    let mut instance = Instance::start(&applications, &[]);
    for port in [port, broken] {
        get(port, &format!("/p?token={TOKEN}"), &[BROWSER, ("Referer", "https://x/?r=canary-referer")]);
        get(port, &format!("/p?token={TOKEN}"), &[("Cookie", "c=canary-cookie")]);
        get(port, "/p", &[("Authorization", &bearer(TOKEN))]);
    }
    let admin = instance.root.path().join("run/vast/caddy");
    assert_eq!(std::fs::metadata(&admin).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(admin.join("admin.sock").exists());
    let socket = instance.root.path().join("run/vast/portal-auth.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    instance.stop();
    let access = std::fs::read_to_string(instance.root.path().join("var/log/caddy_access.log")).unwrap();
    assert!(access.contains("\"uri\":\"/p\"") && access.contains("\"status\":502"), "{access}");
    let file = std::fs::read_to_string(caddyfile(instance.root.path())).unwrap();
    for text in [access, instance.log(), file] {
        for secret in [TOKEN, PASSWORD, "canary-referer", "canary-cookie"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn https_serves_the_pair_and_plain_http_is_sent_there() {
    let (internal, port) = (echo_application(), free_port());
    let instance =
        Instance::start_with(&[application("My App", internal, port)], &[("ENABLE_HTTPS", "true")], true, |root| {
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=jupyter.vast.ai", "-days", "2"])
                .args(["-keyout", "instance.key", "-out", "instance.crt"])
                .current_dir(root.join("etc"))
                .output()
                .unwrap();
            assert!(made.status.success());
        });
    let plain = get(port, "/p", &[("Host", &format!("127.0.0.1:{port}"))]);
    assert_eq!((plain.status, plain.header("location")), (308, Some(format!("https://127.0.0.1:{port}/p").as_str())));
    let url = format!("https://127.0.0.1:{port}/?token={TOKEN}");
    let trusted = instance.root.path().join("etc/instance.crt");
    let browser = Command::new("curl").args(["-sSik", "-H", "Accept: text/html", &url]).output().unwrap();
    let answer = String::from_utf8_lossy(&browser.stdout).into_owned();
    assert!(answer.to_lowercase().contains("; samesite=lax; secure"), "{answer}");
    let program = Command::new("curl").args(["-sSk", "--cacert"]).arg(trusted).arg(&url).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&program.stdout).unwrap();
    assert_eq!(told["headers"]["x-forwarded-proto"][0], "https");
}

#[test]
fn a_configuration_that_caddy_refuses_replaces_nothing() {
    let root = tempfile::Builder::new().prefix("portal-").tempdir().unwrap();
    let mut settings = Settings::from_env(&[].into(), root.path());
    let applications = [application("My App", 1, 2)];
    publish(&applications, &settings, root.path(), &caddy()).unwrap();
    let before = std::fs::read_to_string(caddyfile(root.path())).unwrap();
    settings.flush_interval = "nonsense".to_owned();
    let error = publish(&applications, &settings, root.path(), &caddy()).unwrap_err();
    assert!(error.to_string().contains("Caddy refuses") && error.to_string().contains("nonsense"), "{error}");
    assert_eq!(std::fs::read_to_string(caddyfile(root.path())).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(root.path().join("etc")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["Caddyfile"]);
}

#[test]
fn the_whole_file_is_this() {
    let env = [("CADDY_CORS_ALLOWED_ORIGINS", "https://a.example"), ("CADDY_HEADER_UP_LOCALHOST", "8080")];
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let applications = [application("Instance Portal", 11111, 1111), application("Jupyter", 18080, 8080)];
    let text = render(&applications, &Settings::from_env(&env, "/".as_ref()));
    let page = without(&text, "<!doctype html>", "</html>");
    insta::assert_snapshot!(page);
}

/// The text with everything from each `start` to the next `end` left out.
fn without(text: &str, start: &str, end: &str) -> String {
    let mut pieces = text.split(start);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |kept, piece| kept + "…" + piece.split_once(end).unwrap().1)
}
