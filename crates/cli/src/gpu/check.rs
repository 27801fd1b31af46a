//! `vast-gpu check`: is everything as it should be?

use std::fs;
use std::path::Path;

use vast_gpu::cuda::{FAILED_MARKER, Facts};
use vast_gpu::probe::{Probe, Prober, Vendor};

use super::{PROGRAM, end, facts};
use crate::instance::{Root, environment};
use crate::report::Exit;

/// Tell whether driver, devices and toolkit are healthy: 0 yes, 1 no
///
/// A container without a GPU is healthy.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    root: Root,
}

pub(super) fn run(args: &Args) -> Exit {
    end(try_run(args))
}

fn try_run(args: &Args) -> Result<Exit, Exit> {
    let root = &args.root.root;
    let facts = facts(root, &environment())?;
    let findings = findings(root, &facts, &Prober::open(root).probe());
    for finding in &findings {
        eprintln!("{PROGRAM}: {finding}");
    }
    Ok(if findings.is_empty() { Exit::Success } else { Exit::No })
}

fn findings(root: &Path, facts: &Facts, probe: &Probe) -> Vec<String> {
    let mut findings = probe.notes.clone();
    let marker = root.join(FAILED_MARKER.trim_start_matches('/'));
    findings.extend(fs::read_to_string(marker).ok().map(|text| format!("boot could not set up CUDA: {}", text.trim())));
    let Some(driver) = &facts.driver else { return findings };
    if driver.maximum.version().is_none() {
        findings.push(format!("the driver's CUDA version is unknown: {}", driver.maximum));
    }
    if !probe.devices.iter().any(|device| device.vendor == Vendor::Nvidia) {
        findings.push("there is an NVIDIA driver but no device".to_owned());
    }
    if facts.current.is_none() && !facts.toolkits.is_empty() {
        findings.push("/usr/local/cuda leads to none of the toolkits".to_owned());
    }
    findings
}
