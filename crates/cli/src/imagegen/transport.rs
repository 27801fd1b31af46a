//! The options of every command that speaks to registries.

use std::collections::BTreeMap;

use vast_imagegen::registry::{Client, Settings};
use vast_imagegen::transport::TransportOptions;

/// How to speak to registries.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TransportArgs {
    /// Speak plain HTTP to every registry, not to this machine's alone.
    #[arg(long)]
    insecure: bool,
    /// How often a request is made at most that meets 429, 5xx or a broken connection.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// How many connections are in use at once at most.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(2..=256))]
    connections: u16,
}

impl TransportArgs {
    /// The transports as the command line and the environment configure them.
    pub(super) fn options(&self, env: &BTreeMap<String, String>) -> TransportOptions {
        let defaults = Settings::from_env(env);
        TransportOptions::new(Client::new(Settings {
            insecure: self.insecure,
            connections: self.connections.into(),
            retry: defaults.retry.with_attempts(self.attempts),
            ..defaults
        }))
    }

    /// How many blobs are worth being on their way at once.
    pub(super) fn parallel(&self) -> usize {
        usize::from(self.connections.div_ceil(2))
    }
}
