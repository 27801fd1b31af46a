//! Crash-safe copies of workspaces, environments and home directories onto shared volumes.

mod error;
mod progress;

pub mod env_vars;
pub mod workspace;

pub use error::{Error, Resource};
pub use progress::{Progress, Silent};
