//! Where a browser finds an application.

use http::HeaderMap;
use vast_portal_config::{Application, PortMap};

/// What is needed to write an address.
#[derive(Debug, Clone)]
pub(super) struct Links {
    ports: PortMap,
    public_address: Option<String>,
}

impl Links {
    pub(super) fn new(ports: PortMap, public_address: Option<String>) -> Self {
        Self { ports, public_address }
    }

    /// The address of an application, as seen by who asks with these headers: on the instance's public address where
    /// the platform publishes the port; `None` where nothing leads to it from outside.
    pub(super) fn of(&self, application: &Application, headers: &HeaderMap) -> Option<String> {
        let published = self.ports.published_as(application.external_port)?;
        let host = self.public_address.clone().or_else(|| asked_host(headers))?;
        // Without the proxy an application speaks what it speaks, and few of them speak TLS.
        let scheme = if application.proxied { scheme(headers) } else { "http" };
        Some(format!("{scheme}://{host}:{published}{}", path(&application.path)))
    }

    /// The port that the platform publishes a port of the container as.
    pub(super) fn published_as(&self, port: u16) -> Option<u16> {
        self.ports.published_as(port)
    }
}

/// A path that begins with one slash: `//host` would be another server.
fn path(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}

fn scheme(headers: &HeaderMap) -> &'static str {
    let https = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    if https { "https" } else { "http" }
}

/// The host that the browser asked for, without its port.
fn asked_host(headers: &HeaderMap) -> Option<String> {
    let authority = headers.get("x-forwarded-host").or_else(|| headers.get("host"))?.to_str().ok()?;
    let authority: http::uri::Authority = authority.parse().ok()?;
    Some(authority.host().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn application(external_port: u16, proxied: bool, path: &str) -> Application {
        let (label, host, path) = ("App".to_owned(), "localhost".to_owned(), path.to_owned());
        Application { label, host, internal_port: 7860, external_port, path, proxied }
    }

    #[test]
    fn an_address_is_the_published_one() {
        let env = BTreeMap::from([("VAST_TCP_PORT_17860".to_owned(), "41234".to_owned())]);
        let links = |public: Option<&str>| Links::new(PortMap::from_env(&env), public.map(str::to_owned));
        let headers: HeaderMap = [("x-forwarded-host", "203.0.113.5:41111"), ("x-forwarded-proto", "https")]
            .iter()
            .map(|(name, value)| (name.parse::<http::header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let own = links(None);
        let proxied = application(17860, true, "/lab?a=1");
        assert_eq!(own.of(&proxied, &headers).as_deref(), Some("https://203.0.113.5:41234/lab?a=1"));
        assert_eq!(
            links(Some("198.51.100.9")).of(&application(17860, false, "//evil.example"), &headers).as_deref(),
            Some("http://198.51.100.9:41234/evil.example")
        );
        assert_eq!(own.of(&application(9999, true, "/"), &headers), None);
    }
}
