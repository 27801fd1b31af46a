//! Whole builds: Dockerfiles in folders, to images in layouts, read back entry by entry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod bases;
mod buildkit;
mod corpus;
mod doubt;
mod engines;
mod hostile;
mod native;
mod refusals;
mod reproducible;
mod support;
