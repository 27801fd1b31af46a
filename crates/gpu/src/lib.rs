//! NVIDIA and AMD devices, drivers and CUDA toolkits of a container, and the CUDA set-up plan.
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
