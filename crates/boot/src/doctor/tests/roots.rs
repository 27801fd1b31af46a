//! What is gathered from fake roots.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn the_kernels_files_tell_the_limits_in_both_versions() {
    let both = [
        [
            ("memory.max", "1000\n"),
            ("memory.current", "990\n"),
            ("memory.stat", "anon 1\ninactive_file 90\n"),
            ("memory.events", "oom 3\noom_kill 2\n"),
            ("pids.max", "50\n"),
            ("pids.current", "7\n"),
        ],
        [
            ("memory/memory.limit_in_bytes", "1000\n"),
            ("memory/memory.usage_in_bytes", "990\n"),
            ("memory/memory.stat", "inactive_file 90\n"),
            ("memory/memory.oom_control", "under_oom 0\noom_kill 2\n"),
            ("pids/pids.max", "50\n"),
            ("pids/pids.current", "7\n"),
        ],
    ];
    for files in both {
        let fake = Fake::new();
        for (file, text) in files {
            fake.write(&format!("sys/fs/cgroup/{file}"), text);
        }
        let (memory, pids) = (limits::Share { used: 900, limit: 1000 }, limits::Share { used: 7, limit: 50 });
        let expected = limits::Facts { memory: Some(memory), pids: Some(pids), killed: 2 };
        assert_eq!(fake.look(&[], limits::gather), expected);
    }
    let unlimited = Fake::new();
    unlimited.write("sys/fs/cgroup/memory.max", "max\n");
    unlimited.write("sys/fs/cgroup/memory.current", "5\n");
    assert_eq!(unlimited.look(&[], limits::gather), limits::Facts::default());
}

#[test]
fn a_driver_that_crashes_hangs_or_is_not_there_is_told_apart() {
    let probe = |script: Option<&str>, patience: Duration| {
        let fake = Fake::new();
        if let Some(script) = script {
            fake.write("vast-gpu", script);
            fs::set_permissions(fake.0.path().join("vast-gpu"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fake.look(&[("PATH", "/usr/bin:/bin")], |look| {
            gpu::gather(&Look { patience, vast_gpu: look.vast_gpu.clone(), time_zone: TimeZone::UTC, ..*look })
        })
    };
    let long = Duration::from_mins(1);
    let healthy = "#!/bin/sh\ntest \"$1 $2 $3\" = 'probe --json --root' && echo '{\"driver\":null,\"devices\":[{\"name\":\"H100\"}],\"notes\":[]}'\n";
    let facts = probe(Some(healthy), long);
    assert_eq!(facts.probe.as_ref().unwrap().devices, ["H100"]);
    assert_eq!(facts.summary(), "1 × H100");
    let crashed = probe(Some("#!/bin/sh\nkill -11 $$\n"), long).probe;
    assert!(matches!(&crashed, Err(gpu::Silence::Died(reason)) if reason.contains("signal 11")), "{crashed:?}");
    let hung = probe(Some("#!/bin/sh\nsleep 1000\n"), Duration::from_millis(50)).probe;
    assert!(matches!(&hung, Err(gpu::Silence::Died(reason)) if reason.contains("no answer")), "{hung:?}");
    assert!(matches!(probe(None, long).probe, Err(gpu::Silence::NotRun(_))));
}
