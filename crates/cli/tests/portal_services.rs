//! `vast-portal caddy`, `serve` and `token` as an instance runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const TWO: &str = "localhost:1111:11111:/:Instance Portal|localhost:8188:18188:/:ComfyUI";

fn portal(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vast-portal"));
    command.args(arguments).arg("--root").arg(root).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("PORTAL_CONFIG", TWO).env("VAST_TCP_PORT_1111", "41111").env("VAST_TCP_PORT_8188", "48188");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ran(command: &mut Command) -> (i32, Output) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), output)
}

/// A root whose name fits into a Caddyfile.
fn root() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("portal-").tempdir().unwrap()
}

#[test]
fn a_dry_run_prints_the_caddyfile_and_writes_nothing() {
    let root = root();
    let (code, output) = ran(&mut portal(root.path(), &["caddy", "--dry-run"]));
    assert_eq!(code, 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("http://:1111 {") && printed.contains("reverse_proxy localhost:18188 {"), "{printed}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn the_users_portal_yaml_decides_which_ports_are_proxied() {
    let root = root();
    let etc = root.path().join("etc");
    let (code, output) = ran(&mut portal(root.path(), &["caddy"]));
    assert_eq!(code, 0, "{}", text(&output.stderr));
    let yaml = fs::read_to_string(etc.join("portal.yaml")).unwrap();
    assert!(yaml.contains("ComfyUI"), "{yaml}");
    assert!(fs::read_to_string(etc.join("Caddyfile")).unwrap().contains(":8188 {"));

    let without = yaml.split_inclusive('\n').take_while(|line| !line.contains("ComfyUI")).collect::<String>();
    fs::write(etc.join("portal.yaml"), &without).unwrap();
    let (code, _) = ran(&mut portal(root.path(), &["caddy"]));
    assert_eq!(code, 0);
    assert_eq!(fs::read_to_string(etc.join("portal.yaml")).unwrap(), without);
    assert!(!fs::read_to_string(etc.join("Caddyfile")).unwrap().contains(":8188 {"));
}

#[test]
fn a_caddy_that_refuses_or_is_absent_leaves_the_caddyfile_and_still_the_applications_are_settled() {
    for (caddy, said) in [("/bin/false", "Caddy refuses"), ("/nonexistent/caddy", "cannot run `/nonexistent/caddy`")] {
        let root = root();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/Caddyfile"), "works\n").unwrap();
        let (code, output) = ran(&mut portal(root.path(), &["caddy", "--caddy", caddy]));
        let stderr = text(&output.stderr);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("hint:"), "{stderr}");
        assert_eq!(fs::read_to_string(root.path().join("etc/Caddyfile")).unwrap(), "works\n");
        assert!(root.path().join("etc/portal.yaml").exists());
    }
}

/// Makes `etc` below the working directory read-only in a mount namespace, and runs a command there with a boot's umask.
const READ_ONLY: &str =
    "mount --make-rprivate / && mount --bind etc etc && mount -o remount,ro,bind etc && umask 002 && exec \"$@\"";

#[test]
fn where_etc_is_read_only_the_portal_has_its_files_elsewhere_and_finds_them_again() {
    let root = root();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let read_only = |before: &[&str], arguments: &[&str]| {
        let inner = portal(root.path(), arguments);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", READ_ONLY, "sh"]).args(before).current_dir(root.path());
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ran(&mut command)
    };
    let (code, output) = read_only(&[], &["caddy"]);
    assert_eq!(code, 0, "{}", text(&output.stderr));
    let kept = root.path().join("run/vast-portal");
    assert!(text(&output.stdout).contains("run/vast-portal/Caddyfile"), "{}", text(&output.stdout));
    assert!(fs::read_to_string(kept.join("Caddyfile")).unwrap().contains(":8188 {"));
    let (code, output) = read_only(&[], &["token"]);
    assert_eq!((code, text(&output.stdout)), (0, fs::read_to_string(kept.join("vast-portal.token")).unwrap() + "\n"));
    // Also who may not write to /etc anyway finds them.
    for (before, label, answer) in [
        (&[][..], "ComfyUI", 0),
        (&[], "Other", 1),
        (&["setpriv", "--reuid", "1001", "--regid", "0", "--clear-groups"], "ComfyUI", 0),
    ] {
        let (code, output) = read_only(before, &["listed", label]);
        assert_eq!(code, answer, "{label}: {}", text(&output.stderr));
    }
    for (path, mode) in [("", 0o755), ("portal.yaml", 0o644), ("Caddyfile", 0o644), ("vast-portal.token", 0o600)] {
        assert_eq!(fs::metadata(kept.join(path)).unwrap().permissions().mode() & 0o7777, mode, "{path}");
    }
    assert_eq!(fs::read_dir(root.path().join("etc")).unwrap().count(), 0);
    // What is in /etc stays what counts.
    fs::write(
        root.path().join("etc/portal.yaml"),
        fs::read_to_string(kept.join("portal.yaml")).unwrap().replace("ComfyUI", "Mine"),
    )
    .unwrap();
    assert_eq!([read_only(&[], &["listed", "Mine"]).0, read_only(&[], &["listed", "ComfyUI"]).0], [0, 1]);
}

