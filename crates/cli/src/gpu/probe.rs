//! `vast-gpu probe`: what there is.

use serde::Serialize;
use vast_gpu::CudaVersion;
use vast_gpu::cuda::Driver;
use vast_gpu::probe::{Device, Prober};
use vast_gpu::toolkit::Toolkit;

use super::{PROGRAM, end, facts, print_json};
use crate::instance::{Root, environment};
use crate::report::Exit;
use crate::table;

/// Show devices, driver and CUDA toolkits
///
/// No GPU is a normal answer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    root: Root,
}

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    /// The NVIDIA driver of this container.
    driver: Option<Driver>,
    toolkits: Vec<Toolkit>,
    /// The toolkit that `/usr/local/cuda` leads to.
    current: Option<CudaVersion>,
    devices: Vec<Device>,
    notes: Vec<String>,
}

pub(super) fn run(args: &Args) -> Exit {
    end(try_run(args))
}

fn try_run(args: &Args) -> Result<Exit, Exit> {
    let root = &args.root.root;
    let facts = facts(root, &environment())?;
    let probe = Prober::open(root).probe();
    let shown = Shown {
        driver: facts.driver,
        toolkits: facts.toolkits,
        current: facts.current,
        devices: probe.devices,
        notes: facts.notes.into_iter().chain(probe.notes).collect(),
    };
    if args.json {
        return Ok(print_json(&shown));
    }
    println!("{}", driver_line(shown.driver.as_ref()));
    println!("{}", toolkit_line(&shown.toolkits, shown.current));
    if shown.devices.is_empty() {
        println!("GPUs:     none");
    } else {
        println!();
        for line in table(&shown.devices) {
            println!("{line}");
        }
    }
    for note in &shown.notes {
        eprintln!("{PROGRAM}: note: {note}");
    }
    Ok(Exit::Success)
}

fn driver_line(driver: Option<&Driver>) -> String {
    let Some(driver) = driver else { return "Driver:   none".to_owned() };
    let version = driver.version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    match (&driver.maximum, driver.maximum.version()) {
        (_, Some(maximum)) => {
            let said_by = driver.library.as_ref().map(|library| format!(", says {}", library.display()));
            format!("Driver:   NVIDIA {version}, up to CUDA {maximum}{}", said_by.unwrap_or_default())
        }
        (maximum, None) => format!("Driver:   NVIDIA {version}, CUDA version unknown ({maximum})"),
    }
}

fn toolkit_line(toolkits: &[Toolkit], current: Option<CudaVersion>) -> String {
    let names = toolkits.iter().map(|toolkit| {
        let compat = if toolkit.compat.is_some() { "+compat" } else { "" };
        let used = if current == Some(toolkit.version) { " (in use)" } else { "" };
        format!("{}{compat}{used}", toolkit.version)
    });
    let names: Vec<String> = names.collect();
    format!("Toolkits: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}

fn table(devices: &[Device]) -> Vec<String> {
    let heads = ["GPU", "NAME", "ARCH", "MEMORY", "USE", "POWER", "TEMP", "MIG"].map(str::to_owned);
    let rows = devices.iter().map(|device| {
        let watts = |watts: Option<f64>| watts.map(|watts| format!("{watts:.0}"));
        [
            Some(device.index.to_string()),
            device.name.clone(),
            device.architecture.clone(),
            pair(device.memory_used_bytes.map(gib), device.memory_total_bytes.map(gib), "GiB"),
            device.utilization_percent.map(|percent| format!("{percent}%")),
            pair(watts(device.power_watts), watts(device.power_limit_watts), "W"),
            device.temperature_celsius.map(|celsius| format!("{celsius} °C")),
            device.mig_enabled.map(|on| if on { device.mig_instances.len().to_string() } else { "off".to_owned() }),
        ]
        .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
    });
    table::lines(std::iter::once(heads).chain(rows))
}

/// `used / limit unit`, as far as it is known.
fn pair(used: Option<String>, limit: Option<String>, unit: &str) -> Option<String> {
    match (used, limit) {
        (Some(used), Some(limit)) => Some(format!("{used} / {limit} {unit}")),
        (one, other) => Some(format!("{} {unit}", one.or(other)?)),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}
