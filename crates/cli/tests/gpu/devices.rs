//! Devices: NVIDIA's through NVML, AMD's through sysfs, and none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::container::{LIBRARIES, container, gpu, json, no_nvml, said, toolkit};
use crate::libraries::{NVML, WORKS, library};

/// A directory with NVML in it.
fn nvml() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    library(&directory.path().join("libnvidia-ml.so.1"), NVML, &[]);
    directory
}

#[test]
fn probe_shows_what_nvml_says() {
    let root = container(WORKS);
    toolkit(root.path(), "12.8", None);
    symlink("cuda-12.8", root.path().join("usr/local/cuda")).unwrap();
    let nvml = nvml();

    let two = |subcommand: &str| {
        let mut command = gpu(root.path(), subcommand, Some(nvml.path()));
        command.env("FAKE_DEVICES", "9.0,9.0").env("FAKE_LOST", "1");
        command
    };
    let shown = two("probe").assert().success();
    let text = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
    let own = root.path().join(LIBRARIES).join("libcuda.so.570.26").display().to_string();
    let expected = "\
Driver:   NVIDIA 570.26, up to CUDA 12.8, says @
Toolkits: 12.8 (in use)

GPU  NAME         ARCH  MEMORY           USE  POWER       TEMP   MIG
0    NVIDIA H200  9.0   1.0 / 140.4 GiB  37%  76 / 700 W  32 °C  off
1    -            -     -                -    -           -      -
";
    assert_eq!(text, expected.replace('@', &own));
    assert!(String::from_utf8_lossy(&shown.get_output().stderr).contains("NVIDIA device 1 cannot be asked"));

    let shown = json(&mut two("probe"));
    assert_eq!(shown["driver"]["version"], "570.26");
    assert_eq!(shown["driver"]["maximum"]["driver"], "12.8");
    let device = &shown["devices"][0];
    assert_eq!(device["memory_total_bytes"], 150_754_820_096_u64);
    assert_eq!(device["power_watts"], 75.5);
    assert_eq!(device["processes"][0]["pid"], 4242);
    assert_eq!(shown["devices"][1]["name"], Value::Null);
    assert_eq!(device["uuid"], "GPU-1234-0");
    two("check").assert().code(1);
}

#[test]
fn a_divided_device_shows_its_instances() {
    let root = container(WORKS);
    let nvml = nvml();
    let divided = |subcommand: &str| {
        let mut command = gpu(root.path(), subcommand, Some(nvml.path()));
        command.env("FAKE_DEVICES", "9.0,9.0").env("FAKE_MIG", "0");
        command
    };
    let shown = json(&mut divided("probe"));
    let instances = shown["devices"][0]["mig_instances"].as_array().unwrap();
    let seen: Vec<_> =
        instances.iter().map(|instance| (instance["uuid"].as_str(), instance["name"].as_str())).collect();
    let name = Some("NVIDIA H200 MIG 1g.18gb");
    assert_eq!(seen, [(Some("MIG-0"), name), (Some("MIG-1"), name)]);
    assert_eq!(instances[0]["memory_total_bytes"], 18_253_611_008_u64);
    assert_eq!(
        (&shown["devices"][0]["mig_enabled"], &shown["devices"][1]["mig_enabled"]),
        (&true.into(), &false.into())
    );
    assert_eq!(shown["devices"][1]["mig_instances"], serde_json::json!([]));
    let (out, _) = said(&divided("probe").assert().success());
    assert!(out.lines().any(|line| line.starts_with("0 ") && line.ends_with(" 2")), "{out}");
}

#[test]
fn a_driver_that_nvml_cannot_reach_is_noted_and_unhealthy_and_one_that_is_not_loaded_is_no_driver() {
    let root = container(WORKS);
    let nvml = nvml();
    let asked = |subcommand: &str, code: &str| {
        let mut command = gpu(root.path(), subcommand, Some(nvml.path()));
        command.env("FAKE_NVML", code);
        command
    };
    // 18: the library and the kernel's driver are of different versions.
    let shown = json(&mut asked("probe", "18"));
    assert!(shown["notes"][0].as_str().unwrap().starts_with("the NVIDIA driver cannot be asked: "), "{shown}");
    asked("check", "18").assert().code(1);
    // 9: the driver is not loaded.
    assert_eq!(json(&mut asked("probe", "9"))["notes"], serde_json::json!([]));
}

#[test]
fn health_is_driver_device_toolkit_and_no_failed_set_up() {
    let root = container(WORKS);
    toolkit(root.path(), "12.8", None);
    let nvml = nvml();
    let check = |devices: Option<&str>, code: i32| {
        let mut command = gpu(root.path(), "check", Some(nvml.path()));
        command.envs(devices.map(|devices| ("FAKE_DEVICES", devices)));
        said(&command.assert().code(code)).1
    };
    assert!(check(Some("9.0"), 1).contains("/usr/local/cuda leads to none of the toolkits"));
    gpu(root.path(), "apply", None).assert().success();
    assert_eq!(check(Some("9.0"), 0), "");
    assert!(check(None, 1).contains("there is an NVIDIA driver but no device"));
    fs::create_dir_all(root.path().join("run")).unwrap();
    fs::write(root.path().join("run/vast-cuda-config-failed"), "no room\n").unwrap();
    assert!(check(Some("9.0"), 1).contains("boot could not set up CUDA: no room"));
}

