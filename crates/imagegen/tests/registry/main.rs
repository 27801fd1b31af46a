//! Sources, sinks and publishing, against registries, layouts and archives.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod archives;
mod auth;
mod distribution;
mod faults;
mod history;
mod inspection;
mod layouts;
mod merging;
mod promotion;
mod property;
mod pull;
mod push;
mod real;
mod referrers;
mod support;
mod uploads;
