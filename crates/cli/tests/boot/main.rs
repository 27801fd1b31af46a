//! `vast-boot` as a container runs it: the built binary on fake roots, as process 1 of its own namespaces, and on a real `/`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod caddy;
mod cuda;
mod doctor;
mod entrypoint;
mod environment;
mod first_process;
mod flags;
mod guide;
mod handover;
mod harness;
mod https;
mod moves;
mod pairs;
mod provisioning;
mod real_root;
mod rows;
mod run;
mod scripts;
mod secrets;
mod shell_stages;
mod signing;
mod status_page;
mod system;
mod tools;
mod variables;
