//! Builds, publishes, inspects and verifies OCI images, reproducibly and without a daemon.

pub mod digest;
pub mod dockerfile;
mod error;
pub mod layer;
pub mod platform;
pub mod sink;
pub mod source;

pub use error::Error;
