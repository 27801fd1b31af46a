//! `hello` booted as on a rented machine: an overlay on the unpacked image, real Supervisor, real Caddy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use vast_tests::container::{Container, Options};
use vast_tests::instance::{self, LIMIT, PASSWORD, STOP_GRACE, TOKEN, options};
use vast_tests::prepared::{Prepared, prepare};
use vast_tests::program;

fn boot(prepared: &Prepared, folder: &Path, options: &Options) -> Container {
    Container::boot(&prepared.hello, folder, options).unwrap()
}

/// A visitor's request: the status and the body.
fn curl(container: &Container, arguments: &[&str]) -> (u16, String) {
    instance::curl(container, arguments).unwrap()
}

fn until_served(container: &mut Container) {
    instance::until_served(container).unwrap();
}

#[test]
fn every_program_runs_and_the_application_is_reached_with_each_token_way_alone() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut container = boot(&prepared, folder.path(), &options(&[]));
    until_served(&mut container);
    assert!(!container.path("/.provisioning").exists(), "/.provisioning is gone at the end of the boot");

    instance::until_running(&mut container, &["caddy", "cron", "hello", "instance_portal", "jupyter"]).unwrap();

    let url = "http://127.0.0.1:7860/request";
    let by_parameter = format!("{url}?token={TOKEN}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let basic = format!("vastai:{PASSWORD}");
    let basic_with_token = format!("vastai:{TOKEN}");
    for way in [
        vec![by_parameter.as_str()],
        vec!["-H", &bearer, url],
        vec!["--user", &basic, url],
        vec!["--user", &basic_with_token, url],
    ] {
        let (status, body) = curl(&container, &way);
        assert_eq!(status, 200, "{way:?}: {body}");
        for secret in [TOKEN, PASSWORD, "Authorization"] {
            assert!(!body.contains(secret), "what authenticated the request reached the application: {body}");
        }
    }

    // A browser gets the cookie and a redirect to the address without the token; the cookie alone then suffices.
    let jar = folder.path().join("cookies");
    let jar = jar.to_str().unwrap();
    let browser = ["-H", "Accept: text/html,application/xhtml+xml", "-H", "Sec-Fetch-Mode: navigate"];
    let sign_in = [&browser[..], &["--cookie-jar", jar, "--output", "/dev/null", &by_parameter]].concat();
    let (status, _) = curl(&container, &sign_in);
    assert!((302..=303).contains(&status), "a redirect was expected, not {status}");
    let cookies = fs::read_to_string(jar).unwrap();
    assert!(cookies.contains("C.4242_auth_token") && !cookies.contains(TOKEN), "{cookies}");
    let (status, body) = curl(&container, &["--cookie", jar, url]);
    assert_eq!(status, 200, "{body}");
    assert!(!body.contains("auth_token"), "the cookie reached the application: {body}");

    let wrong_parameter = format!("{url}?token=wrong");
    for way in [
        vec![url],
        vec![&wrong_parameter],
        vec!["-H", "Authorization: Bearer wrong", url],
        vec!["--user", "vastai:wrong", url],
        vec!["--user", &format!("other:{PASSWORD}"), url],
        vec!["--cookie", "C.4242_auth_token=wrong", url],
    ] {
        assert_eq!(curl(&container, &way).0, 401, "{way:?}");
    }
    // The portal itself stands behind the same door.
    assert_eq!(curl(&container, &["http://127.0.0.1:1111/"]).0, 401);
    let (status, page) = curl(&container, &["-H", &bearer, "http://127.0.0.1:1111/get-applications"]);
    assert_eq!(status, 200);
    assert!(page.contains("Hello") && page.contains("Instance Portal"), "{page}");
}

#[test]
fn a_malformed_portal_entry_costs_that_entry_alone() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = "localhost:1111:11111:/:Instance Portal|localhost:none:19999:/:Broken|localhost:7860:17860:/:Hello";
    let mut container = boot(&prepared, folder.path(), &options(&[("PORTAL_CONFIG", config)]));
    until_served(&mut container);
    let applications = fs::read_to_string(container.path("/etc/portal.yaml")).unwrap();
    assert!(applications.contains("Hello") && !applications.contains("Broken"), "{applications}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let (status, page) = curl(&container, &["-H", &bearer, "http://127.0.0.1:1111/get-applications"]);
    assert_eq!(status, 200, "the portal is served as well: {page}");
}

#[test]
fn what_a_boot_stage_exports_reaches_the_application() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut container = boot(&prepared, folder.path(), &options(&[]));
    until_served(&mut container);
    let (status, page) = curl(&container, &["--user", &format!("vastai:{TOKEN}"), "http://127.0.0.1:7860/"]);
    assert_eq!(status, 200);
    // `05-hello-env.sh` sets it; nothing in the image or in the options does.
    assert!(page.contains("Hello from Vast.ai"), "{page}");
}

#[test]
fn sigterm_stops_everything_in_the_grace_of_a_container_stop() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut container = boot(&prepared, folder.path(), &options(&[]));
    until_served(&mut container);
    // Orphans of every kind are the first process's to reap; a zombie that stays is a failure.
    program::run(container.command("sh").args(["-c", "for n in $(seq 50); do (true &); done"])).unwrap();
    container.until("no zombie is left", LIMIT, |container| zombies(container).is_empty().then_some(())).unwrap();
    container.signal(Signal::TERM).unwrap();
    let status = container.wait(STOP_GRACE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", program::end_of(&container.console()));
}

/// The command names of zombies in the container.
fn zombies(container: &Container) -> Vec<String> {
    let output = container.command("ps").args(["-e", "-o", "stat=,comm="]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("supervisord"), "the process list is the container's: {text}");
    text.lines().filter(|line| line.starts_with('Z')).map(str::to_owned).collect()
}

#[test]
fn a_container_killed_in_the_middle_of_the_workspace_sync_is_complete_after_the_next_boot() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let workspace = folder.path().join("workspace");
    fs::create_dir_all(&workspace).unwrap();
    for number in 0..20_000 {
        let path = source.join(format!("{:02}", number % 100));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("{number}.txt")), format!("content of {number}").repeat(20)).unwrap();
    }
    let mut options = options(&[]);
    options.volumes = vec![
        (source.clone(), "/opt/workspace-internal/large".to_owned()),
        (workspace.clone(), "/workspace".to_owned()),
    ];

    let mut container = boot(&prepared, &folder.path().join("first"), &options);
    container.until("the copy is under way", LIMIT, |_| partial(&workspace).then_some(())).unwrap();
    container.signal(Signal::KILL).unwrap();
    container.wait(STOP_GRACE).unwrap();
    assert!(!workspace.join("large").exists(), "a partial copy has the final name");

    let mut container = boot(&prepared, &folder.path().join("second"), &options);
    until_served(&mut container);
    program::run(Command::new("diff").arg("-r").arg(&source).arg(workspace.join("large"))).unwrap();
    assert!(!partial(&workspace), "leftovers of the killed copy are still there");
    assert!(workspace.join("hello/app.py").exists());
}

/// Whether a copy of `large` is under way, or was left half-way.
fn partial(workspace: &Path) -> bool {
    fs::read_dir(workspace)
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".sync_large.partial."))
}
