//! AMD's devices on a fake sysfs.

use std::ffi::OsStr;
use std::path::Path;

use vast_gpu::probe::{Probe, Prober, Vendor};

use crate::root;

/// Without NVIDIA's devices, even where this machine has some.
fn probe(root: &Path) -> Probe {
    Prober::open_library(root, OsStr::new("/nowhere/libnvidia-ml.so.1")).probe()
}

#[test]
fn amd_devices_are_read_from_sysfs() {
    let root = root(&[
        ("sys/class/drm/card1/device/vendor", "0x1002\n"),
        ("sys/class/drm/card1/device/product_name", "AMD Instinct MI300X\n"),
        ("sys/class/drm/card1/device/unique_id", "a1b2c3\n"),
        ("sys/class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:43:00.0\n"),
        ("sys/class/drm/card1/device/mem_info_vram_total", "206141652992\n"),
        ("sys/class/drm/card1/device/mem_info_vram_used", "1048576\n"),
        ("sys/class/drm/card1/device/gpu_busy_percent", "37\n"),
        ("sys/class/drm/card1/device/drm/renderD129/dev", "226:129\n"),
        ("sys/class/drm/card1/device/hwmon/hwmon3/power1_average", "135500000\n"),
        ("sys/class/drm/card1/device/hwmon/hwmon3/power1_cap", "750000000\n"),
        ("sys/class/drm/card1/device/hwmon/hwmon3/temp1_input", "41999\n"),
        ("sys/class/drm/card1-DP-1/device/vendor", "0x1002\n"),
        ("sys/class/drm/card10/device/vendor", "0x1002\n"),
        ("sys/class/drm/card10/device/drm/renderD130/dev", ""),
        ("sys/class/drm/card2/device/vendor", "0x1a03\n"),
        ("sys/class/drm/renderD129/device/vendor", "0x1002\n"),
        (
            "sys/class/kfd/kfd/topology/nodes/0/properties",
            "cpu_cores_count 64\ngfx_target_version 0\ndrm_render_minor 0\n",
        ),
        ("sys/class/kfd/kfd/topology/nodes/1/properties", "gfx_target_version 90402\ndrm_render_minor 129\n"),
        ("sys/class/kfd/kfd/topology/nodes/2/properties", "gfx_target_version 90010\ndrm_render_minor 130\n"),
    ]);
    let devices = probe(root.path()).devices;
    let [first, second] = &devices[..] else { panic!("{devices:?}") };
    assert_eq!((first.vendor, first.index, second.index), (Vendor::Amd, 0, 1));
    assert_eq!(first.name.as_deref(), Some("AMD Instinct MI300X"));
    assert_eq!(first.uuid.as_deref(), Some("a1b2c3"));
    assert_eq!(first.pci_bus_id.as_deref(), Some("0000:43:00.0"));
    assert_eq!(first.architecture.as_deref(), Some("gfx942"));
    assert_eq!((first.memory_total_bytes, first.memory_used_bytes), (Some(206_141_652_992), Some(1_048_576)));
    assert_eq!((first.utilization_percent, first.temperature_celsius), (Some(37), Some(41)));
    assert_eq!((first.power_watts, first.power_limit_watts), (Some(135.5), Some(750.0)));
    assert_eq!(first.compute_capability(), None);
    assert_eq!(
        (second.architecture.as_deref(), second.name.as_deref(), second.power_watts),
        (Some("gfx90a"), None, None)
    );
}

#[test]
fn no_device_is_a_normal_answer() {
    let root = root(&[]);
    let probe = probe(root.path());
    assert!(probe.devices.is_empty() && probe.notes.is_empty(), "{probe:?}");
}

#[test]
fn a_driver_without_its_library_is_noted() {
    let root = root(&[("proc/driver/nvidia/version", "NVRM version: …\n")]);
    let probe = probe(root.path());
    assert!(probe.notes[0].starts_with("the NVIDIA driver cannot be asked: "), "{probe:?}");
    assert_eq!(probe.notes.len(), 1);
}