/// A Caddy that refuses the redirect, and certificates.
const OLD_CADDY: &str = r#"#!/bin/sh
for file; do :; done
grep -q http_redirect "$file" && { echo "unrecognized: http_redirect" >&2; exit 1; }
grep -q instance.crt "$file" && { echo "the certificate is no good" >&2; exit 1; }
exit 0
"#;

#[test]
fn a_caddy_that_lacks_the_redirect_says_what_is_the_matter_with_the_certificate() {
    let root = root();
    let (etc, caddy) = (root.path().join("etc"), root.path().join("caddy"));
    fs::create_dir_all(&etc).unwrap();
    let key = vast_boot::certificate::new_key().unwrap();
    let pair = vast_boot::certificate::self_signed(&key, jiff::Timestamp::now()).unwrap();
    fs::write(etc.join("instance.crt"), pair).unwrap();
    fs::write(etc.join("instance.key"), key.serialize_pem()).unwrap();
    fs::write(&caddy, OLD_CADDY).unwrap();
    fs::set_permissions(&caddy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = portal(root.path(), &["caddy", "--caddy", caddy.to_str().unwrap()]);
    let (code, output) = ran(command.env("ENABLE_HTTPS", "true"));
    let said = text(&output.stderr);
    assert!(code == 0 && said.contains("does not take the certificate: the certificate is no good"), "{said}");
    assert!(!said.contains("http_redirect"), "{said}");
    assert!(fs::read_to_string(etc.join("Caddyfile")).unwrap().contains("http://:8188 {"));
}

#[test]
fn warnings_name_what_is_not_followed() {
    let root = root();
    let mut command = portal(root.path(), &["caddy", "--dry-run"]);
    let (code, output) = ran(command.env("ENABLE_HTTPS", "true").env("AUTH_EXCLUDE", "web"));
    let stderr = text(&output.stderr);
    assert_eq!(code, 0);
    assert!(stderr.contains("HTTPS is off") && stderr.contains("AUTH_EXCLUDE: \"web\""), "{stderr}");
    assert!(text(&output.stdout).contains("http://:8188 {"));
}

#[test]
fn the_token_is_the_one_that_opens() {
    let root = root();
    let token = |pairs: &[(&str, &str)]| {
        let (code, output) = ran(portal(root.path(), &["token"]).envs(pairs.iter().copied()));
        assert_eq!(code, 0, "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(token(&[("OPEN_BUTTON_TOKEN", "abc"), ("WEB_PASSWORD", "def")]), "abc");
    assert_eq!(token(&[("WEB_PASSWORD", "def")]), "def");
    assert!(!root.path().join("etc").exists());
    let generated = token(&[]);
    assert_eq!((generated.len(), token(&[("WEB_PASSWORD", " ")])), (64, generated));
    let bits = fs::metadata(root.path().join("etc/vast-portal.token")).unwrap().permissions().mode();
    assert_eq!(bits & 0o777, 0o600);
}

#[test]
fn the_portal_serves_its_page_and_caddys_questions_until_it_is_told_to_stop() {
    let root = root();
    let mut server = portal(root.path(), &["serve", "--listen", "127.0.0.1:0"])
        .env("WEB_PASSWORD", "hunter2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.to_owned();

    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");

    let socket = root.path().join("run/vast/portal-auth.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (authorization, status) in [("Bearer hunter2", "204"), ("Bearer guess", "401")] {
        let mut asked = UnixStream::connect(&socket).unwrap();
        let request = format!(
            "GET /auth HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /\r\n\
             Authorization: {authorization}\r\n\r\n"
        );
        asked.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{authorization}: {answer}");
    }

    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
