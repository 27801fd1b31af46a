//! The devices of a machine and what they are doing. No device is a normal answer, not an error.
//!
//! NVIDIA devices are asked through NVML, opened as `libnvidia-ml.so.1` (containers lack the unversioned name), never by parsing the text of
//! `nvidia-smi`, whose field names change with the driver. AMD devices are read from sysfs.

mod amd;
mod nvidia;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use serde::Serialize;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Probe {
    /// The NVIDIA driver's version, such as `570.26`.
    pub nvidia_driver: Option<String>,
    /// NVIDIA's devices in the driver's order, then AMD's in that of their cards.
    pub devices: Vec<Device>,
    /// Why something that seems to be there could not be asked.
    pub notes: Vec<String>,
}

/// Who made a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
}

/// A device. What it, its driver or the container's rights do not tell is None.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Who made it.
    pub vendor: Vendor,
    /// Counted from 0 per vendor.
    pub index: u32,
    /// The product's name.
    pub name: Option<String>,
    /// The device's own identity, the same on every machine.
    pub uuid: Option<String>,
    /// `domain:bus:device.function`.
    pub pci_bus_id: Option<String>,
    /// NVIDIA: the compute capability, such as `9.0`; AMD: the target of its compiler, such as `gfx942`.
    pub architecture: Option<String>,
    /// Memory of the device in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Share of the last sample in which a kernel ran, 0–100.
    pub utilization_percent: Option<u32>,
    /// Power drawn.
    pub power_watts: Option<f64>,
    /// Power that the device is held to.
    pub power_limit_watts: Option<f64>,
    /// Temperature of the chip.
    pub temperature_celsius: Option<u32>,
    /// NVIDIA: whether the device is divided into instances (MIG); None where it cannot be.
    pub mig_enabled: Option<bool>,
    /// The instances of a divided device that this container was given.
    pub mig_instances: Vec<MigInstance>,
    /// Who computes on it, as the driver numbers processes: outside of this container's numbers.
    pub processes: Vec<Process>,
}

impl Device {
    fn new(vendor: Vendor, index: u32) -> Self {
        Self {
            vendor,
            index,
            name: None,
            uuid: None,
            pci_bus_id: None,
            architecture: None,
            memory_total_bytes: None,
            memory_used_bytes: None,
            utilization_percent: None,
            power_watts: None,
            power_limit_watts: None,
            temperature_celsius: None,
            mig_enabled: None,
            mig_instances: Vec::new(),
            processes: Vec::new(),
        }
    }

    /// NVIDIA's compute capability as numbers.
    #[must_use]
    pub fn compute_capability(&self) -> Option<(u32, u32)> {
        let text = self.architecture.as_deref().filter(|_| self.vendor == Vendor::Nvidia)?;
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

/// An instance of a divided device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigInstance {
    /// Its name, such as `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    pub name: Option<String>,
    /// Its identity, by which a process asks for it.
    pub uuid: Option<String>,
    /// Memory of the instance in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_used_bytes: Option<u64>,
}

/// A process on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number, in the host's numbers.
    pub pid: u32,
    /// Memory of the device that it uses, in bytes.
    pub memory_used_bytes: Option<u64>,
}

/// Asks again and again without opening the driver's library each time.
#[derive(Debug)]
pub struct Prober {
    root: PathBuf,
    nvml: Option<Nvml>,
    note: Option<String>,
}

impl Prober {
    /// Opens NVML if it is there. `root` is where AMD's devices and the NVIDIA driver's files are looked for: `/`.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self::open_library(root, OsStr::new(nvidia::NVML))
    }

    /// As [`open`](Self::open), with NVML from another place: a path, or a name for the loader to find.
    #[must_use]
    pub fn open_library(root: &Path, library: &OsStr) -> Self {
        let (nvml, note) = nvidia::open(root, library);
        Self { root: root.to_owned(), nvml, note }
    }

    /// What the devices are doing now.
    #[must_use]
    pub fn probe(&self) -> Probe {
        let mut probe = Probe { notes: self.note.clone().into_iter().collect(), ..Probe::default() };
        if let Some(nvml) = &self.nvml {
            nvidia::probe(nvml, &mut probe);
        }
        probe.devices.extend(amd::devices(&self.root));
        probe
    }
}
