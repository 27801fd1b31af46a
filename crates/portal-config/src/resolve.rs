//! From entries as written to applications on an instance: which port is the external one, and what is proxied.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cut;
use crate::env_vars;
use crate::model::Entry;

/// An application of an instance: an entry whose ports are known for what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Application {
    /// The tab's text and the application's name.
    pub label: String,
    /// Where it listens.
    pub host: String,
    /// The port it listens on.
    pub internal_port: u16,
    /// The port in the container that the user reaches from outside, if the platform publishes it.
    pub external_port: u16,
    /// What the tab opens, starting with `/`.
    pub path: String,
    /// Whether the proxy listens on the external port and forwards to the internal one.
    pub proxied: bool,
}

/// Which of an entry's two ports comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortOrder {
    /// The guide's order: the application's own port, then the user's.
    InternalFirst,
    /// The order of deployed images: the user's port, then the application's own.
    ExternalFirst,
}

impl PortOrder {
    /// Sorts the two ports of an entry, in the order of the string, into (internal, external).
    #[must_use]
    pub fn orient(self, first: u16, second: u16) -> (u16, u16) {
        match self {
            Self::InternalFirst => (first, second),
            Self::ExternalFirst => (second, first),
        }
    }
}

impl fmt::Display for PortOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InternalFirst => "internal-first",
            Self::ExternalFirst => "external-first",
        })
    }
}

/// A value of `PORTAL_PORT_ORDER` that names no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PORTAL_PORT_ORDER is `{0}`, neither `internal-first` nor `external-first`")]
pub struct UnknownPortOrder(pub String);

impl FromStr for PortOrder {
    type Err = UnknownPortOrder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "internal-first" => Ok(Self::InternalFirst),
            "external-first" => Ok(Self::ExternalFirst),
            _ => Err(UnknownPortOrder(text.to_owned())),
        }
    }
}

/// The external and internal ports of the platform's own services: Instance Portal, Jupyter, Syncthing, `TensorBoard`.
const KNOWN_SERVICES: [(u16, u16); 4] = [(1111, 11111), (8080, 18080), (8384, 18384), (6006, 16006)];

/// What is known about ports on this instance: those that the platform publishes, and the order of the template's string.
///
/// The default knows nothing, as in CI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMap {
    /// Port in the container to public port; None where the platform's value is no port number.
    published: BTreeMap<u16, Option<u16>>,
    order: Option<PortOrder>,
    unknown_order: Option<UnknownPortOrder>,
}

impl PortMap {
    /// Reads `VAST_TCP_PORT_<port>` and `PORTAL_PORT_ORDER`. An unknown order counts as none: see
    /// [`unknown_order`](Self::unknown_order).
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let published = env
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| {
                let port = cut::port(name.strip_prefix(env_vars::VAST_TCP_PORT_)?)?;
                Some((port, cut::port(value.trim())))
            })
            .collect();
        let order = env.get(env_vars::PORTAL_PORT_ORDER).filter(|order| !order.trim().is_empty());
        match order.map(|order| order.parse()).transpose() {
            Ok(order) => Self { published, order, unknown_order: None },
            Err(unknown) => Self { published, order: None, unknown_order: Some(unknown) },
        }
    }

    /// Whether the platform publishes this port of the container.
    #[must_use]
    pub fn is_published(&self, port: u16) -> bool {
        self.published.contains_key(&port)
    }

    /// The public port under which the platform publishes this port of the container.
    #[must_use]
    pub fn published_as(&self, port: u16) -> Option<u16> {
        self.published.get(&port).copied().flatten()
    }

    /// What `PORTAL_PORT_ORDER` says, if it names an order.
    #[must_use]
    pub fn order(&self) -> Option<PortOrder> {
        self.order
    }

    /// What `PORTAL_PORT_ORDER` says, if that is no order: worth a warning.
    #[must_use]
    pub fn unknown_order(&self) -> Option<&UnknownPortOrder> {
        self.unknown_order.as_ref()
    }

    /// Sorts the two ports of an entry, in the order of the string, into (internal, external): by what is published, else by
    /// the order that was asked for, else as a known service, else in the guide's order.
    #[must_use]
    pub fn orient(&self, first: u16, second: u16) -> (u16, u16) {
        let order = match (self.is_published(first), self.is_published(second)) {
            (true, false) => Some(PortOrder::ExternalFirst),
            (false, true) => Some(PortOrder::InternalFirst),
            _ => self.order,
        };
        match order {
            Some(order) => order.orient(first, second),
            None if KNOWN_SERVICES.contains(&(first, second)) => (second, first),
            // A known service the other way round stands in the guide's order already.
            None => PortOrder::InternalFirst.orient(first, second),
        }
    }
}

pub(crate) fn resolve(entries: &[Entry], ports: &PortMap) -> Vec<Application> {
    let mut applications: Vec<Application> = entries
        .iter()
        .map(|entry| {
            let (internal_port, external_port) = ports.orient(entry.internal_port, entry.external_port);
            Application {
                label: entry.label.clone(),
                host: entry.host.clone(),
                internal_port,
                external_port,
                path: entry.path.clone(),
                proxied: false,
            }
        })
        .collect();
    mark_proxied(&mut applications, ports);
    applications
}

