//! Crash-safe copies of workspaces, environments and home directories onto shared volumes.
//!
//! An image brings files that belong on the volume of whoever rents a machine. Volumes outlive machines, several machines
//! may have one mounted at once, some of them running older images, and any of them may be gone at any moment. What this
//! crate promises in spite of that:
//!
//! - What is under its final name is complete and durable, at every instant.
//! - Nothing that has the name already is replaced: not a file, not an empty directory, not a dangling link.
//! - No link is followed out of a source, and none is written through in a target.
//! - What a target cannot hold is said once; what it cannot do without is said before anything is written.
//!
//! # Model
//!
//! Each kind of sync is a *plan*, which looks and changes nothing, and an *apply*, which does what the plan says and tells a
//! [`Progress`] about it:
//!
//! - [`workspace`] publishes each item of a directory unless something of its name is there.
//! - [`environment`] and [`home`] move directories of the container to the volume, once for all instances, and leave links.
//! - [`copy`] copies one tree.
//! - [`stock`] tells what is on a volume, and removes what nobody needs.
//!
//! All stand on the same three floors. The *engine* copies a tree: in parallel, in bounded memory, each file the cheapest
//! faithful way. *Staging* is where copies are before they are published, whose they are, and what happens to those of
//! owners who died. The *volume* is the filesystem underneath: its locks, its room, how it makes things durable, and how
//! a name is given without taking one.
//!
//! # Example
//!
//! ```
//! use vast_sync::{Silent, workspace};
//!
//! let root = tempfile::tempdir()?;
//! let (image, volume) = (root.path().join("workspace-internal"), root.path().join("workspace"));
//! std::fs::create_dir_all(image.join("app"))?;
//! std::fs::write(image.join("app/main.py"), "print('hello')")?;
//!
//! let options = workspace::Options::new(&image, &volume);
//! let report = workspace::apply(&workspace::plan(&options)?, &options, &Silent)?;
//! assert_eq!(report.published(), 1);
//! assert!(volume.join("app/main.py").exists());
//!
//! // From now on it is the user's.
//! assert!(workspace::plan(&options)?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cancel;
mod engine;
mod error;
mod fault;
mod lease;
mod program;
mod progress;
mod relink;
mod relocation;
mod staging;
mod volume;

pub mod copy;
pub mod env_vars;
pub mod environment;
pub mod home;
pub mod stock;
pub mod workspace;

pub use cancel::Cancel;
pub use error::{Error, Resource};
pub use program::{Programs, SystemPrograms};
pub use progress::{Progress, Silent};
