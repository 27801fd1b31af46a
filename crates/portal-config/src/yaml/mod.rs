//! `/etc/portal.yaml`: the applications of a running instance, edited by its user.
//!
//! ```yaml
//! applications:
//!   My App:                 # the label
//!     hostname: localhost
//!     external_port: 17860  # the one that the platform publishes
//!     internal_port: 7860
//!     open_path: /
//!     name: My App
//! ```
//!
//! Removing or commenting an application turns it off. Supervisor scripts search the file by line
//! (`grep -qiE "^[^#].*<label>"`), so what [`render`] gives holds every label verbatim in one line.
//!
//! Reading uses `serde-saphyr`, of the live successors of `serde_yaml` the one without unsafe code (`serde_norway` and
//! `serde_yaml_ng` stand on a translated C parser, `serde_yml` was withdrawn as unsound), with limits against alias bombs, and
//! with duplicate keys passed through, which the reading by lines needs. Writing is our own: a serializer folds long lines,
//! and a line search would miss the label.

mod by_lines;
mod document;
mod effective;
mod emit;
mod publish;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use effective::{Effective, Source, effective, read_effective};

pub(crate) use by_lines::names;
pub(crate) use document::{App, Document};

use crate::error::Error;
use crate::place;
use crate::resolve::{self, Application, PortMap};

/// The file under `root`: see [`place::kept`].
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    place::kept(root, "portal.yaml")
}

/// What a portal.yaml holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// There is no file.
    Absent,
    /// The usable applications, in the file's order. None where the file says so: `applications: {}`, or all commented.
    Applications(Vec<Application>),
    /// A key is there twice, or a commented key line left its fields behind: no map, but to be read by lines. The text.
    /// Not to be rewritten: the user is at work in it.
    LinesOnly(String),
    /// Nothing usable: empty, truncated, not YAML or of another shape.
    Bad {
        /// What is wrong with it, for people.
        reason: String,
    },
}

/// A portal.yaml and what was said while reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The file.
    pub loaded: Loaded,
    /// One for every application of the file that was left out.
    pub warnings: Vec<String>,
}

/// Reads a portal.yaml. `ports` decides which applications are proxied; internal and external are as written.
///
/// # Errors
/// [`Error::Read`] when the file is there but cannot be read.
pub fn load(path: &Path, ports: &PortMap) -> Result<Loaded, Error> {
    read(path, ports).map(|reading| reading.loaded)
}

/// As [`load`], with what was left out.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, ports: &PortMap) -> Result<Reading, Error> {
    let absent = Reading { loaded: Loaded::Absent, warnings: Vec::new() };
    Ok(content(path)?.map_or(absent, |content| parse(&content, ports)))
}

/// The bytes of the file, or None where there is none.
fn content(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::read(path)(error)),
    }
}

/// Reads the content of a portal.yaml.
#[must_use]
pub fn parse(content: &[u8], ports: &PortMap) -> Reading {
    let (loaded, warnings) = match Document::read(content) {
        Document::Applications(apps) => applications(&apps, ports),
        Document::Torn(text) => (Loaded::LinesOnly(text), Vec::new()),
        Document::Bad(reason) => (Loaded::Bad { reason }, Vec::new()),
    };
    Reading { loaded, warnings }
}

fn applications(apps: &[App], ports: &PortMap) -> (Loaded, Vec<String>) {
    let mut warnings = Vec::new();
    let mut usable: Vec<Application> = Vec::new();
    for app in apps {
        match app.to_application() {
            Ok(application) => usable.push(application),
            Err(reason) => warnings.push(format!("application `{}` is left out: {reason}", app.key)),
        }
    }
    if usable.is_empty() && !apps.is_empty() {
        let reason = format!("no application is usable: {}", warnings.join("; "));
        return (Loaded::Bad { reason }, Vec::new());
    }
    resolve::mark_proxied(&mut usable, ports);
    (Loaded::Applications(usable), warnings)
}

/// The text of a portal.yaml. Of two applications with one label the later one's values stand in the earlier one's place.
#[must_use]
pub fn render(applications: &[Application]) -> String {
    emit::render(applications)
}

/// Writes a portal.yaml so that every reader sees the old file or the new one: through a symlink to its target, with the mode
/// and owner of an existing file, else 0644. A file that holds this text already is left alone.
///
/// # Errors
/// [`Error::Publish`]; the old file is then still there.
pub fn write(path: &Path, applications: &[Application]) -> Result<(), Error> {
    publish::publish(path, render(applications).as_bytes()).map_err(Error::publish(path))
}
