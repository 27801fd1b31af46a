//! Builds, publishes, inspects and verifies OCI images, reproducibly and without a daemon.
//!
//! # Model
//! An image is read through a [source](source::ImageSource), lazily: manifests and configurations when they are asked for,
//! layers as streams that are verified while they are read. It is written into a [sink](sink::ImageSink), which shows a
//! name only when all that it stands for is there. Where both are is a [`Reference`](reference::Reference): a registry, an
//! OCI layout, an archive. [`publish`] is what lies between: blobs in parallel, then manifests, then the name.
//!
//! New images come from [`build`]: a Dockerfile, parsed by [`dockerfile`], is planned and carried out into [`layer`]s that
//! are the same on every machine. What was built is published like what was read. Published images get another layer by
//! [`extend`] and another base by [`rebase`], from what was [recorded](record) about them, without being pulled; [`diff`] tells
//! what that changed.
//!
//! ```
//! use vast_imagegen::publish::{DEFAULT_PARALLEL, copy};
//! use vast_imagegen::registry::{Client, Settings};
//! use vast_imagegen::transport::{TransportOptions, open_sink, open_source};
//! # use vast_testkit::{image::ImageBuilder, registry::Registry};
//!
//! # let registry = Registry::start();
//! # registry.push("app", "staging", &ImageBuilder::new().build());
//! # let host = registry.host();
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let options = TransportOptions::new(Client::new(Settings::from_env(&std::env::vars().collect())));
//! let source = open_source(&format!("{host}/app:staging").parse()?, &options).await?;
//! let sink = open_sink(&format!("{host}/app:production").parse()?, &options).await?;
//! let published = copy(&*source, &*sink, DEFAULT_PARALLEL, &()).await?;
//! assert_eq!(published.written_bytes, 0);
//! # Ok::<(), vast_imagegen::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod build;
pub mod definition;
pub mod digest;
pub mod dockerfile;
mod error;
pub mod layer;
pub mod platform;
pub mod sink;
pub mod source;

pub mod archive;
pub mod artifact;
pub mod diff;
pub mod env_vars;
pub mod environment;
pub mod extend;
pub mod history;
pub mod inspect;
pub mod layout;
pub mod manifest;
pub mod merge;
pub mod promote;
pub mod publish;
pub mod rebase;
pub mod record;
pub mod reference;
pub mod registry;
pub mod rollback;
pub mod transport;
pub mod verify;

pub use error::Error;
