//! The kernel's files: `/proc/self` and the cgroup of the calling process, version 1 or 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

const CGROUPS: &str = "sys/fs/cgroup";

/// The CPUs that the process may run on, which thread pools count; else the CPUs that are online.
pub(super) fn visible_cpus(root: &Path) -> Result<u32, Error> {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(cpu_count);
    if let Some(cpus) = allowed {
        return Ok(cpus);
    }
    let path = root.join("sys/devices/system/cpu/online");
    let online = fs::read_to_string(&path).map_err(Error::read(&path))?;
    cpu_count(&online).ok_or_else(|| Error::read(&path)(io::Error::other("not a list of CPUs")))
}

/// The number of CPUs in a list such as `0-3,8,10-11`.
fn cpu_count(list: &str) -> Option<u32> {
    let range = |range: &str| -> Option<u32> {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<u32>().ok();
        number(high)?.checked_sub(number(low)?)?.checked_add(1)
    };
    list.trim().split(',').map(range).try_fold(0_u32, |sum, cpus| sum.checked_add(cpus?)).filter(|&cpus| cpus > 0)
}

/// The smallest limit of processes on the way to the process's group.
pub(super) fn pids_max(root: &Path) -> Option<u64> {
    let groups = groups(root, "pids");
    groups.iter().filter_map(|group| read(group, "pids.max")?.trim().parse().ok()).min()
}

/// The smallest quota on the way to the process's group, in cores.
pub(super) fn quota_cores(root: &Path) -> Option<f64> {
    let groups = groups(root, "cpu");
    groups.iter().filter_map(|group| version_2(group).or_else(|| version_1(group))).min_by(f64::total_cmp)
}

/// `cpu.max` is `<quota> <period>` in microseconds, or `max <period>`.
fn version_2(group: &Path) -> Option<f64> {
    let text = read(group, "cpu.max")?;
    let (quota, period) = text.trim().split_once(' ')?;
    cores(quota, period)
}

/// A quota of -1 is none.
fn version_1(group: &Path) -> Option<f64> {
    cores(&read(group, "cpu.cfs_quota_us")?, &read(group, "cpu.cfs_period_us")?)
}

fn cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn read(group: &Path, name: &str) -> Option<String> {
    fs::read_to_string(group.join(name)).ok()
}

/// The directories of a controller's groups from the root of what is mounted to the process's own.
///
/// A container usually sees its own group as the root; then only the first exists.
fn groups(root: &Path, controller: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        // `5:cpu,cpuacct:/docker/1f…` in version 1, `0::/docker/1f…` in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            groups.extend(chain(&root.join(CGROUPS), path));
        } else if controllers.split(',').any(|name| name == controller) {
            // Mounted under the joint name, and linked to from each.
            groups
                .extend([controllers, controller].iter().flat_map(|name| chain(&root.join(CGROUPS).join(name), path)));
        }
    }
    if groups.is_empty() {
        groups.extend([root.join(CGROUPS), root.join(CGROUPS).join(controller)]);
    }
    groups
}

/// A mount point and every directory from there down to `path`.
fn chain(mount: &Path, path: &str) -> Vec<PathBuf> {
    let mut directory = mount.to_owned();
    let mut chain = vec![directory.clone()];
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "..") {
        directory.push(part);
        chain.push(directory.clone());
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("\t0-255", Some(256)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-1", None),
            ("a", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(cpu_count(list), expected, "{list:?}");
        }
    }
}