/// A file of a fake sysfs.
fn sys(root: &Path, path: &str, text: &str) {
    let path = root.join("sys/class").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn amd_devices_of_many_kinds_are_read_from_sysfs() {
    let root = tempfile::tempdir().unwrap();
    let card = |number: u32, files: &[(&str, &str)]| {
        sys(root.path(), &format!("drm/card{number}/device/vendor"), "0x1002\n");
        for (path, text) in files {
            sys(root.path(), &format!("drm/card{number}/device/{path}"), text);
        }
    };
    card(
        0,
        &[
            ("product_name", "AMD Instinct MI300X\n"),
            ("mem_info_vram_total", "206141652992\n"),
            ("mem_info_vram_used", "1073741824\n"),
            ("gpu_busy_percent", "5\n"),
            ("drm/renderD128/dev", ""),
            ("hwmon/hwmon4/power1_average", "135500000\n"),
            ("hwmon/hwmon4/power1_cap", "750000000\n"),
            ("hwmon/hwmon4/temp1_input", "-1500\n"),
        ],
    );
    // A newer chip that reports its input power, and has no name.
    card(
        2,
        &[
            ("product_name", "\n"),
            ("hwmon/hwmon0/power1_input", "90000000\n"),
            ("drm/renderD130/dev", ""),
            ("hwmon/hwmon0/temp1_input", "61000\n"),
        ],
    );
    // A container that was given little: no sensors, no memory, and values that are none.
    card(11, &[("gpu_busy_percent", "busy\n"), ("mem_info_vram_total", "-1\n"), ("uevent", "DRIVER=amdgpu\n")]);
    // Outputs, render nodes and other makers are no devices.
    sys(root.path(), "drm/card0-DP-1/device/vendor", "0x1002\n");
    sys(root.path(), "drm/renderD128/device/vendor", "0x1002\n");
    sys(root.path(), "drm/card3/device/vendor", "0x8086\n");
    sys(root.path(), "drm/version", "drm 1.1.0\n");
    for (node, properties) in [
        (0, "cpu_cores_count 96\ngfx_target_version 0\ndrm_render_minor 0\n"),
        (1, "gfx_target_version 90402\ndrm_render_minor 128\n"),
        (2, "gfx_target_version 120001\ndrm_render_minor 130\n"),
        (3, "drm_render_minor\n"),
    ] {
        sys(root.path(), &format!("kfd/kfd/topology/nodes/{node}/properties"), properties);
    }
    let empty = no_nvml();
    let shown = json(&mut gpu(root.path(), "probe", Some(empty.path())));
    let column = |name: &str| -> Vec<Value> {
        shown["devices"].as_array().unwrap().iter().map(|device| device[name].clone()).collect()
    };
    assert_eq!(Value::from(column("vendor")), serde_json::json!(["amd", "amd", "amd"]));
    assert_eq!(Value::from(column("name")), serde_json::json!(["AMD Instinct MI300X", null, null]));
    assert_eq!(Value::from(column("architecture")), serde_json::json!(["gfx942", "gfx1201", null]));
    assert_eq!(Value::from(column("power_watts")), serde_json::json!([135.5, 90.0, null]));
    assert_eq!(Value::from(column("temperature_celsius")), serde_json::json!([null, 61, null]));
    assert_eq!(Value::from(column("memory_total_bytes")), serde_json::json!([206_141_652_992_u64, null, null]));
    assert_eq!(Value::from(column("utilization_percent")), serde_json::json!([5, null, null]));
    assert_eq!((&shown["driver"], &shown["notes"]), (&Value::Null, &serde_json::json!([])));

    gpu(root.path(), "check", Some(empty.path())).assert().success().stderr("");
    gpu(root.path(), "plan", Some(empty.path())).assert().success().stdout("no NVIDIA driver: nothing to set up\n");
    let (out, error) = said(&gpu(root.path(), "torch-backend", Some(empty.path())).assert().code(2));
    assert!(out.is_empty() && error.contains("only AMD devices") && error.contains("hint: "), "{error}");
}

#[test]
fn devices_of_both_makers_are_listed_nvidias_first() {
    let root = container(WORKS);
    sys(root.path(), "drm/card0/device/vendor", "0x1002\n");
    let nvml = nvml();
    let shown = json(gpu(root.path(), "probe", Some(nvml.path())).env("FAKE_DEVICES", "8.6"));
    let seen: Vec<_> =
        shown["devices"].as_array().unwrap().iter().map(|device| (&device["vendor"], &device["index"])).collect();
    assert_eq!(seen, [(&"nvidia".into(), &0.into()), (&"amd".into(), &0.into())]);
}
