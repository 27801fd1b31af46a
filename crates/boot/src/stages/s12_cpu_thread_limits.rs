//! Stage 12: thread pools that fit the container.

use vast_gpu::cpu_limits;

use crate::error::Error;
use crate::stage::{Boot, Verdict};

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let plan = cpu_limits::apply(boot.root.path(), &boot.env.workspace(), &boot.env.to_map())?;
    for warning in &plan.warnings {
        boot.say(&format!("12-cpu-thread-limits.sh: {warning}"));
    }
    for name in &plan.unset {
        boot.env.remove(name);
    }
    for (name, value) in &plan.set {
        boot.env.set(name, value);
    }
    Ok(match plan.cap {
        Some(cap) => Verdict::said(format!("thread pools are limited to {cap}")),
        None => Verdict::skipped("the container has processes enough"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    /// A container that sees 64 CPUs, with a quota of 4 and this many processes.
    fn container(pids_max: &str) -> Fake {
        let fake = Fake::new();
        fake.write("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-63\n");
        fake.write("/proc/self/cgroup", "0::/\n");
        fake.write("/sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
        fake.write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
        fake.write("/sys/fs/cgroup/pids.max", pids_max);
        fake.write("/etc/environment", "# Template controlled environment for C.7\nMKL_NUM_THREADS=\"2\"\n");
        fake
    }

    #[test]
    fn later_stages_get_the_limits_that_the_file_gets() {
        let fake = container("500\n");
        fake.boot(&[("MKL_NUM_THREADS", "2")], |boot| {
            assert_eq!(run(boot).unwrap(), Verdict::said("thread pools are limited to 4"));
            assert_eq!((boot.env.get("OMP_NUM_THREADS"), boot.env.get("MKL_NUM_THREADS")), (Some("4"), Some("2")));
        });
        let file = fake.read("/etc/environment");
        assert!(file.contains("# VAST_CPU_THREAD_CAPS_BEGIN") && file.contains("OMP_NUM_THREADS=\"4\""), "{file}");
    }

    #[test]
    fn a_block_that_is_no_longer_needed_leaves_the_environment_too() {
        let fake = container("500\n");
        fake.run(run, &[]).unwrap();
        fake.write("/sys/fs/cgroup/pids.max", "max\n");
        fake.boot(&[("OMP_NUM_THREADS", "4")], |boot| {
            assert!(matches!(run(boot).unwrap(), Verdict::Skipped(_)));
            assert_eq!(boot.env.get("OMP_NUM_THREADS"), None);
        });
        assert!(!fake.read("/etc/environment").contains("VAST_CPU_THREAD_CAPS"));
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let fake = container("500\n");
        let path = fake.path("/etc/environment");
        let before = b"# Template controlled environment for C.7\nA=\"\xe9\xff\"\nB=\"\xc3\xa9\"\n";
        std::fs::write(&path, before).unwrap();
        fake.write("/workspace/.env", "");
        std::fs::write(fake.path("/workspace/.env"), b"# caf\xe9\nRAYON_NUM_THREADS=3\n").unwrap();
        fake.boot(&[], |boot| {
            assert_eq!(run(boot).unwrap(), Verdict::said("thread pools are limited to 4"));
            assert_eq!(boot.env.get("RAYON_NUM_THREADS"), None);
        });
        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(before) && after.len() > before.len());
        fake.write("/sys/fs/cgroup/pids.max", "max\n");
        fake.boot(&[], |boot| assert!(matches!(run(boot).unwrap(), Verdict::Skipped(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
