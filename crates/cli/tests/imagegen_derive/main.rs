//! `vast-imagegen` making images of images: `extend`, `rebase` and what they are made with, on the real binary and a real
//! registry (Debian's `docker-registry`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod bases;
mod overlays;
mod place;
mod scale;
