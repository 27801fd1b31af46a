//! The memory of a boot that waits for Supervisor.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::system::System;

/// A boot that is not up by then will not be.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes that are resident.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) first: u64,
    pub(super) sequence: u64,
    /// Of both, what would be free without them: the program's own pages, which each counts whole, are shared.
    pub(super) private: u64,
}

impl Waiting {
    pub(super) fn sum(&self) -> u64 {
        self.first + self.sequence
    }
}

/// Boots with a Supervisor that stays, and looks when the boot is up.
pub(super) fn measure(system: &System) -> Result<Waiting> {
    system.supervisor_stays()?;
    let mut boot = system.boot();
    let mut child = boot.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start the boot")?;
    let looked = look(system, &mut child);
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    child.wait().context("cannot wait for the boot")?;
    looked
}

fn look(system: &System, child: &mut Child) -> Result<Waiting> {
    let deadline = Instant::now() + PATIENCE;
    let first = child.id();
    let sequence = loop {
        let up = system.record().is_ok_and(|record| record["phase"] == "up" && record["pid"].as_u64().is_some());
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        if let (true, Some(sequence)) = (up, children.split_ascii_whitespace().next()) {
            let sequence: u32 = sequence.parse().context("a process id that is none")?;
            // The record of the boot before says that it was up, too.
            if system.record()?["pid"] == sequence {
                break sequence;
            }
        }
        if child.try_wait().context("cannot look at the boot")?.is_some() || Instant::now() >= deadline {
            bail!("the boot did not come up");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // It is the long wait that is promised something, not its first moments.
    std::thread::sleep(Duration::from_secs(5));
    Ok(Waiting {
        first: kilobytes(first, "status", &["VmRSS"])?,
        sequence: kilobytes(sequence, "status", &["VmRSS"])?,
        private: [first, sequence]
            .into_iter()
            .map(|pid| kilobytes(pid, "smaps_rollup", &["Private_Clean", "Private_Dirty"]))
            .sum::<Result<u64>>()?,
    })
}

/// The sum of these lines of a file of the kernel about a process, in bytes.
fn kilobytes(pid: u32, file: &str, names: &[&str]) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        number.with_context(|| format!("`{path}` has no {name}"))
    };
    Ok(names.iter().map(|name| of(name)).sum::<Result<u64>>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_s_own_memory_is_read_in_bytes() {
        let resident = kilobytes(std::process::id(), "status", &["VmRSS"]).unwrap();
        assert!(resident > 1 << 20 && resident.is_multiple_of(1024), "{resident}");
        let private = kilobytes(std::process::id(), "smaps_rollup", &["Private_Clean", "Private_Dirty"]).unwrap();
        assert!((1..=resident).contains(&private), "{private} of {resident}");
        assert!(kilobytes(std::process::id(), "status", &["Nothing"]).is_err());
    }
}
