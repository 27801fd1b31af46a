//! The images of the main job, as tools see them that share no code with their builder.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use vast_tests::images::repository;
use vast_tests::prepared::{Prepared, prepare};
use vast_tests::program;
use vast_tests::registry::Registry;

/// A registry with a copy of what was prepared, so that a test may push to it.
fn registry_copy(prepared: &Path) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    program::run(Command::new("cp").arg("-a").arg(prepared.join("blobs")).arg(folder.path())).unwrap();
    let registry = Registry::start(folder.path()).unwrap();
    (folder, registry)
}

/// Builds `hello` from `folder` under a umask, on the base in `registry`, and returns its digest.
fn build_hello(prepared: &Prepared, registry: &Registry, folder: &Path, umask: &str, tag: &str) -> String {
    let printed = program::output(
        Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(prepared.builder.binary("vast-imagegen"))
            .arg("build")
            .arg(folder)
            .args(["--to", &format!("{}/hello:{tag}", registry.host()), "--engine", "native", "--build-arg"])
            .arg(format!("BASE={}/base-image:bookworm", registry.host())),
    )
    .unwrap();
    printed.rsplit_once('@').unwrap().1.to_owned()
}

#[test]
fn building_again_in_another_directory_gives_the_same_digest() {
    let prepared = prepare().unwrap();
    let (_storage, registry) = registry_copy(&prepared.registry);
    let original = repository().join("images/derivative/hello");
    let first = build_hello(&prepared, &registry, &original, "022", "first");

    let elsewhere = tempfile::tempdir().unwrap();
    program::run(Command::new("cp").arg("-r").arg(&original).arg(elsewhere.path())).unwrap();
    let copy = elsewhere.path().join("hello");
    // Another time stamp on every file.
    program::run(Command::new("find").arg(&copy).args(["-exec", "touch", "-d", "2001-02-03", "{}", "+"])).unwrap();
    assert_eq!(build_hello(&prepared, &registry, &copy, "077", "again"), first);

    // Equal digests mean something only if another input gives another one.
    fs::write(copy.join("ROOT/opt/workspace-internal/hello/more.txt"), "more").unwrap();
    assert_ne!(build_hello(&prepared, &registry, &copy, "022", "other"), first);
}

#[test]
fn skopeo_reads_the_labels_and_the_entrypoint() {
    let prepared = prepare().unwrap();
    let (_storage, registry) = registry_copy(&prepared.registry);
    let reference = format!("docker://{}/hello:latest", registry.host());
    let skopeo = |arguments: &[&str]| -> serde_json::Value {
        let text = program::output(
            Command::new("skopeo").arg("inspect").arg("--tls-verify=false").args(arguments).arg(&reference),
        );
        serde_json::from_str(&text.unwrap()).unwrap()
    };
    let image = skopeo(&[]);
    assert_eq!(image["Digest"], prepared.digests[2].as_str());
    assert_eq!(image["Labels"]["org.opencontainers.image.description"], "Hello image suitable for Vast.ai.");
    assert_eq!(image["Labels"]["maintainer"], "Vast.ai Inc <contact@vast.ai>");
    let config = skopeo(&["--config"]);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/opt/instance-tools/bin/entrypoint.sh"]));
}

#[test]
fn the_unpacked_image_holds_the_overlay_and_a_true_environment_hash() {
    let prepared = prepare().unwrap();
    let rootfs = &prepared.hello.rootfs;
    let overlay = repository().join("images/derivative/hello/ROOT");
    for file in ["opt/workspace-internal/hello/app.py", "opt/supervisor-scripts/hello.sh"] {
        assert_eq!(fs::read(rootfs.join(file)).unwrap(), fs::read(overlay.join(file)).unwrap(), "{file}");
    }
    // The recipe runs inside the root, with its own bash, python3, dpkg and sha256sum.
    let recipe = fs::read_to_string(repository().join("crates/envhash/tests/recipe.sh")).unwrap();
    let expected =
        program::output(Command::new("chroot").arg(rootfs).args(["/usr/bin/env", "-i", "LC_ALL=C.UTF-8"]).args([
            "PATH=/usr/bin:/bin",
            "bash",
            "-c",
            &recipe,
        ]))
        .unwrap();
    assert_eq!(fs::read_to_string(rootfs.join(".env_hash")).unwrap(), format!("{expected}\n"));
}

#[test]
fn verify_finds_every_layer_as_its_manifest_says() {
    let prepared = prepare().unwrap();
    let (_storage, registry) = registry_copy(&prepared.registry);
    let reference = format!("{}/hello:latest", registry.host());
    program::run(Command::new(prepared.builder.binary("vast-imagegen")).args(["verify", "--deep", &reference]))
        .unwrap();
}

/// Runs a command in an image, as root, on an overlay of its root that goes with it; its exit status and what it printed.
fn in_image(rootfs: &Path, command: &str) -> (Option<i32>, String) {
    let scratch = tempfile::tempdir().unwrap();
    let script = "mount --make-rprivate / && mount -t tmpfs none . && mkdir upper work root && \
                  mount -t overlay none -o lowerdir=\"$1\",upperdir=upper,workdir=work root && mount -t proc none root/proc && \
                  exec chroot root /bin/sh -c \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script, "sh"])
        .arg(rootfs)
        .arg(command)
        .current_dir(scratch.path())
        .env_clear()
        .env("PATH", "/opt/instance-tools/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_commands_that_scripts_call_are_in_the_image_and_answer() {
    let prepared = prepare().unwrap();
    let rootfs = &prepared.hello.rootfs;
    let hash = fs::read_to_string(rootfs.join(".env_hash")).unwrap();
    for (command, code, printed) in [
        ("env-hash", 0, hash.as_str()),
        // The image brings no pair; stage 55 makes one.
        ("cert-usable >/dev/null", 1, ""),
        ("vast-boot run --only 55 >/dev/null && cert-usable >/dev/null", 0, ""),
        ("cuda-driver-version", 1, ""),
        ("cuda-driver-version --native", 1, ""),
        ("propagate_ssh_keys.sh", 0, ""),
        (
            "mkdir -p /root/.ssh && echo ssh-ed25519 AAAA me >/root/.ssh/authorized_keys && propagate_ssh_keys.sh && cat /home/user/.ssh/authorized_keys",
            0,
            "ssh-ed25519 AAAA me\n",
        ),
        (
            "VAST_CONTAINERLABEL=C.7 venv-backup.sh >/list && grep -c '^/workspace/.venv-backups/7/venv-main-' /list && grep -c '^notebook==' $(cat /list)",
            0,
            "1\n1\n",
        ),
        ("echo hello | PROC_NAME=x log-tee >/dev/null && cat /var/log/x.log", 0, "hello\n"),
    ] {
        assert_eq!(in_image(rootfs, command), (Some(code), printed.to_owned()), "{command}");
    }
    for name in ["env-hash", "cert-usable", "cuda-driver-version", "propagate_ssh_keys.sh", "venv-backup.sh", "log-tee"]
    {
        let path = format!("/opt/instance-tools/bin/{name}");
        assert_eq!(in_image(rootfs, &format!("command -v {name}")), (Some(0), format!("{path}\n")));
    }
}
