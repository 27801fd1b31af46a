//! `vast-envhash` against the recipe with the real tools, on this machine and on built roots.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod agreement;
mod bad_input;
mod cases;
mod command_line;
mod comparison;
mod dpkg_oracle;
mod fixture;
mod matrix;
mod mutation;
mod offline;
mod skeleton;
