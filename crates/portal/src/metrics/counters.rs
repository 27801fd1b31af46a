//! The machine's counters in `/proc`.

/// Busy and total time of all CPUs together, in ticks, from `/proc/stat`.
pub(super) fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is already in user.
    let total: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.get(3)? + ticks.get(4).copied().unwrap_or_default();
    Some((total - idle, total))
}

/// Used and total memory in bytes, from `/proc/meminfo`.
pub(super) fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    let total = bytes("MemTotal")?;
    Some((total.saturating_sub(bytes("MemAvailable")?), total))
}

/// Received and sent bytes of all interfaces but loopback, from `/proc/net/dev`.
pub(super) fn network(dev: &str) -> (u64, u64) {
    dev.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(_, numbers)| {
            let numbers: Vec<u64> = numbers.split_whitespace().map_while(|field| field.parse().ok()).collect();
            Some((*numbers.first()?, *numbers.get(8)?))
        })
        .fold((0, 0), |(received, sent), (more_received, more_sent)| (received + more_received, sent + more_sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_ticks("cpu  100 5 20 800 50 1 2 3 40 0\ncpu0 1 1\n"), Some((131, 981)));
        assert_eq!(
            memory("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    400 kB\n"),
            Some((614_400, 1_024_000))
        );
        let dev = "Inter-|   Receive                |  Transmit\n face |bytes    packets\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  \
                   eth0: 100 1 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n  eth1:7 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n";
        assert_eq!(network(dev), (107, 53));
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!((cpu_ticks("cpu  x"), memory("MemTotal: x kB"), network("a: b")), (None, None, (0, 0)));
    }
}
