//! Development only: a registry and a volume that misbehave on request, and images made in memory, for the tests of this workspace.
//!
//! Nothing here is part of a binary. [`registry::Registry`] is a whole OCI registry inside the test's process: what is
//! pushed to it can be looked at, and [faults](registry::Fault) make it slow, deaf, forgetful or a liar, as often as the test says.
//! [`image::ImageBuilder`] makes small images for it. [`volume::Volume`] is a mounted filesystem that answers late or fails.
//! [`web::Server`] is a web server for clients that have to bear everything, [`authority::Authority`] signs certificates.
//!
//! ```
//! use vast_testkit::image::ImageBuilder;
//! use vast_testkit::registry::Registry;
//!
//! let registry = Registry::start();
//! let image = ImageBuilder::new().file("etc/hello", b"hello").build();
//! registry.push("team/app", "v1", &image);
//! assert_eq!(registry.tag("team/app", "v1"), Some(image.digest()));
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "tests are its only users: whatever goes wrong here has to fail them"
)]

pub mod authority;
pub mod image;
pub mod registry;
pub mod volume;
pub mod web;
