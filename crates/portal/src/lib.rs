//! The Instance Portal.
pub mod certificate;
