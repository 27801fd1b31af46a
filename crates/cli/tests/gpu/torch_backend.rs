//! The name of `PyTorch`'s backend, for every toolkit and device of the tables.

use std::fs;
use std::os::unix::fs::symlink;

use crate::container::{container, gpu, said, toolkit};
use crate::libraries::{NVML, WORKS, library};

const TOOLKITS: [&str; 15] = [
    "11.7", "11.8", "12.0", "12.1", "12.2", "12.3", "12.4", "12.5", "12.6", "12.8", "12.9", "13.0", "13.1", "13.2",
    "13.3",
];

/// Devices by their compute capabilities, and the backend with each of these toolkits; `-` where there is none.
const TABLE: [(&str, &str, [&str; 15]); 14] = [
    (
        "none that can be asked",
        "",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu130",
            "cu130", "cu130", "cu130",
        ],
    ),
    (
        "GTX 1080 Ti",
        "6.1",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu126", "cu126", "cu126",
            "cu126", "cu126", "cu126",
        ],
    ),
    (
        "V100",
        "7.0",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu129",
            "cu129", "cu129", "cu129",
        ],
    ),
    (
        "Xavier",
        "7.2",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu129",
            "cu129", "cu129", "cu129",
        ],
    ),
    (
        "T4",
        "7.5",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu130",
            "cu130", "cu130", "cu130",
        ],
    ),
    (
        "A100",
        "8.0",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu130",
            "cu130", "cu130", "cu130",
        ],
    ),
    (
        "RTX 4090",
        "8.9",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu130",
            "cu130", "cu130", "cu130",
        ],
    ),
    (
        "H100",
        "9.0",
        [
            "-", "cu118", "cu118", "cu121", "cu121", "cu121", "cu124", "cu124", "cu126", "cu128", "cu129", "cu130",
            "cu130", "cu130", "cu130",
        ],
    ),
    (
        "B200",
        "10.0",
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "cu128", "cu129", "cu130", "cu130", "cu130", "cu130"],
    ),
    (
        "B300",
        "10.3",
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "cu128", "cu129", "cu130", "cu130", "cu130", "cu130"],
    ),
    ("Thor", "11.0", ["-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "cu130", "cu130", "cu130", "cu130"]),
    (
        "RTX 5090",
        "12.0",
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "cu128", "cu129", "cu130", "cu130", "cu130", "cu130"],
    ),
    (
        "GB10",
        "12.1",
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "cu128", "cu129", "cu130", "cu130", "cu130", "cu130"],
    ),
    (
        "two that no build has both of",
        "6.1,12.0",
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"],
    ),
];

#[test]
fn each_toolkit_and_device_has_its_backend_or_a_clear_reason_why_not() {
    let root = container(WORKS);
    let nvml = tempfile::tempdir().unwrap();
    library(&nvml.path().join("libnvidia-ml.so.1"), NVML, &[]);
    for (column, version) in TOOLKITS.into_iter().enumerate() {
        toolkit(root.path(), version, None);
        let link = root.path().join("usr/local/cuda");
        let _ = fs::remove_file(&link);
        symlink(format!("/usr/local/cuda-{version}"), &link).unwrap();
        for (name, devices, row) in TABLE {
            let mut command = gpu(root.path(), "torch-backend", Some(nvml.path()));
            if !devices.is_empty() {
                command.env("FAKE_DEVICES", devices);
            }
            if row[column] != "-" {
                command.assert().success().stdout(format!("{}\n", row[column])).stderr("");
                continue;
            }
            let (out, error) = said(&command.assert().code(2));
            assert_eq!(out, "", "{name} with CUDA {version}");
            let reason = match (version, devices) {
                ("11.7", _) => "CUDA 11.7 is in use, and the oldest one with builds is 11.8".to_owned(),
                (_, "6.1,12.0") if column >= 9 => {
                    format!("none up to CUDA {version} runs on all of these devices, of compute capability 6.1, 12.0")
                }
                (_, "6.1,12.0") => format!(
                    "a device of compute capability 12.0 needs CUDA 12.8 or newer, and CUDA {version} is in use"
                ),
                (_, device) => {
                    let first = if device == "11.0" { "13.0" } else { "12.8" };
                    format!(
                        "a device of compute capability {device} needs CUDA {first} or newer, and CUDA {version} is in use"
                    )
                }
            };
            assert!(error.contains(&reason) && error.contains("hint: "), "{name} with CUDA {version}: {error}");
        }
    }
}

#[test]
fn without_a_toolkit_in_use_the_driver_decides_and_nothing_is_called_auto() {
    let root = container(WORKS);
    toolkit(root.path(), "12.6", None);
    gpu(root.path(), "torch-backend", None).assert().success().stdout("cu128\n");
    gpu(root.path(), "torch-backend", None).env("VAST_CUDA_MAX_OVERRIDE", "12.4").assert().success().stdout("cu124\n");
    symlink("/usr/local/cuda-12.6", root.path().join("usr/local/cuda")).unwrap();
    gpu(root.path(), "torch-backend", None).assert().success().stdout("cu126\n");
}
