//! What all images of a process share when they speak to registries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::AuthFiles;
use super::retry::{Clock, RetryPolicy, SystemClock};

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Speak plain HTTP to every registry, not to this machine's alone.
    pub insecure: bool,
    /// How many connections are in use at once at most: half of them to read, half to write.
    pub connections: usize,
    /// When failed requests are repeated.
    pub retry: RetryPolicy,
    /// How long a connection may do nothing before it counts as cut.
    pub stall: Duration,
    /// Where credentials are.
    pub auth_files: AuthFiles,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            insecure: false,
            connections: 12,
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(60),
            auth_files: AuthFiles::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Settings {
    /// The defaults, with the auth files that the environment names.
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        Self { auth_files: AuthFiles::from_env(env), ..Self::default() }
    }
}

/// Speaks to registries.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
}

impl Client {
    /// A client that has not connected to anything yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}
