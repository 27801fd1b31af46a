//! The environment variables of `vast-envhash`.

/// The time that a bill of materials states, so that the same environment gives the same document
/// (<https://reproducible-builds.org/specs/source-date-epoch/>). Default: now. Unit: seconds since 1970-01-01 UTC.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
