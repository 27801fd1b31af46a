//! Real devices: what `vast-gpu` says of them against what `nvidia-smi` says, field by field.
//!
//! `recorded/` keeps what `record.sh` wrote on machines with a device; a machine that has one compares anew:
//! `cargo nextest run -p vast-cli --run-ignored only -E 'test(hardware)'`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::container::VAST_GPU;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/recorded");

/// What nvidia-smi writes where a device has no such thing.
const ABSENT: &str = "[N/A]";

/// Measurements of two moments differ by more than the moments between them show: the chip samples.
const SLACK: f64 = 0.1;

#[test]
fn what_was_recorded_of_real_devices_is_what_nvidia_smi_said() {
    let machines: Vec<PathBuf> =
        fs::read_dir(RECORDED).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    assert!(!machines.is_empty());
    for machine in machines {
        compare(&machine);
    }
}

#[test]
#[ignore = "needs an NVIDIA device"]
fn hardware_says_what_nvidia_smi_says() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Path::new(RECORDED).join("record.sh");
    let done = Command::new("sh").arg(recorder).arg(VAST_GPU).arg(directory.path()).status().unwrap();
    assert!(done.success());
    compare(directory.path());
}

fn compare(machine: &Path) {
    let text = |name: &str| fs::read_to_string(machine.join(name)).unwrap();
    let probe: Value = serde_json::from_str(&text("probe.json")).unwrap();
    let devices = probe["devices"].as_array().unwrap();
    let place = machine.display();
    let [fixed, before, after, processes] =
        ["fixed.csv", "before.csv", "after.csv", "processes.csv"].map(|name| rows(&text(name)));
    assert!(!fixed.is_empty(), "{place}");
    assert_eq!(devices.len(), fixed.len(), "{place}");
    for (index, (device, row)) in devices.iter().zip(&fixed).enumerate() {
        identity(device, row, &probe, &format!("{place}, device {index}"));
        measurements(device, &before[index], &after[index], &format!("{place}, device {index}"));
        computing(device, &processes, &format!("{place}, device {index}"));
    }
    driver(&probe, &text("kernel.txt"), &text("cuda.txt"), &place.to_string());
    assert_eq!(text("init.txt"), "it starts\n", "{place}");
    let library = probe["driver"]["library"].as_str().unwrap();
    let maximum = probe["driver"]["maximum"]["driver"].as_str().unwrap();
    let version = text("version.txt");
    // The loader may know the same file by another path.
    let (said, by) = version.trim().split_once(' ').unwrap();
    assert_eq!(said, maximum, "{place}");
    assert_eq!(Path::new(by).file_name(), Path::new(library).file_name(), "{place}");
    let device = devices[0]["architecture"].as_str().unwrap();
    assert!(text("probe.txt").lines().any(|line| line.starts_with("0 ") && line.contains(device)), "{place}");
    toolkit(&probe, &text("plan.json"), &text("torch-backend.txt"), &place.to_string());
}

/// The machines so far have a toolkit that their driver supports.
fn toolkit(probe: &Value, plan: &str, backend: &str, place: &str) {
    let plan: Value = serde_json::from_str(plan).unwrap();
    assert_eq!((&plan["choice"]["native"], &plan["failure"]), (&probe["current"], &Value::Null), "{place}");
    let current = probe["current"].as_str().unwrap();
    assert_eq!(backend.trim(), format!("cu{}", current.replace('.', "")), "{place}");
}

/// What does not change.
fn identity(device: &Value, row: &[String], probe: &Value, place: &str) {
    let [index, name, uuid, bus, capability, driver, mig, total, limit] = row else { panic!("{place}: {row:?}") };
    assert_eq!(device["vendor"], "nvidia", "{place}");
    assert_eq!(device["index"].to_string(), *index, "{place}");
    for (key, expected) in [("name", name), ("uuid", uuid), ("architecture", capability)] {
        assert_eq!(device[key], **expected, "{place}: {key}");
    }
    assert_eq!(device["pci_bus_id"].as_str().map(str::to_uppercase), Some(bus.to_uppercase()), "{place}");
    assert_eq!(probe["driver"]["version"], **driver, "{place}");
    let divided = match mig.as_str() {
        "Enabled" => json!(true),
        "Disabled" => json!(false),
        _ => Value::Null,
    };
    assert_eq!(device["mig_enabled"], divided, "{place}");
    assert_eq!((device["memory_total_bytes"].as_u64().unwrap() >> 20).to_string(), *total, "{place}");
    let limit = (*limit != ABSENT).then(|| limit.parse::<f64>().unwrap());
    assert_eq!(device["power_limit_watts"].as_f64(), limit, "{place}");
}

/// What changes from moment to moment lies between the moments before and after.
fn measurements(device: &Value, before: &[String], after: &[String], place: &str) {
    let number = |text: &str| text.parse::<f64>().ok();
    let between = |value: f64, columns: &[usize], what: &str| {
        let around: Vec<f64> =
            columns.iter().flat_map(|&column| [number(&before[column]), number(&after[column])]).flatten().collect();
        let least = around.iter().copied().fold(f64::INFINITY, f64::min);
        let most = around.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!(
            value >= least * (1.0 - SLACK) - 1.0 && value <= most * (1.0 + SLACK) + 1.0,
            "{place}: {what} {value} is not between {least} and {most}"
        );
    };
    let used = device["memory_used_bytes"].as_u64().unwrap() >> 20;
    between(f64::from(u32::try_from(used).unwrap()), &[0], "memory");
    between(device["utilization_percent"].as_f64().unwrap(), &[1], "utilization");
    between(device["power_watts"].as_f64().unwrap(), &[2, 3], "power");
    between(device["temperature_celsius"].as_f64().unwrap(), &[4], "temperature");
}

/// Who computes on the device, and in how much of its memory.
fn computing(device: &Value, processes: &[Vec<String>], place: &str) {
    let mut expected: Vec<(String, Option<u64>)> = processes
        .iter()
        .filter(|row| device["uuid"] == *row[0])
        .map(|row| (row[1].clone(), row[2].parse().ok()))
        .collect();
    let mut said: Vec<(String, Option<u64>)> = device["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| (process["pid"].to_string(), process["memory_used_bytes"].as_u64().map(|bytes| bytes >> 20)))
        .collect();
    expected.sort();
    said.sort();
    assert_eq!(said, expected, "{place}");
}

/// The driver's own CUDA version, as its tool prints it under either of the names it has had.
fn driver(probe: &Value, kernel: &str, cuda: &str, place: &str) {
    let version = probe["driver"]["version"].as_str().unwrap();
    assert!(kernel.split_whitespace().any(|word| word == version), "{place}: {kernel}");
    let said = cuda.split(':').next_back().unwrap().trim();
    assert_eq!(probe["driver"]["maximum"]["driver"], said, "{place}");
    assert_eq!(probe["notes"], json!([]), "{place}");
}

fn rows(csv: &str) -> Vec<Vec<String>> {
    csv.lines().map(|line| line.split(',').map(|cell| cell.trim().to_owned()).collect()).collect()
}
