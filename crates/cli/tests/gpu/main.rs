//! `vast-gpu` on fake roots, with shared libraries that behave as drivers do: they answer, refuse, hang and crash.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod asking;
mod container;
mod devices;
mod hardware;
mod libraries;
mod reboot;
mod setup;
mod torch_backend;
mod transaction;
