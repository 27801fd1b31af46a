//! AMD's devices through sysfs: `/sys/class/drm/card<n>` and `/sys/class/kfd`.
//!
//! Source: the kernel's `Documentation/gpu/amdgpu/driver-misc.rst` and `thermal.rst` for names and units.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Device, Vendor};

/// AMD's number as a maker of PCI devices.
const AMD: &str = "0x1002";

/// AMD's devices under `root`, in the order of their cards.
pub(super) fn devices(root: &Path) -> Vec<Device> {
    let mut cards: Vec<(u32, PathBuf)> = entries(&root.join("sys/class/drm"))
        .filter_map(|path| {
            // `card0`, but not its outputs, `card0-DP-1`.
            let number = path.file_name()?.to_str()?.strip_prefix("card")?.parse().ok()?;
            Some((number, path.join("device")))
        })
        .filter(|(_, device)| text(device, "vendor").as_deref() == Some(AMD))
        .collect();
    cards.sort();
    let nodes = nodes(root);
    (0..).zip(cards).map(|(index, (_, path))| device(index, &path, &nodes)).collect()
}

fn device(index: u32, path: &Path, nodes: &[Node]) -> Device {
    let sensors = entries(&path.join("hwmon")).next().unwrap_or_default();
    let render =
        entries(&path.join("drm")).find_map(|path| path.file_name()?.to_str()?.strip_prefix("renderD")?.parse().ok());
    let node = nodes.iter().find(|node| Some(node.render_minor) == render);
    let microwatts = |name: &str| number::<f64>(&sensors, name).map(|power| power / 1e6);
    let temperature = number::<i64>(&sensors, "temp1_input");
    Device {
        name: text(path, "product_name").filter(|name| !name.is_empty()),
        uuid: text(path, "unique_id").filter(|id| !id.is_empty()),
        pci_bus_id: text(path, "uevent")
            .and_then(|text| Some(text.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))?.to_owned())),
        architecture: node.map(|node| node.target.clone()),
        memory_total_bytes: number(path, "mem_info_vram_total"),
        memory_used_bytes: number(path, "mem_info_vram_used"),
        utilization_percent: number(path, "gpu_busy_percent"),
        // Newer chips report the input power instead of an average.
        power_watts: microwatts("power1_average").or_else(|| microwatts("power1_input")),
        power_limit_watts: microwatts("power1_cap"),
        temperature_celsius: temperature.and_then(|thousandths| u32::try_from(thousandths / 1000).ok()),
        ..Device::new(Vendor::Amd, index)
    }
}

/// A device as the compute driver lists it.
struct Node {
    render_minor: u32,
    target: String,
}

fn nodes(root: &Path) -> Vec<Node> {
    let nodes = entries(&root.join("sys/class/kfd/kfd/topology/nodes")).filter_map(|path| {
        let properties = text(&path, "properties")?;
        let property = |name: &str| -> Option<u32> {
            properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        let version = property("gfx_target_version").filter(|&version| version > 0)?;
        // 90402 is gfx942: two digits each, the last ones in hexadecimal.
        let target = format!("gfx{}{:x}{:x}", version / 10_000, version / 100 % 100, version % 100);
        Some(Node { render_minor: property("drm_render_minor")?, target })
    });
    nodes.collect()
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn text(directory: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(directory.join(name)).ok()?.trim().to_owned())
}

fn number<T: FromStr>(directory: &Path, name: &str) -> Option<T> {
    text(directory, name)?.parse().ok()
}
