//! Puts a Caddyfile in place, if the installed Caddy takes it.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vast_portal_config::{Application, place};

use super::render::render;
use super::settings::Settings;
use crate::Error;

/// Where the Caddyfile is.
#[must_use]
pub fn caddyfile(root: &Path) -> PathBuf {
    place::kept(root, "Caddyfile")
}

/// What was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Everything that was asked for.
    Complete,
    /// This Caddy cannot redirect plain HTTP on an HTTPS port, so it does not.
    WithoutRedirect,
    /// Plain HTTP in place of HTTPS, because this Caddy does not take the certificate; what it said.
    WithoutHttps(String),
}

/// Renders, has `caddy` validate the text, and replaces the Caddyfile in one step. A text that Caddy refuses replaces
/// nothing; if it is the certificate that Caddy refuses, the text without it takes the place.
///
/// # Errors
/// When the root's name does not fit into a Caddyfile, Caddy cannot be run or refuses, or a file cannot be written.
pub fn publish(
    applications: &[Application],
    settings: &Settings,
    root: &Path,
    caddy: &Path,
) -> Result<Published, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !root.as_os_str().as_encoded_bytes().iter().all(|byte| plain(*byte)) {
        return Err(Error::UnquotablePath(root.to_owned()));
    }
    // The admin endpoint can replace the whole configuration: its directory keeps everybody but root out.
    for directory in [settings.admin_socket.parent(), settings.access_log.parent()].into_iter().flatten() {
        fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    }
    if let Some(directory) = settings.admin_socket.parent() {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(Error::file("protect", directory))?;
    }
    let path = caddyfile(root);
    let target = fs::canonicalize(&path).unwrap_or(path);
    let Err(refused) = try_publish(&render(applications, settings), &target, caddy) else {
        return Ok(Published::Complete);
    };
    if settings.tls.is_none() || !matches!(refused, Error::CaddyRefused { .. }) {
        return Err(refused);
    }
    let mut modest = settings.clone();
    if let Some(tls) = &mut modest.tls {
        tls.redirect_http = false;
    }
    // A Caddy that does not know the redirect says only that of the first text, and what is the matter with the pair of this one.
    let Err(refused) = try_publish(&render(applications, &modest), &target, caddy) else {
        return Ok(Published::WithoutRedirect);
    };
    // Whatever the check of the pair lets through, Caddy decides; its answer costs HTTPS and not the portal.
    modest.tls = None;
    match (try_publish(&render(applications, &modest), &target, caddy), refused) {
        (Ok(()), Error::CaddyRefused { said, .. }) => Ok(Published::WithoutHttps(said)),
        (_, refused) => Err(refused),
    }
}

fn try_publish(text: &str, path: &Path, caddy: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    place::make_directory(directory).map_err(Error::file("create", directory))?;
    let cannot = || Error::file("publish", path);
    let mut fresh = tempfile::Builder::new().prefix(".Caddyfile-").tempfile_in(directory).map_err(cannot())?;
    fresh.write_all(text.as_bytes()).map_err(cannot())?;
    fresh.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(cannot())?;
    fresh.as_file().sync_all().map_err(cannot())?;
    validate(fresh.path(), path, caddy)?;
    fresh.persist(path).map_err(|error| cannot()(error.error))?;
    Ok(())
}

fn validate(fresh: &Path, path: &Path, caddy: &Path) -> Result<(), Error> {
    let ran = Command::new(caddy)
        .args(["validate", "--adapter", "caddyfile", "--config"])
        .arg(fresh)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::CaddyNotRun { program: caddy.to_owned(), source })?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let errors: Vec<&str> =
        said.lines().filter(|line| !line.contains("\"level\":\"info\"") && !line.is_empty()).collect();
    let last = errors[errors.len().saturating_sub(3)..].join("; ");
    Err(Error::CaddyRefused { path: path.to_owned(), said: last })
}
