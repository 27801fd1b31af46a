//! Memory and processes of the container, against its limits.

use std::fs;

use super::{Area, Finding, Look, Severity, disk};

/// Above this share of a limit, in hundredths, the next program fails.
const FULL_PERCENT: u64 = 97;

/// Above this share of a limit, in hundredths, it is worth a word.
const HIGH_PERCENT: u64 = 90;

/// Where the container's own cgroup is mounted, in version 2.
pub(super) const CGROUP: &str = "/sys/fs/cgroup";

/// What is known of the limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Bytes in use (without what the kernel can drop at once), if there is a limit.
    pub memory: Option<Share>,
    /// Processes and threads, if there is a limit.
    pub pids: Option<Share>,
    /// How many processes the kernel has killed because the container's memory was used up.
    pub killed: u64,
}

/// What is used of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How much is used.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}

impl Share {
    fn percent(self) -> u64 {
        self.used.saturating_mul(100) / self.limit.max(1)
    }
}

impl Facts {
    pub(super) fn summary(&self) -> String {
        let share = |share: Option<Share>, name: &str, shown: fn(u64) -> String| {
            share.map(|share| format!("{name} {} of {}", shown(share.used), shown(share.limit)))
        };
        let memory = share(self.memory, "memory", disk::size);
        let known: Vec<String> =
            memory.into_iter().chain(share(self.pids, "processes", |count| count.to_string())).collect();
        if known.is_empty() { "none known".to_owned() } else { known.join(", ") }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let read = |file: &str| fs::read_to_string(look.root.join(CGROUP).join(file)).ok();
    // Version 2 has one directory, version 1 one for each controller.
    let number = |files: [&str; 2]| files.iter().find_map(|file| read(file)?.trim().parse::<u64>().ok());
    let field = |files: [&str; 2], name: &str| {
        files.iter().find_map(|file| {
            let text = read(file)?;
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        })
    };
    // Version 1 says "no limit" with a number beyond any machine.
    let limit = |files| number(files).filter(|limit| *limit < 1 << 60);
    let cache = field(["memory.stat", "memory/memory.stat"], "inactive_file ").unwrap_or(0);
    let share = |used: Option<u64>, limit: Option<u64>| Some(Share { used: used?, limit: limit? });
    Facts {
        memory: share(
            number(["memory.current", "memory/memory.usage_in_bytes"]).map(|used| used.saturating_sub(cache)),
            limit(["memory.max", "memory/memory.limit_in_bytes"]),
        ),
        pids: share(number(["pids.current", "pids/pids.current"]), limit(["pids.max", "pids/pids.max"])),
        killed: field(["memory.events", "memory/memory.oom_control"], "oom_kill ").unwrap_or(0),
    }
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.limits;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Limits, severity, what, remedy);
    let severity = |share: Share| match share.percent() {
        FULL_PERCENT.. => Some(Severity::Problem),
        HIGH_PERCENT.. => Some(Severity::Warning),
        _ => None,
    };
    let mut findings = Vec::new();
    if let Some((share, severity)) = facts.memory.and_then(|share| Some((share, severity(share)?))) {
        let what = format!("{} of {} memory in use", disk::size(share.used), disk::size(share.limit));
        let remedy = "`ps axo pid,rss,args --sort -rss | head` shows what takes it; stop that, or rent more memory";
        findings.push(tell(severity, what, remedy));
    }
    if let Some((share, severity)) = facts.pids.and_then(|share| Some((share, severity(share)?))) {
        let what = format!("{} of {} processes and threads in use; programs fail to start", share.used, share.limit);
        let remedy = "`ps axo pid,nlwp,args --sort -nlwp | head` shows who has them; set OMP_NUM_THREADS and the like, or stop what is not needed";
        findings.push(tell(severity, what, remedy));
    }
    if facts.killed > 0 {
        let what = format!("the kernel has killed processes because the memory was used up ({})", facts.killed);
        let remedy = "load a smaller model or fewer workers, or rent more memory; `dmesg | grep -i oom` may name what was killed";
        findings.push(tell(Severity::Warning, what, remedy));
    }
    findings
}
