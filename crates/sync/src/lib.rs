//! Crash-safe copies of workspaces, environments and home directories onto shared volumes.

mod engine;
mod error;
mod fault;
mod progress;
mod staging;
mod volume;

pub mod copy;
pub mod env_vars;
pub mod workspace;

pub use error::{Error, Resource};
pub use progress::{Progress, Silent};
