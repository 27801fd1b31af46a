//! Arguments and printing of the binaries; each binary's work is in the library crate of its name.
//!
//! Every module has one `run(args) -> ExitCode`. What a binary prints goes through this crate alone.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is this crate's job")]

pub mod boot;
pub mod envhash;
pub mod gpu;
pub mod imagegen;
mod instance;
pub mod logtee;
pub mod portal;
pub mod pty;
pub mod report;
pub mod sync;
mod table;

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
