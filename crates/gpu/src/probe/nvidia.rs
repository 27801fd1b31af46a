//! NVIDIA's devices through NVML.

use std::ffi::OsStr;
use std::path::Path;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device as NvmlDevice, Nvml};

use super::{Device, MigInstance, Probe, Process, Vendor};

/// The name that the driver installs into containers.
pub(super) const NVML: &str = "libnvidia-ml.so.1";

/// Present where the kernel has the driver.
const KERNEL_DRIVER: &str = "proc/driver/nvidia/version";

/// Opens NVML. None without a note where there is no NVIDIA driver at all.
pub(super) fn open(root: &Path, library: &OsStr) -> (Option<Nvml>, Option<String>) {
    match Nvml::builder().lib_path(library).init() {
        Ok(nvml) => (Some(nvml), None),
        Err(NvmlError::DriverNotLoaded) => (None, None),
        Err(NvmlError::LibloadingError(_)) if !root.join(KERNEL_DRIVER).exists() => (None, None),
        Err(error) => (None, Some(format!("the NVIDIA driver cannot be asked: {error}"))),
    }
}

pub(super) fn probe(nvml: &Nvml, probe: &mut Probe) {
    probe.nvidia_driver = nvml.sys_driver_version().ok();
    let count = nvml.device_count().unwrap_or_else(|error| {
        probe.notes.push(format!("NVIDIA's devices cannot be counted: {error}"));
        0
    });
    for index in 0..count {
        match nvml.device_by_index(index) {
            Ok(found) => probe.devices.push(device(&found, index)),
            // A device that fell off the bus: it counts, so that its absence is seen.
            Err(error) => {
                probe.notes.push(format!("NVIDIA device {index} cannot be asked: {error}"));
                probe.devices.push(Device::new(Vendor::Nvidia, index));
            }
        }
    }
}

fn device(device: &NvmlDevice<'_>, index: u32) -> Device {
    let memory = device.memory_info().ok();
    let mig = device.mig_mode().ok().map(|mode| mode.current == 1);
    let capability = device.cuda_compute_capability().ok();
    Device {
        name: device.name().ok(),
        uuid: device.uuid().ok(),
        pci_bus_id: device.pci_info().ok().map(|pci| pci.bus_id),
        architecture: capability.map(|capability| format!("{}.{}", capability.major, capability.minor)),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        memory_used_bytes: memory.map(|memory| memory.used),
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        power_watts: device.power_usage().ok().map(watts),
        power_limit_watts: device.enforced_power_limit().ok().map(watts),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        mig_enabled: mig,
        mig_instances: if mig == Some(true) { mig_instances(device) } else { Vec::new() },
        processes: processes(device),
        ..Device::new(Vendor::Nvidia, index)
    }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

/// The instances that can be seen; the device has room for `mig_device_count` of them.
fn mig_instances(device: &NvmlDevice<'_>) -> Vec<MigInstance> {
    let room = device.mig_device_count().unwrap_or(0);
    let instances = (0..room).filter_map(|index| device.mig_device_by_index(index).ok()).map(|instance| {
        let memory = instance.memory_info().ok();
        MigInstance {
            name: instance.name().ok(),
            uuid: instance.uuid().ok(),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            memory_used_bytes: memory.map(|memory| memory.used),
        }
    });
    instances.collect()
}

fn processes(device: &NvmlDevice<'_>) -> Vec<Process> {
    let running = device.running_compute_processes().unwrap_or_default();
    let processes = running.into_iter().map(|process| Process {
        pid: process.pid,
        memory_used_bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
    });
    processes.collect()
}
