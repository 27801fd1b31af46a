//! The images of the main job, as tools see them that share no code with their builder.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use vast_tests::images::repository;
use vast_tests::prepared::prepare;
use vast_tests::program;
use vast_tests::registry::Registry;

/// A registry with a copy of what was prepared, so that a test may push to it.
fn registry_copy(prepared: &Path) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    program::run(Command::new("cp").arg("-a").arg(prepared.join("blobs")).arg(folder.path())).unwrap();
    let registry = Registry::start(folder.path()).unwrap();
    (folder, registry)
}

#[test]
fn building_again_in_another_directory_gives_the_same_digest() {
    let prepared = prepare().unwrap();
    let (_storage, registry) = registry_copy(&prepared.registry);
    let elsewhere = tempfile::tempdir().unwrap();
    program::run(Command::new("cp").arg("-r").arg(repository().join("images/derivative/hello")).arg(elsewhere.path()))
        .unwrap();
    let folder = elsewhere.path().join("hello");
    // Another time stamp on every file, and another umask for the build.
    program::run(Command::new("find").arg(&folder).args(["-exec", "touch", "-d", "2001-02-03", "{}", "+"])).unwrap();
    let reference = format!("{}/hello:again", registry.host());
    let built = program::output(
        Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(prepared.builder.binary("vast-imagegen"))
            .arg("build")
            .arg(&folder)
            .args(["--to", &reference, "--engine", "native", "--build-arg"])
            .arg(format!("BASE={}/base-image:bookworm", registry.host())),
    )
    .unwrap();
    assert!(built.ends_with(&prepared.digests[2]), "{built} is not {}", prepared.digests[2]);
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
