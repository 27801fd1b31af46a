//! The Instance Portal.
pub mod auth;
pub mod caddy;
pub mod certificate;
pub mod env_vars;
mod error;
pub mod logtee;
pub mod pty;
pub mod logs;
pub mod metrics;
pub mod supervisor;
pub mod web;

pub use error::Error;
