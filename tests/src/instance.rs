//! `hello` as a rented instance, and what its visitors and its own tools see of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::container::{Container, Options};
use crate::program;

/// The token of the instance's open button.
pub const TOKEN: &str = "b00t-t0ken";
/// The password of its web pages.
pub const PASSWORD: &str = "w3b passw:rd";
/// Long enough for a slow machine; a boot that works takes a few seconds.
pub const LIMIT: Duration = Duration::from_mins(2);
/// What a container engine grants between SIGTERM and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How the platform starts the instance 4242, with further variables; an empty value stands as it is.
#[must_use]
pub fn options(extra: &[(&str, &str)]) -> Options {
    let base = [
        ("CONTAINER_ID", "4242"),
        ("VAST_CONTAINERLABEL", "C.4242"),
        ("VAST_TCP_PORT_1111", "41111"),
        ("VAST_TCP_PORT_7860", "47860"),
        ("VAST_TCP_PORT_8080", "48080"),
        ("OPEN_BUTTON_TOKEN", TOKEN),
        ("WEB_PASSWORD", PASSWORD),
        ("ENABLE_HTTPS", "false"),
    ];
    let environment: BTreeMap<String, String> =
        base.iter().chain(extra).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Options { environment, arguments: vec!["--no-cert-gen".to_owned()], ..Options::default() }
}

/// A visitor's request: the status (0 without an answer) and the body.
///
/// # Errors
/// When `curl` cannot be run.
pub fn curl(container: &Container, arguments: &[&str]) -> Result<(u16, String)> {
    let output = container
        .visitor("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .context("cannot run curl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    Ok((status.trim().parse().unwrap_or(0), body.to_owned()))
}

/// Waits until `hello` answers through Caddy with the token.
///
/// # Errors
/// When it does not within [`LIMIT`], or the container ends.
pub fn until_served(container: &mut Container) -> Result<()> {
    let bearer = format!("Authorization: Bearer {TOKEN}");
    container.until("hello answers through Caddy", LIMIT, |container| {
        let (status, body) = curl(container, &["-H", &bearer, "http://127.0.0.1:7860/health"]).ok()?;
        (status == 200 && body.contains("ok")).then_some(())
    })
}

/// Waits until these of Supervisor's programs run.
///
/// # Errors
/// When they do not within [`LIMIT`], or the container ends.
pub fn until_running(container: &mut Container, expected: &[&str]) -> Result<()> {
    container.until(&format!("{expected:?} are RUNNING"), LIMIT, |container| {
        let programs = programs(container).ok()?;
        expected.iter().all(|&name| programs.get(name).is_some_and(|state| state == "RUNNING")).then_some(())
    })
}

/// Name and state of each of Supervisor's programs.
///
/// # Errors
/// When `supervisorctl` cannot be run.
pub fn programs(container: &Container) -> Result<BTreeMap<String, String>> {
    let output = container.command("supervisorctl").arg("status").output().context("cannot run supervisorctl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect())
}

/// A program inside the container: what it prints.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn inside(container: &Container, program: &str, arguments: &[&str]) -> Result<String> {
    program::output(container.command(program).args(arguments))
}

/// Waits until every stage but the last, which waits for Supervisor, is through. The boot before this one, if there was one,
/// has ended in an orderly way: a record that says "up" is this boot's.
///
/// # Errors
/// When that is not so within [`LIMIT`], or the container ends.
pub fn until_up(container: &mut Container) -> Result<()> {
    container.until("the boot is up", LIMIT, |container| {
        let status = inside(container, "/opt/instance-tools/bin/vast-boot", &["status", "--json"]).ok()?;
        let record: serde_json::Value = serde_json::from_str(&status).ok()?;
        (record["phase"] == "up").then_some(())
    })
}

/// Outcome and message of each stage of the boot.
///
/// # Errors
/// When there is no record of a boot.
pub fn stages(container: &Container) -> Result<BTreeMap<String, (String, String)>> {
    let record: serde_json::Value =
        serde_json::from_str(&inside(container, "/opt/instance-tools/bin/vast-boot", &["status", "--json"])?)?;
    let Some(stages) = record["stages"].as_array() else { bail!("no stages in {record}") };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(stages.iter().map(|stage| (text(&stage["stage"]), (text(&stage["outcome"]), text(&stage["message"])))).collect())
}

/// The environment of the first process whose command line holds `pattern`: `NAME=value` records ended by NUL.
///
/// # Errors
/// When there is no such process.
pub fn environment_of(container: &Container, pattern: &str) -> Result<Vec<u8>> {
    let pid = inside(container, "pgrep", &["--oldest", "--full", pattern])?;
    let path = Path::new("/proc").join(pid.trim()).join("environ");
    fs::read(container.path(&path.display().to_string())).with_context(|| format!("cannot read {}", path.display()))
}
