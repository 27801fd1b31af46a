//! Instances on which something cannot be written: the boot goes on, and says once what it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::MetadataExt;

use vast_tests::container::Container;
use vast_tests::instance::{LIMIT, TOKEN, curl, environment_of, inside, options, stages, until_running, until_up};
use vast_tests::prepared::prepare;

/// How often the console says something.
fn said(container: &Container, text: &str) -> usize {
    container.console().matches(text).count()
}

/// The stages that did not do their work, and what each said of it; the console has told each once.
fn bad(container: &Container) -> Vec<(String, String)> {
    let stages = stages(container).unwrap().into_iter();
    let bad = stages.filter(|(_, (outcome, _))| outcome == "failed" || outcome == "gave-up" || outcome == "panicked");
    let bad: Vec<_> = bad.map(|(stage, (_, message))| (stage, message)).collect();
    for (stage, message) in &bad {
        assert_eq!(said(container, message), 1, "{stage}: {message}\n{}", container.console());
    }
    bad
}

#[test]
fn a_read_only_etc_is_told_once_and_costs_only_what_belongs_there() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[("ENABLE_HTTPS", "true"), ("VAST_SIGN_URL", "http://127.0.0.1:1/"), ("MODEL", "a b")]);
    options.arguments.clear();
    options.prepare = "mount --bind etc etc\nmount -o remount,ro,bind etc\n".to_owned();
    let mut container = Container::boot(&prepared.hello, folder.path(), &options).unwrap();
    until_up(&mut container).unwrap();
    let bad = bad(&container);
    let expected = [
        ("10-prep-env.sh", "cannot write `/etc/environment`"),
        ("55-tls-cert-gen.sh", "cannot write `/etc/.instance-cert-selfsigned`"),
    ];
    assert_eq!(bad.len(), expected.len(), "{bad:?}");
    for ((stage, message), (expected_stage, expected)) in bad.iter().zip(expected) {
        assert!(stage == expected_stage && message.starts_with(expected), "{stage}: {message}");
        assert!(message.contains("Read-only file system"), "{message}");
    }
    assert_eq!(said(&container, "the applications are served without TLS"), 1, "{}", container.console());

    // Supervisor runs what needs nothing of /etc, with the template's variables.
    until_running(&mut container, &["cron"]).unwrap();
    let environment = environment_of(&container, "cron.sh").unwrap();
    for record in ["MODEL=a b", "ENABLE_HTTPS=false", "WORKSPACE=/workspace"] {
        assert!(environment.split(|byte| *byte == 0).any(|found| found == record.as_bytes()), "{record}");
    }
    assert!(container.path("/workspace/hello/app.py").exists() && !container.path("/.provisioning").exists());
    // The portal is there all the same, behind Caddy and for whoever has the token, with its applications.
    until_running(&mut container, &["caddy", "instance_portal", "jupyter"]).unwrap();
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let url = "http://127.0.0.1:1111/get-applications";
    let text = container
        .until("the portal answers", LIMIT, |container| {
            let (status, text) = curl(container, &["-H", &bearer, url]).ok()?;
            (status == 200).then_some(text)
        })
        .unwrap();
    assert!(text.contains("Jupyter"), "{text}");
    assert_eq!(curl(&container, &[url]).unwrap().0, 401);
    for (name, mode) in [("", 0o755), ("portal.yaml", 0o644), ("Caddyfile", 0o644), ("vast-portal.key", 0o600)] {
        let metadata = fs::metadata(container.path("/run/vast-portal").join(name)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (mode, 0), "{name}");
    }
}

#[test]
fn a_full_workspace_keeps_everything_in_the_container_and_is_told_with_numbers() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[]);
    options.arguments.extend(["--sync-environment", "--sync-home"].map(str::to_owned));
    options.prepare = "mount -t tmpfs -o size=256k tmpfs workspace\n\
        head --bytes=1M /dev/zero >workspace/fill 2>/dev/null || true\n"
        .to_owned();
    let mut container = Container::boot(&prepared.hello, folder.path(), &options).unwrap();
    until_up(&mut container).unwrap();
    let bad = bad(&container);
    for stage in ["35-sync-home-dirs.sh", "36-sync-workspace.sh", "37-sync-environment.sh"] {
        let (_, message) = bad.iter().find(|(found, _)| found == stage).unwrap_or_else(|| panic!("{bad:?}"));
        let needed: u64 = message.split(" bytes needed, ").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(needed > 0 && message.contains(", 0 available"), "{stage}: {message}");
    }
    // Nothing has gone from where it was, and nothing half-done is where it should go.
    for directory in ["/root", "/home/user", "/venv/main"] {
        assert!(fs::symlink_metadata(container.path(directory)).unwrap().is_dir(), "{directory}");
    }
    let source = "opt/workspace-internal/hello/app.py";
    assert_eq!(fs::read(container.path(source)).unwrap(), fs::read(prepared.hello.rootfs.join(source)).unwrap());
    inside(&container, "/venv/main/bin/python", &["-c", "import notebook"]).unwrap();
    let left: Vec<String> = fs::read_dir(container.path("/workspace"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial") || name.contains("staging") || name == "hello")
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // The portal is there, to look at what is the matter.
    until_running(&mut container, &["caddy", "cron", "instance_portal", "jupyter"]).unwrap();
    let bearer = format!("Authorization: Bearer {TOKEN}");
    container
        .until("the portal answers", LIMIT, |container| {
            let (status, _) = curl(container, &["-H", &bearer, "http://127.0.0.1:1111/get-applications"]).ok()?;
            (status == 200).then_some(())
        })
        .unwrap();
    // Room is made, and the stage is run again.
    inside(&container, "rm", &["/workspace/fill"]).unwrap();
    inside(&container, "/opt/instance-tools/bin/vast-boot", &["run", "--only", "36"]).unwrap();
    assert_eq!(fs::read(container.path("/workspace/hello/app.py")).unwrap(), fs::read(container.path(source)).unwrap());
}
