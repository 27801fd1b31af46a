//! Where the boot speaks to whoever reads the container's log.

use std::sync::Arc;

/// A place for messages. The library never prints by itself.
pub trait Console: Send + Sync {
    /// Shows one message on its own line.
    fn line(&self, text: &str);

    /// Passes on a program's output as it is.
    fn raw(&self, bytes: &[u8]);

    /// Whether it makes use of what programs say. If not, they write to the container's log by themselves.
    fn hears(&self) -> bool {
        false
    }
}

/// A console that threads share.
pub type SharedConsole = Arc<dyn Console>;

/// A console that shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Console for Silent {
    fn line(&self, _: &str) {}

    fn raw(&self, _: &[u8]) {}
}
