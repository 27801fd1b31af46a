//! How busy the instance is, as its container sees it: the limits of its cgroup, not the host's.
//!
//! [`Sampler`] reads counters and turns the difference to the last reading into rates; [`History`] keeps a few minutes.

mod cgroup;
mod counters;
mod history;
mod sampler;

pub use history::{History, Series};
pub use sampler::{Cpu, Disk, Gpu, Network, Sample, Sampler, Usage};
