//! The Instance Portal.
pub mod auth;
pub mod caddy;
pub mod certificate;
pub mod env_vars;
mod error;

pub use error::Error;
