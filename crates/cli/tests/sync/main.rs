//! Runs of the real `vast-sync`, on real filesystems, with deaths at every point that matters.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod chance;
mod command;
mod container;
mod copy;
mod crash;
mod deaths;
mod filesystems;
mod fleet;
mod hostile;
mod housekeeping;
mod instances;
mod mount;
mod moved;
mod overlay;
mod power;
mod real;
mod rough;
mod sshd;
mod stop;
mod terminal;
mod tree;
mod volumes;
mod workspace;
