//! NVIDIA and AMD devices, drivers and CUDA toolkits of a container, and the CUDA set-up plan.
//!
//! - [`probe`]: the devices and what they are doing, through NVML and sysfs.
//! - [`toolkit`], [`version`], [`tables`]: what the image has, and what NVIDIA documents about it.
//! - [`cuda`]: the toolkit that fits the driver, and its set-up as one transaction (boot stage 05). [`driver`] and [`runner`] ask the
//!   driver's libraries in a process of their own, because a broken one hangs or crashes.
//! - [`cpu_limits`]: thread pools that fit the container (boot stage 12).
//!
//! Deciding is apart from gathering facts and from acting, so that a decision can be shown and tested without a machine:
//!
//! ```
//! use vast_gpu::cuda::{Choice, Driver, Facts, Maximum, plan};
//! use vast_gpu::toolkit::Toolkit;
//! use vast_gpu::CudaVersion;
//!
//! let toolkit = |minor| Toolkit {
//!     version: CudaVersion::new(12, minor),
//!     path: format!("/usr/local/cuda-12.{minor}").into(),
//!     compat: None,
//! };
//! let facts = Facts {
//!     driver: Some(Driver { version: None, maximum: Maximum::Driver(CudaVersion::new(12, 10)), library: None }),
//!     toolkits: vec![toolkit(4), toolkit(9), toolkit(11)],
//!     ..Facts::default()
//! };
//! assert_eq!(plan(&facts, None).choice, Choice::Native(CudaVersion::new(12, 9)));
//! ```
//!
//! What touches the file system takes a root, what reads the environment takes a map, what runs a program goes through
//! [`Runner`](runner::Runner). No GPU library is linked: NVML and libcuda are opened where they are found.

pub mod cpu_limits;
pub mod cuda;
pub mod driver;
pub mod env_vars;
mod error;
mod files;
pub mod probe;
pub mod runner;
pub mod tables;
pub mod toolkit;
pub mod version;

pub use error::Error;
pub use version::{BadVersion, CudaVersion, DriverVersion};
