//! The model of the string: entries in the order and with the fields that they were written with.

use std::fmt;

use crate::lenient::{self, Lenient};
use crate::problem::StrictErrors;
use crate::resolve::{self, Application, PortMap};
use crate::strict;

/// One application as `PORTAL_CONFIG` writes it: `host:port:port:path:label`.
///
/// The ports carry the guide's names for their positions, which need not be what they turn out to be on
/// an instance: see [`PortalConfig::resolve`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where the application listens; by convention `localhost`.
    pub host: String,
    /// Position 2: in the guide's order the application's own port.
    pub internal_port: u16,
    /// Position 3: in the guide's order the user's port, by convention internal + 10000.
    pub external_port: u16,
    /// What the tab opens, starting with `/`.
    pub path: String,
    /// The tab's text, and the name by which scripts ask for the application. It may hold colons, but no `|`.
    pub label: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, internal_port, external_port, path, label } = self;
        write!(f, "{host}:{internal_port}:{external_port}:{path}:{label}")
    }
}

/// A whole `PORTAL_CONFIG` value. [`Display`](fmt::Display) writes its canonical form: of every configuration
/// that a reading yields, the same reading of the canonical form yields it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PortalConfig {
    /// The entries in the order of the tabs, each label once.
    pub entries: Vec<Entry>,
}

impl PortalConfig {
    /// The strict reading, for linters and CI: nothing is mended, nothing is dropped.
    ///
    /// It accepts exactly the values that the [lenient reading](Self::parse_lenient) takes as they are, and of these
    /// only those that keep every rule. Which of two ports is the external one (two entries must not claim the same
    /// one for different targets) follows from the platform's known services and the guide's order; with the evidence of
    /// an instance at hand use [`parse_on`](Self::parse_on).
    ///
    /// # Errors
    /// Every problem of every entry, in the order of the value.
    pub fn parse(value: &str) -> Result<Self, StrictErrors> {
        Self::parse_on(value, &PortMap::default())
    }

    /// The strict reading on an instance that publishes `ports`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_on(value: &str, ports: &PortMap) -> Result<Self, StrictErrors> {
        strict::parse(value, ports)
    }

    /// The lenient reading, for a booting instance: it never fails and keeps every usable entry.
    #[must_use]
    pub fn parse_lenient(value: &str) -> Lenient {
        lenient::parse(value)
    }

    /// Decides for every entry which port is the external one, and whether the proxy serves it.
    ///
    /// Equal ports are a direct link. Otherwise the port that the platform publishes is the external one; where it
    /// publishes both or neither, `PORTAL_PORT_ORDER` decides, then the platform's own services (Instance Portal 1111,
    /// Jupyter 8080, Syncthing 8384, `TensorBoard` 6006), then the guide's order. An external port that is not
    /// published is listed but not proxied, and so is one that an earlier entry has for another target.
    #[must_use]
    pub fn resolve(&self, ports: &PortMap) -> Vec<Application> {
        resolve::resolve(&self.entries, ports)
    }
}

impl fmt::Display for PortalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                f.write_str("|")?;
            }
            entry.fmt(f)?;
        }
        Ok(())
    }
}
