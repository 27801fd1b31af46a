//! Runs of the real `vast-sync`, on real filesystems, with deaths at every point that matters.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod command;
mod copy;
mod crash;
mod filesystems;
mod fleet;
mod hostile;
mod mount;
mod power;
mod terminal;
mod tree;
mod volumes;
mod workspace;
