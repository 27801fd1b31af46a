//! The Instance Portal.
pub mod auth;
pub mod caddy;
pub mod certificate;
pub mod env_vars;
mod error;
pub mod logs;
pub mod logtee;
pub mod metrics;
pub mod pty;
pub mod supervisor;
pub mod web;

pub use error::Error;