/// Sets `proxied`: ports differ, the external one is published, and no earlier application has it for another target.
pub(crate) fn mark_proxied(applications: &mut [Application], ports: &PortMap) {
    let mut served: BTreeMap<u16, String> = BTreeMap::new();
    for application in applications {
        let Application { host, internal_port, external_port, .. } = application;
        application.proxied = internal_port != external_port && ports.is_published(*external_port) && {
            let target = target(host, *internal_port);
            *served.entry(*external_port).or_insert_with(|| target.clone()) == target
        };
    }
}

/// `host:port`, with one name for all names of the instance itself.
pub(crate) fn target(host: &str, port: u16) -> String {
    let host = if cut::is_local(host) { "localhost" } else { host };
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortalConfig;

    fn ports(pairs: &[(&str, &str)]) -> PortMap {
        PortMap::from_env(&pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn resolved(value: &str, ports: &PortMap) -> Vec<(u16, u16, bool)> {
        let applications = PortalConfig::parse_lenient(value).config.resolve(ports);
        applications.iter().map(|app| (app.internal_port, app.external_port, app.proxied)).collect()
    }

    #[test]
    fn the_published_port_is_the_external_one_whatever_the_order() {
        let published = ports(&[("VAST_TCP_PORT_21434", "40000"), (env_vars::PORTAL_PORT_ORDER, "external-first")]);
        assert_eq!(resolved("localhost:11434:21434:/:Ollama API", &published), [(11434, 21434, true)]);
        let published = ports(&[("VAST_TCP_PORT_11434", "40000"), (env_vars::PORTAL_PORT_ORDER, "internal-first")]);
        assert_eq!(resolved("localhost:11434:21434:/:Ollama API", &published), [(21434, 11434, true)]);
        assert_eq!(resolved("localhost:21434:11434:/:Ollama API", &published), [(21434, 11434, true)]);
    }

    #[test]
    fn without_evidence_the_asked_order_decides_then_known_services_then_the_guide() {
        let nothing = PortMap::default();
        let external_first = ports(&[(env_vars::PORTAL_PORT_ORDER, " External-First ")]);
        let internal_first = ports(&[(env_vars::PORTAL_PORT_ORDER, "internal-first")]);
        for (value, ports, expected) in [
            ("localhost:7860:17860:/:A", &nothing, (7860, 17860)),
            ("localhost:7860:17860:/:A", &external_first, (17860, 7860)),
            ("localhost:7860:17860:/:A", &internal_first, (7860, 17860)),
            ("localhost:1111:11111:/:A", &nothing, (11111, 1111)),
            ("localhost:11111:1111:/:A", &nothing, (11111, 1111)),
            ("localhost:8080:18080:/:A", &nothing, (18080, 8080)),
            ("localhost:18080:8080:/:A", &nothing, (18080, 8080)),
            ("localhost:8384:18384:/:A", &nothing, (18384, 8384)),
            ("localhost:6006:16006:/:A", &nothing, (16006, 6006)),
            ("localhost:1111:11111:/:A", &internal_first, (1111, 11111)),
            ("localhost:11111:1111:/:A", &external_first, (1111, 11111)),
        ] {
            assert_eq!(resolved(value, ports), [(expected.0, expected.1, false)], "{value} {ports:?}");
        }
    }

    #[test]
    fn both_published_counts_as_no_evidence() {
        let both = ports(&[("VAST_TCP_PORT_1111", "1"), ("VAST_TCP_PORT_11111", "2")]);
        assert_eq!(resolved("localhost:1111:11111:/:A", &both), [(11111, 1111, true)]);
        let both = ports(&[("VAST_TCP_PORT_7860", "1"), ("VAST_TCP_PORT_17860", "2")]);
        assert_eq!(resolved("localhost:7860:17860:/:A", &both), [(7860, 17860, true)]);
    }

    #[test]
    fn equal_ports_are_a_direct_link() {
        let published = ports(&[("VAST_TCP_PORT_8188", "40000")]);
        assert_eq!(resolved("localhost:8188:8188:/:ComfyUI", &published), [(8188, 8188, false)]);
    }

    #[test]
    fn one_external_port_serves_one_target() {
        let published = ports(&[("VAST_TCP_PORT_8080", "40000")]);
        assert_eq!(
            resolved("localhost:8080:18080:/:A|127.0.0.1:8080:18080:/t:B|localhost:8080:18081:/:C", &published),
            [(18080, 8080, true), (18080, 8080, true), (18081, 8080, false)]
        );
    }

    #[test]
    fn an_unknown_order_is_kept_for_a_warning() {
        let map = ports(&[(env_vars::PORTAL_PORT_ORDER, "sideways")]);
        assert_eq!(map.order(), None);
        assert!(map.unknown_order().is_some_and(|unknown| unknown.to_string().contains("`sideways`")));
        assert_eq!(ports(&[(env_vars::PORTAL_PORT_ORDER, "")]), PortMap::default());
    }

    #[test]
    fn published_means_set_and_not_empty() {
        let map = ports(&[
            ("VAST_TCP_PORT_8080", "40123"),
            ("VAST_TCP_PORT_9090", ""),
            ("VAST_TCP_PORT_7070", "soon"),
            ("VAST_TCP_PORT_70000", "40124"),
            ("VAST_UDP_PORT_6060", "40125"),
        ]);
        assert_eq!((map.is_published(8080), map.published_as(8080)), (true, Some(40123)));
        assert_eq!((map.is_published(7070), map.published_as(7070)), (true, None));
        assert!(!map.is_published(9090) && !map.is_published(6060));
        assert_eq!(map.published.len(), 2);
    }
}
