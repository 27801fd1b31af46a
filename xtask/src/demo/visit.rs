//! Visiting the booted container's pages as a user does: through Caddy, with the token.

use std::time::Duration;

use anyhow::{Result, ensure};
use vast_tests::container::Container;

/// Generous: Supervisor, Caddy and Python start in a few seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// Waits until the portal and the application answer with the token, and checks that they refuse a visitor without.
pub(super) fn until_answered(container: &mut Container, token: &str) -> Result<()> {
    for (what, url) in [
        ("the portal answers", "http://127.0.0.1:1111/get-applications"),
        ("the application answers", "http://127.0.0.1:7860/health"),
    ] {
        let bearer = format!("Authorization: Bearer {token}");
        container.until(what, LIMIT, |container| (status(container, &["-H", &bearer, url]) == "200").then_some(()))?;
        let refused = status(container, &[url]);
        ensure!(refused == "401", "{url} answered a visitor without the token with {refused}");
    }
    Ok(())
}

fn status(container: &Container, arguments: &[&str]) -> String {
    let mut command = container.visitor("curl");
    command
        .args(["--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(arguments);
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
