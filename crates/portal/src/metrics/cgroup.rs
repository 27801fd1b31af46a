//! The container's own limits and use, from cgroup v2, else v1.
//!
//! Inside a container the cgroup file system shows the container's group at its root, which is where this looks.

use std::fs;
use std::path::Path;

/// v1 writes "no limit" as a number near 2^63; nobody has that much memory.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// What the container may use of the CPUs, in cores; `None` without a quota.
pub(super) fn cpu_quota_cores(root: &Path) -> Option<f64> {
    let cgroup = root.join("sys/fs/cgroup");
    if let Some(text) = read(&cgroup.join("cpu.max")) {
        let (quota, period) = text.trim().split_once(' ')?;
        return ratio(quota, period);
    }
    let v1 = |name: &str| read(&cgroup.join("cpu").join(name));
    ratio(v1("cpu.cfs_quota_us")?.trim(), v1("cpu.cfs_period_us")?.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// CPU time used since the container's start, in microseconds.
pub(super) fn cpu_used_us(root: &Path) -> Option<u64> {
    let cgroup = root.join("sys/fs/cgroup");
    if let Some(text) = read(&cgroup.join("cpu.stat"))
        && let Some(used) = field(&text, "usage_usec")
    {
        return Some(used);
    }
    let v1 = read(&cgroup.join("cpuacct/cpuacct.usage"))?;
    Some(v1.trim().parse::<u64>().ok()? / 1000)
}

/// Memory in use and its limit, in bytes. The page cache that would go first is not in use.
pub(super) fn memory(root: &Path) -> Option<(u64, Option<u64>)> {
    let cgroup = root.join("sys/fs/cgroup");
    let number = |path: &Path| read(path)?.trim().parse::<u64>().ok();
    let (used, limit, stat, inactive) = if let Some(used) = number(&cgroup.join("memory.current")) {
        (used, number(&cgroup.join("memory.max")), read(&cgroup.join("memory.stat")), "inactive_file")
    } else {
        let v1 = cgroup.join("memory");
        let used = number(&v1.join("memory.usage_in_bytes"))?;
        (used, number(&v1.join("memory.limit_in_bytes")), read(&v1.join("memory.stat")), "total_inactive_file")
    };
    let cache = stat.and_then(|text| field(&text, inactive)).unwrap_or_default();
    Some((used.saturating_sub(cache), limit.filter(|limit| *limit < NO_LIMIT_BYTES)))
}

/// The number after a name, in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join("sys/fs/cgroup").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn both_versions_give_the_same_answers() {
        let v2 = root(&[
            ("cpu.max", "250000 100000\n"),
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "4000\n"),
            ("memory.stat", "anon 1\ninactive_file 300\nfile 9\n"),
        ]);
        let v1 = root(&[
            ("cpu/cpu.cfs_quota_us", "250000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpuacct/cpuacct.usage", "1500999\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.limit_in_bytes", "4000\n"),
            ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
        ]);
        for root in [v2, v1] {
            assert_eq!(cpu_quota_cores(root.path()), Some(2.5));
            assert_eq!(cpu_used_us(root.path()), Some(1500));
            assert_eq!(memory(root.path()), Some((700, Some(4000))));
        }
    }

    #[test]
    fn no_limit_is_no_limit() {
        let v2 = root(&[("cpu.max", "max 100000\n"), ("memory.current", "1000\n"), ("memory.max", "max\n")]);
        let v1 = root(&[
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        for root in [v2, v1] {
            assert_eq!(cpu_quota_cores(root.path()), None);
            assert_eq!(memory(root.path()), Some((1000, None)));
        }
        let nothing = root(&[]);
        assert_eq!((memory(nothing.path()), cpu_used_us(nothing.path())), (None, None));
    }
}
