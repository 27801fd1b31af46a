//! One look at everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{cgroup, counters};

/// How busy the instance is at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The moment, in milliseconds since 1970.
    pub at_ms: u64,
    /// Processors.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Usage,
    /// The container's own disk, and the workspace where that is another file system.
    pub disks: Vec<Disk>,
    /// Network, loopback excluded.
    pub network: Network,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
}

/// Use of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cpu {
    /// Of the container's cores, 0 to 100.
    pub percent: f64,
    /// Cores that the container may use; a quota can be a fraction.
    pub cores: f64,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// In use.
    pub used_bytes: u64,
    /// What there is.
    pub total_bytes: u64,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Where it is mounted, as the user knows it.
    pub path: String,
    /// Its use.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Network {
    /// Received, in bytes per second.
    pub received_bytes_per_s: f64,
    /// Sent, in bytes per second.
    pub sent_bytes_per_s: f64,
}

/// One graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// How busy it is, 0 to 100; not every device tells.
    pub percent: Option<f64>,
    /// Its memory.
    pub memory: Usage,
    /// Its temperature in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// What it draws, in watts.
    pub power_w: Option<f64>,
}

/// Takes samples; keeps the counters of the last one.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    workspace: String,
    last: Option<Counters>,
}

#[derive(Debug, Clone, Copy)]
struct Counters {
    at: Instant,
    cpu_used_us: Option<u64>,
    ticks: Option<(u64, u64)>,
    network: (u64, u64),
}

impl Sampler {
    /// A sampler of the system below `root`. The first sample has no rates.
    #[must_use]
    pub fn new(root: &Path, workspace: &str) -> Self {
        Self { root: root.to_owned(), workspace: workspace.to_owned(), last: None }
    }

    /// Takes a sample; what cannot be read is zero.
    pub fn sample(&mut self, gpus: Vec<Gpu>) -> Sample {
        let proc = |name: &str| fs::read_to_string(self.root.join("proc").join(name)).unwrap_or_default();
        let now = Counters {
            at: Instant::now(),
            cpu_used_us: cgroup::cpu_used_us(&self.root),
            ticks: counters::cpu_ticks(&proc("stat")),
            network: counters::network(&proc("net/dev")),
        };
        let visible = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let cores = cgroup::cpu_quota_cores(&self.root).map_or(visible, |quota| quota.min(visible));
        let host = counters::memory(&proc("meminfo"));
        let total = |limit: Option<u64>| limit.into_iter().chain(host.map(|(_, total)| total)).min();
        let (used_bytes, total_bytes) = match cgroup::memory(&self.root) {
            Some((used, limit)) => (used, total(limit).unwrap_or(used)),
            None => host.unwrap_or_default(),
        };
        let memory = Usage { used_bytes, total_bytes };
        let since = self.last.map(|last| (last, now.at.duration_since(last.at)));
        let sample = Sample {
            at_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            cpu: Cpu { percent: since.map_or(0.0, |(last, passed)| cpu_percent(&last, &now, passed, cores)), cores },
            memory,
            disks: self.disks(),
            network: since.map_or(Network { received_bytes_per_s: 0.0, sent_bytes_per_s: 0.0 }, |(last, passed)| {
                let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / passed.as_secs_f64().max(0.001);
                Network {
                    received_bytes_per_s: rate(last.network.0, now.network.0),
                    sent_bytes_per_s: rate(last.network.1, now.network.1),
                }
            }),
            gpus,
        };
        self.last = Some(now);
        sample
    }

    fn disks(&self) -> Vec<Disk> {
        let at = |path: &str| {
            let place = self.root.join(path.trim_start_matches('/'));
            let device = rustix::fs::stat(&place).ok()?.st_dev;
            let stat = rustix::fs::statvfs(&place).ok()?;
            let total_bytes = stat.f_blocks * stat.f_frsize;
            let usage = Usage { used_bytes: total_bytes.saturating_sub(stat.f_bavail * stat.f_frsize), total_bytes };
            (total_bytes > 0).then(|| (device, Disk { path: path.to_owned(), usage }))
        };
        let mut disks: Vec<_> = ["/", &self.workspace].into_iter().filter_map(at).collect();
        disks.dedup_by_key(|(device, _)| *device);
        disks.into_iter().map(|(_, disk)| disk).collect()
    }
}

/// Of the container's cores, where its cgroup counts its time; else of all of the machine's.
fn cpu_percent(last: &Counters, now: &Counters, passed: Duration, cores: f64) -> f64 {
    let percent = match (last.cpu_used_us, now.cpu_used_us, last.ticks, now.ticks) {
        (Some(before), Some(after), ..) => {
            let available = passed.as_secs_f64() * 1e6 * cores;
            after.saturating_sub(before) as f64 / available.max(1.0) * 100.0
        }
        (_, _, Some((busy_before, total_before)), Some((busy, total))) => {
            busy.saturating_sub(busy_before) as f64 / (total.saturating_sub(total_before) as f64).max(1.0) * 100.0
        }
        _ => 0.0,
    };
    percent.clamp(0.0, 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_system_has_plausible_numbers() {
        let mut sampler = Sampler::new(Path::new("/"), "/");
        sampler.sample(Vec::new());
        let sample = sampler.sample(Vec::new());
        assert!(sample.cpu.cores > 0.0 && (0.0..=100.0).contains(&sample.cpu.percent));
        assert!(sample.memory.used_bytes > 0 && sample.memory.used_bytes <= sample.memory.total_bytes);
        assert_eq!(sample.disks.len(), 1, "the workspace on the same disk is not another disk");
    }

    #[test]
    fn a_root_without_anything_gives_zeros() {
        let root = tempfile::tempdir().unwrap();
        let sample = Sampler::new(root.path(), "/workspace").sample(Vec::new());
        assert_eq!((sample.memory.total_bytes, sample.network.sent_bytes_per_s), (0, 0.0));
    }

    #[test]
    fn percent_is_of_the_containers_cores() {
        let at = Instant::now();
        let counters = |cpu_used_us, ticks| Counters { at, cpu_used_us, ticks, network: (0, 0) };
        let second = Duration::from_secs(1);
        let quota = cpu_percent(&counters(Some(0), None), &counters(Some(500_000), None), second, 0.5);
        assert!((quota - 100.0).abs() < 0.01, "{quota}");
        let machine = cpu_percent(&counters(None, Some((0, 0))), &counters(None, Some((25, 100))), second, 8.0);
        assert!((machine - 25.0).abs() < 0.01, "{machine}");
    }
}
