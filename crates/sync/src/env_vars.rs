//! The environment variables this crate's binaries read. The crate itself reads none, but for the tests' own: callers
//! pass the values.

/// The workspace directory, usually on a volume. Default: `/workspace`.
pub const WORKSPACE: &str = "WORKSPACE";

/// The id of the image's environment: the name of its directory in `$WORKSPACE/.environment_sync`. Default: the content of
/// `/.env_hash`.
pub const ENV_ID: &str = "ENV_ID";

/// The number of the instance, set by the platform; for people. Default: none.
pub const CONTAINER_ID: &str = "CONTAINER_ID";

/// The label of the instance (`C.<id>`), set by the platform; for people, when `CONTAINER_ID` is not set. Default: none.
pub const VAST_CONTAINERLABEL: &str = "VAST_CONTAINERLABEL";

/// Tests only, in builds with the feature `fault-points`: where to die or fail, such as
/// `kill-before:publish.rename,fail:lock.flock=37`. Default: nowhere.
#[cfg(feature = "fault-points")]
pub const VAST_SYNC_FAULT: &str = "VAST_SYNC_FAULT";

/// Tests only, in builds with the feature `fault-points`: a file that gets the name of each point passed, one a line.
/// Default: none.
#[cfg(feature = "fault-points")]
pub const VAST_SYNC_FAULT_LOG: &str = "VAST_SYNC_FAULT_LOG";
