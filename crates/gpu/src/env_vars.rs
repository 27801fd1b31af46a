//! The environment variables that this crate reads.

/// The CUDA version to take for the driver's maximum, `<major.minor>`, instead of asking the driver.
///
/// Default: unset. Announced whenever it is used.
pub const VAST_CUDA_MAX_OVERRIDE: &str = "VAST_CUDA_MAX_OVERRIDE";

/// `true` keeps boot from trying NVIDIA's forward compatibility for a toolkit that is newer than the driver.
///
/// Default: `false`.
pub const DISABLE_FORWARD_COMPAT: &str = "DISABLE_FORWARD_COMPAT";

/// The most threads, at least 2, that one thread pool is given where processes are scarce.
///
/// Default: 16.
pub const VAST_CPU_THREAD_CEILING: &str = "VAST_CPU_THREAD_CEILING";
