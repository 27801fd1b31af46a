//! Which sites the applications need: one for each external port that is proxied.

use std::fmt;

use vast_portal_config::Application;

/// The port that `vast-portal serve` listens on, on loopback.
pub const PORTAL_PORT: u16 = 11111;

/// One port that Caddy listens on, and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The port that the user reaches.
    pub port: u16,
    /// The application's host name or address, safe in a Caddyfile.
    pub host: String,
    /// The application's own port.
    pub upstream_port: u16,
    /// The label of the first application on this port.
    pub label: String,
}

impl Site {
    /// `host:port` of the application.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("{}:{}", self.host, self.upstream_port)
    }

    /// Whether the portal itself is behind this port: it verifies credentials again, so it gets them.
    #[must_use]
    pub fn is_portal(&self) -> bool {
        self.upstream_port == PORTAL_PORT && matches!(self.host.as_str(), "localhost" | "127.0.0.1")
    }
}

/// The sites, and the applications that could get none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In the order of the applications.
    pub sites: Vec<Site>,
    /// What was left out, for the log.
    pub left: Vec<Left>,
}

/// An application that gets no site of its own, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// Its host is neither a host name nor an address.
    Host {
        /// The application.
        label: String,
        /// What it has for a host.
        host: String,
    },
    /// Another application has the port, for another target.
    PortTaken {
        /// The application.
        label: String,
        /// The port.
        port: u16,
        /// The application that has it.
        by: String,
    },
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { label, host } => {
                write!(formatter, "{label:?} is not proxied: {host:?} is neither a host name nor an address")
            }
            Self::PortTaken { label, port, by } => {
                write!(formatter, "{label:?} is not proxied: port {port} already leads to {by:?}")
            }
        }
    }
}

/// Plans the sites. Two applications on one port with one target share a site (`Jupyter` and `Jupyter Terminal`); with
/// different targets the first has it.
#[must_use]
pub fn plan(applications: &[Application]) -> Plan {
    let mut plan = Plan::default();
    for application in applications.iter().filter(|application| application.proxied) {
        let label = application.label.clone();
        let Some(host) = upstream_host(&application.host) else {
            plan.left.push(Left::Host { label, host: application.host.clone() });
            continue;
        };
        let site = Site { port: application.external_port, host, upstream_port: application.internal_port, label };
        match plan.sites.iter().find(|other| other.port == site.port) {
            None => plan.sites.push(site),
            Some(other) if other.upstream() == site.upstream() => {}
            Some(other) => {
                let (port, by) = (site.port, other.label.clone());
                plan.left.push(Left::PortTaken { label: site.label, port, by });
            }
        }
    }
    plan
}

/// A host as Caddy's upstream takes it, or nothing when it could mean more than a host.
fn upstream_host(host: &str) -> Option<String> {
    let host = host.trim();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<std::net::Ipv6Addr>() {
        return Some(format!("[{address}]"));
    }
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits) && !label.starts_with('-')
    };
    (host.len() <= 253 && host.split('.').all(label)).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(label: &str, host: &str, internal_port: u16, external_port: u16) -> Application {
        let (label, host, path) = (label.to_owned(), host.to_owned(), "/".to_owned());
        let proxied = internal_port != external_port;
        Application { label, host, internal_port, external_port, path, proxied }
    }

    #[test]
    fn a_port_gets_one_site_and_a_direct_link_none() {
        let plan = plan(&[
            application("Jupyter", "localhost", 18080, 8080),
            application("Jupyter Terminal", "localhost", 18080, 8080),
            application("Other", "localhost", 9999, 8080),
            application("Direct", "localhost", 7000, 7000),
        ]);
        let ports: Vec<u16> = plan.sites.iter().map(|site| site.port).collect();
        assert_eq!(ports, [8080]);
        assert_eq!(plan.sites[0].upstream(), "localhost:18080");
        assert_eq!(plan.left[0].to_string(), "\"Other\" is not proxied: port 8080 already leads to \"Jupyter\"");
    }

    #[test]
    fn only_a_host_is_a_host() {
        for (host, upstream) in [
            ("localhost", Some("localhost")),
            ("LOCALHOST", Some("localhost")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("::1", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("my_host-1.lan", Some("my_host-1.lan")),
            ("", None),
            ("a b", None),
            ("a\n}", None),
            ("{env.WEB_PASSWORD}", None),
            ("{$HOME}", None),
            ("unix//run/docker.sock", None),
            ("https://a", None),
            ("a/b", None),
            ("a`", None),
            ("a\"", None),
            ("-x", None),
            ("a..b", None),
        ] {
            assert_eq!(upstream_host(host).as_deref(), upstream, "{host}");
        }
    }
}
