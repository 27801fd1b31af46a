//! Harness of the end-to-end tests and of `cargo xtask demo`: images, namespaces and services, each removed at its end.
//!
//! The pieces, in the order in which a run uses them:
//!
//! - [`stand_in`]: a Debian root filesystem that stands in for the base's upstream image;
//! - [`registry`]: a real registry on loopback;
//! - [`images`]: the base image and `hello`, built and pushed with the real `vast-imagegen`, read back and unpacked;
//! - [`prepared`]: all of that once, shared by the tests of a run;
//! - [`container`]: an unpacked image booted in fresh namespaces on an overlay, as a container engine does it;
//! - [`instance`]: `hello` as a rented instance, as visitors and its own tools see it;
//! - [`ssh`]: a real SSH server in a container, and a client that visits it;
//! - [`program`]: running a program, with an error that shows what it printed.

pub mod container;
pub mod images;
pub mod instance;
pub mod prepared;
pub mod program;
pub mod registry;
pub mod ssh;
pub mod stand_in;
