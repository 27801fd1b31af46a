//! Images made of published ones: extended, rebased, and what is recorded about them on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod extend;
mod rebase;
mod records;
mod support;
