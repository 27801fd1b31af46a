//! The environment variables this crate's binaries read. The crate itself reads none: callers pass the values.

/// The workspace directory, usually on a volume. Default: `/workspace`.
pub const WORKSPACE: &str = "WORKSPACE";
