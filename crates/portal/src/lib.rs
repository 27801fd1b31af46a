//! The Instance Portal.
mod error;
pub mod auth;
pub mod caddy;
pub mod certificate;
pub mod env_vars;

pub use error::Error;
