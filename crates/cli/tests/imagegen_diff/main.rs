//! `vast-imagegen diff` on the real binary and a real registry (Debian's `docker-registry`), beside umoci's unpacked files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod answers;
mod packages;
mod place;
mod records;
mod transports;
mod unpacked;
