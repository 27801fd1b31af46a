//! Builds, publishes, inspects and verifies OCI images, reproducibly and without a daemon.

pub mod build;
pub mod definition;
pub mod digest;
pub mod dockerfile;
mod error;
pub mod layer;
pub mod platform;
pub mod sink;
pub mod source;

pub mod archive;
pub mod env_vars;
pub mod inspect;
pub mod layout;
pub mod manifest;
pub mod publish;
pub mod reference;
pub mod registry;
pub mod transport;
pub mod verify;

pub use error::Error;
