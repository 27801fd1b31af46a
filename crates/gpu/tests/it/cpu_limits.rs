//! Stage 12: limits of the kernel, the cap that follows, and the block in `/etc/environment`.

use std::fs;
use std::path::Path;

use vast_gpu::cpu_limits::{Facts, Settings, VARIABLES, apply, gather, plan};

use crate::{env, root};

/// 256 CPUs, 2048 processes, 4 cores.
const SCARCE: [(&str, &str); 4] = [
    ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-255\n"),
    ("proc/self/cgroup", "0::/\n"),
    ("sys/fs/cgroup/pids.max", "2048\n"),
    ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
];

fn facts(visible_cpus: u32, pids_max: Option<u64>, quota_cores: Option<f64>) -> Facts {
    Facts { visible_cpus, pids_max, quota_cores }
}

#[test]
fn limits_are_read_from_either_version_of_cgroups() {
    let status = ("proc/self/status", "Cpus_allowed_list:\t0-63\n");
    for (name, files, expected) in [
        ("version 2", &SCARCE[..], facts(256, Some(2048), Some(4.0))),
        (
            "version 2 without limits",
            &[
                status,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/pids.max", "max\n"),
                ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ],
            facts(64, None, None),
        ),
        (
            "version 2, the host's tree: the smallest limit on the way counts",
            &[
                status,
                ("proc/self/cgroup", "0::/docker/1f/init\n"),
                ("sys/fs/cgroup/docker/pids.max", "9000\n"),
                ("sys/fs/cgroup/docker/1f/pids.max", "500\n"),
                ("sys/fs/cgroup/docker/1f/init/pids.max", "max\n"),
                ("sys/fs/cgroup/docker/1f/cpu.max", "250000 100000\n"),
                ("sys/fs/cgroup/docker/1f/init/cpu.max", "300000 100000\n"),
                ("sys/fs/cgroup/other/pids.max", "1\n"),
            ],
            facts(64, Some(500), Some(2.5)),
        ),
        (
            "version 1",
            &[
                status,
                ("proc/self/cgroup", "11:pids:/\n4:cpu,cpuacct:/\n1:name=systemd:/\n"),
                ("sys/fs/cgroup/pids/pids.max", "1024\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "760000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ],
            facts(64, Some(1024), Some(7.6)),
        ),
        (
            "version 1 without a quota",
            &[
                status,
                ("proc/self/cgroup", "4:cpu:/docker/1f\n11:pids:/docker/1f\n"),
                ("sys/fs/cgroup/pids/pids.max", "max\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
            facts(64, None, None),
        ),
        ("nothing but the CPUs online", &[("sys/devices/system/cpu/online", "0-7\n")], facts(8, None, None)),
    ] {
        assert_eq!(gather(root(files).path()).unwrap(), expected, "{name}");
    }
    assert!(gather(root(&[]).path()).is_err());
}

#[test]
fn the_cap_is_the_quota_between_two_and_the_ceiling_where_processes_are_scarce() {
    for (facts, ceiling, expected) in [
        (facts(256, Some(4095), Some(4.0)), 16, Some(4)),
        (facts(256, Some(4096), Some(4.0)), 16, None),
        (facts(256, None, Some(4.0)), 16, None),
        (facts(256, Some(100), Some(4.5)), 16, Some(5)),
        (facts(256, Some(100), Some(4.4)), 16, Some(4)),
        (facts(256, Some(100), Some(0.3)), 16, Some(2)),
        (facts(256, Some(100), Some(64.0)), 16, Some(16)),
        (facts(256, Some(100), Some(64.0)), 32, Some(32)),
        (facts(256, Some(100), None), 16, Some(16)),
        (facts(256, Some(100), None), 1, Some(2)),
        (facts(256, Some(0), Some(1e300)), 16, Some(16)),
    ] {
        assert_eq!(facts.cap(ceiling), expected, "{facts:?} {ceiling}");
    }
}

#[test]
fn the_ceiling_comes_from_the_environment_if_it_is_a_number() {
    let name = "VAST_CPU_THREAD_CEILING";
    assert_eq!(Settings::from_env(&env(&[])), Settings { ceiling: 16, warning: None });
    assert_eq!(Settings::from_env(&env(&[(name, " 24 ")])), Settings { ceiling: 24, warning: None });
    for bad in ["0", "many", "-3", "1.5"] {
        let settings = Settings::from_env(&env(&[(name, bad)]));
        assert_eq!(settings.ceiling, 16, "{bad}");
        assert!(settings.warning.is_some_and(|warning| warning.contains(bad)), "{bad}");
    }
}

#[test]
fn a_block_is_written_once_and_then_left_alone() {
    let root = root(&SCARCE);
    let first = apply(root.path(), Path::new("/workspace"), &env(&[])).unwrap();
    assert_eq!((first.cap, first.set.len()), (Some(4), VARIABLES.len()));
    let text = fs::read_to_string(root.path().join("etc/environment")).unwrap();
    assert!(text.starts_with("# VAST_CPU_THREAD_CAPS_BEGIN "), "{text}");
    assert!(text.ends_with("\n# VAST_CPU_THREAD_CAPS_END\n"), "{text}");
    for name in VARIABLES {
        assert!(text.contains(&format!("\n{name}=\"4\"\n")), "{name}");
    }

    // The next boot: the block's values are in the environment by now.
    let loaded = VARIABLES.map(|name| (name, "4"));
    let second = apply(root.path(), Path::new("/workspace"), &env(&loaded)).unwrap();
    assert_eq!(second.environment_file, None);
    assert_eq!((second.set, second.unset.len(), second.kept.len()), (first.set, 0, 0));
}

#[test]
fn a_changed_quota_changes_the_block_in_place_of_the_old_one() {
    let before = plan(&facts(256, Some(100), Some(4.0)), &Settings::default(), "A=1\n", "", &env(&[]));
    let old = before.environment_file.unwrap();
    let loaded = env(&VARIABLES.map(|name| (name, "4")));
    let after = plan(&facts(256, Some(100), Some(8.0)), &Settings::default(), &old, "", &loaded);
    assert_eq!(after.environment_file.unwrap(), old.replace("\"4\"", "\"8\""));
    assert!(after.set.values().all(|value| value == "8") && after.set.len() == VARIABLES.len());
}

#[test]
fn values_of_the_user_or_the_template_stay() {
    let file = "PATH=\"/bin\"\nexport OMP_NUM_THREADS='32'\n";
    let dotenv = "MKL_NUM_THREADS=6\n# RAYON_NUM_THREADS=1\n";
    let env = env(&[("TOKIO_WORKER_THREADS", "9")]);
    let plan = plan(&facts(256, Some(100), Some(4.0)), &Settings::default(), file, dotenv, &env);
    let kept: Vec<_> = plan.kept.iter().map(String::as_str).collect();
    assert_eq!(kept, ["MKL_NUM_THREADS", "OMP_NUM_THREADS", "TOKIO_WORKER_THREADS"]);
    let text = plan.environment_file.unwrap();
    assert!(text.starts_with(file));
    for name in kept {
        assert!(!text.contains(&format!("{name}=\"4\"")) && !plan.set.contains_key(name), "{name}");
    }
    assert!(text.contains("RAYON_NUM_THREADS=\"4\"") && plan.set.len() == 5);
}

#[test]
fn where_processes_are_plenty_an_old_block_goes_with_its_values() {
    let old =
        plan(&facts(256, Some(100), Some(4.0)), &Settings::default(), "A=1\n", "", &env(&[])).environment_file.unwrap();
    // The user has changed one of them since.
    let env = env(&[("OMP_NUM_THREADS", "4"), ("MKL_NUM_THREADS", "12")]);
    let plan = plan(&facts(8, None, Some(4.0)), &Settings::default(), &old, "", &env);
    assert_eq!(plan.environment_file.as_deref(), Some("A=1\n"));
    assert_eq!(plan.unset.iter().map(String::as_str).collect::<Vec<_>>(), ["OMP_NUM_THREADS"]);
    assert!(plan.set.is_empty() && plan.cap.is_none());
}

#[test]
fn nothing_is_written_where_nothing_is_needed() {
    let root = root(&[("sys/devices/system/cpu/online", "0-7\n")]);
    let plan = apply(root.path(), Path::new("/workspace"), &env(&[])).unwrap();
    assert_eq!((plan.cap, plan.environment_file), (None, None));
    assert!(!root.path().join("etc").exists());
}

#[test]
fn the_workspace_s_dotenv_is_read_under_the_root() {
    let mut files = SCARCE.to_vec();
    files.push(("workspace/.env", "OMP_NUM_THREADS=1\n"));
    let plan = apply(root(&files).path(), Path::new("/workspace"), &env(&[])).unwrap();
    assert!(plan.kept.contains("OMP_NUM_THREADS"));
}
