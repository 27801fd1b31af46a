//! The crate from outside: values as they are in the wild, files as users leave them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod data;
mod effective;
mod jupyter;
mod lenient;
mod listed;
mod round_trip;
mod strict;
mod yaml;

use std::collections::BTreeMap;

use vast_portal_config::{Application, PortMap};

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn publishing(ports: &[u16]) -> PortMap {
    PortMap::from_env(
        &ports.iter().map(|port| (format!("VAST_TCP_PORT_{port}"), (40_000 + port % 1000).to_string())).collect(),
    )
}

fn application(label: &str, internal_port: u16, external_port: u16) -> Application {
    Application {
        label: label.to_owned(),
        host: "localhost".to_owned(),
        internal_port,
        external_port,
        path: "/".to_owned(),
        proxied: false,
    }
}

fn labels(applications: &[Application]) -> Vec<&str> {
    applications.iter().map(|application| application.label.as_str()).collect()
}
