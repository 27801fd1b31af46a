//! Which applications an instance offers: its user's file, else its template's string.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Loaded, document, names, publish, write};
use crate::env_vars;
use crate::error::Error;
use crate::model::PortalConfig;
use crate::resolve::{self, Application, PortMap};

/// Where the applications come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// portal.yaml, which lists applications.
    File,
    /// portal.yaml, read by lines because a key line is commented or a key is there twice.
    Lines,
    /// `PORTAL_CONFIG`, because portal.yaml is absent, empty or unusable.
    Environment,
}

/// The applications of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// In the order of the tabs.
    pub applications: Vec<Application>,
    /// What was left out, mended or not understood, for people.
    pub warnings: Vec<String>,
    /// Where they come from.
    pub source: Source,
    path: PathBuf,
    /// A file that is about to be replaced but may hold the user's work.
    bad: Option<Vec<u8>>,
}

impl Effective {
    /// Brings portal.yaml in line, where it is this program's to write: a file that lists applications, or that the user is at work
    /// in, stays as it is.
    ///
    /// # Errors
    /// [`Error::Publish`].
    pub fn publish(&self) -> Result<(), Error> {
        match self.source {
            Source::File | Source::Lines => Ok(()),
            Source::Environment => {
                self.keep_bad()?;
                write(&self.path, &self.applications)
            }
        }
    }

    /// Copies an unusable file to `portal.yaml.bad`. The original stays until the new one takes its place, so that nobody sees none.
    fn keep_bad(&self) -> Result<Option<PathBuf>, Error> {
        let Some(content) = &self.bad else { return Ok(None) };
        let path = bad_path(&self.path);
        publish::publish(&path, content).map_err(Error::publish(&path))?;
        Ok(Some(path))
    }
}

/// Why a file is only read by lines.
const TORN: &str = "not a map (a key line is commented, or a key is there twice)";

fn bad_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".bad");
    PathBuf::from(name)
}

/// The applications under `root`: those of `/etc/portal.yaml` if it lists any, else those of `PORTAL_CONFIG`, resolved.
///
/// A file that is there but unusable is kept as `portal.yaml.bad`; [`Effective::publish`] then writes a new one.
///
/// # Errors
/// [`Error::Read`] when the file is there but cannot be read. A copy that cannot be kept is a warning.
pub fn effective(root: &Path, env: &BTreeMap<String, String>) -> Result<Effective, Error> {
    let mut effective = read_effective(root, env)?;
    match effective.keep_bad() {
        Ok(None) => {}
        Ok(Some(kept)) => effective.warnings.push(format!("the unusable file is kept as `{}`", kept.display())),
        Err(error) => effective.warnings.push(format!("the unusable file is not kept: {error}")),
    }
    Ok(effective)
}

/// As [`effective`], without writing anything.
///
/// # Errors
/// [`Error::Read`] when the file is there but cannot be read.
pub fn read_effective(root: &Path, env: &BTreeMap<String, String>) -> Result<Effective, Error> {
    let ports = PortMap::from_env(env);
    let path = super::path(root);
    let mut warnings: Vec<String> = ports.unknown_order().iter().map(ToString::to_string).collect();

    let content = super::content(&path)?;
    let loaded = match &content {
        None => Loaded::Absent,
        Some(content) => {
            let reading = super::parse(content, &ports);
            warnings.extend(reading.warnings.into_iter().map(|warning| format!("{}: {warning}", path.display())));
            reading.loaded
        }
    };
    let unusable = match loaded {
        Loaded::Applications(applications) if !applications.is_empty() => {
            return Ok(Effective { applications, warnings, source: Source::File, path, bad: None });
        }
        Loaded::LinesOnly(text) => {
            warnings.push(format!("{}: {TORN}: read by lines, and left as it is", path.display()));
            let applications = from_lines(&text, env, &ports, &mut warnings);
            return Ok(Effective { applications, warnings, source: Source::Lines, path, bad: None });
        }
        Loaded::Absent => None,
        // What this program writes when there is nothing to publish.
        Loaded::Applications(_) if content.as_deref() == Some(super::render(&[]).as_bytes()) => None,
        Loaded::Applications(_) => Some("it lists no application".to_owned()),
        Loaded::Bad { reason } => Some(reason),
    };
    if let Some(reason) = &unusable {
        warnings.push(format!("{}: {reason}: counts as absent", path.display()));
    }
    let applications = from_string(env, &ports, &mut warnings);
    let bad = unusable.and(content);
    let source = Source::Environment;
    Ok(Effective { applications, warnings, source, path, bad })
}

fn from_string(env: &BTreeMap<String, String>, ports: &PortMap, warnings: &mut Vec<String>) -> Vec<Application> {
    let reading = PortalConfig::parse_lenient(env.get(env_vars::PORTAL_CONFIG).map_or("", String::as_str));
    warnings.extend(reading.warnings.iter().map(|warning| format!("{}: {warning}", env_vars::PORTAL_CONFIG)));
    reading.config.resolve(ports)
}

/// The file's own applications if its commented key lines tell them, else those of the string; of these, what an uncommented line names.
fn from_lines(
    text: &str,
    env: &BTreeMap<String, String>,
    ports: &PortMap,
    warnings: &mut Vec<String>,
) -> Vec<Application> {
    let mut applications = match document::restored(text) {
        Some(apps) => apps.iter().filter_map(|app| app.to_application().ok()).collect(),
        None => from_string(env, ports, warnings),
    };
    applications.retain(|application| names(text, &application.label));
    resolve::mark_proxied(&mut applications, ports);
    applications
}
