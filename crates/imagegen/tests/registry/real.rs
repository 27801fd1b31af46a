//! Against the distribution project's registry and skopeo, where they are installed.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vast_testkit::image::{ImageBuilder, Layer, TestImage};
use vast_testkit::registry::Distribution;

use crate::support::{auth_file, copy, image, noise, options, options_with, told};

fn large() -> TestImage {
    // Compressed, since skopeo compresses what is not and so makes another image of it.
    ImageBuilder::new()
        .layer(Layer::new().file("large", &noise(20_000_000)))
        .layer(Layer::new().file("small", b"small"))
        .label("a", "b")
        .build()
}

/// A layout with an index of two platforms, made by ours from a registry of the testkit.
async fn layout(dir: &Path) -> String {
    let registry = vast_testkit::registry::Registry::start();
    let images = [large(), ImageBuilder::new().platform("linux/arm64").file("a", b"arm").build()];
    registry.push_index("app", "v1", &images);
    let (options, _) = options();
    let target = format!("oci:{}:v1", dir.join("layout").display());
    copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
    target
}

pub(crate) fn skopeo(args: &[&str]) -> Value {
    let output = Command::new("skopeo").args(args).output().expect("skopeo runs; `cargo xtask test` installs it");
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[tokio::test]
async fn the_distribution_registry_takes_and_gives_images() {
    let real = Distribution::start();
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path()).await;
    let (options, clock) = options();
    let target = format!("{}/team/app:v1", real.host());
    let published = copy(&layout, &target, &options).await.unwrap();
    assert_eq!(published.written, 5);
    let again = copy(&layout, &target, &options).await.unwrap();
    assert_eq!((again.written, again.present), (0, 5));
    let mounted = copy(&target, &format!("{}/other/app:v1", real.host()), &options).await.unwrap();
    assert_eq!((mounted.mounted, mounted.written), (5, 0));
    let back = format!("oci-archive:{}", dir.path().join("back.tar").display());
    assert_eq!(copy(&target, &back, &options).await.unwrap().digest, published.digest);
    assert!(clock.pauses().is_empty());

    let seen = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{target}")]);
    assert_eq!(seen["Labels"]["a"], "b");
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{target}")])
        .output()
        .unwrap();
    assert_eq!(vast_imagegen::digest::Digest::of(&raw.stdout), published.digest);
    let error = image(&format!("{}/team/app:absent", real.host()), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("no tag absent"), "{}", told(&error));
}

#[tokio::test]
async fn the_distribution_registry_with_a_password() {
    let dir = tempfile::tempdir().unwrap();
    // `user:secret`, hashed with bcrypt as the registry wants it.
    let hash = "user:$2b$05$LRPh.9jcDJYdHqCzCbMoE.K/DVMNXz.4ibkU/SbHaAqG2Fv562vpO\n";
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, hash).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
    let real = Distribution::start_with(&auth);
    let target = format!("{}/app:v1", real.host());
    let layout = layout(dir.path()).await;
    let (anonymous, _) = options();
    let error = copy(&layout, &target, &anonymous).await.unwrap_err();
    assert!(told(&error).contains("asks for credentials"), "{}", told(&error));
    let wrong = auth_file(dir.path(), &real.host(), "dXNlcjp3cm9uZw==");
    let (refused, _) = options_with(|settings| settings.auth_files = wrong);
    let error = copy(&layout, &target, &refused).await.unwrap_err();
    assert!(told(&error).contains("refused the credentials of `user`"), "{}", told(&error));
    assert_eq!(real.tags("app"), [""; 0]);
    let right = auth_file(dir.path(), &real.host(), "dXNlcjpzZWNyZXQ=");
    let (accepted, _) = options_with(|settings| settings.auth_files = right);
    copy(&layout, &target, &accepted).await.unwrap();
    let mounted = copy(&target, &format!("{}/other:v1", real.host()), &accepted).await.unwrap();
    assert_eq!((mounted.mounted, mounted.written), (5, 0));
}

#[tokio::test]
async fn skopeo_reads_what_we_write_and_we_read_what_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path()).await;
    let (options, _) = options();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let theirs = format!("oci:{}:v1", at("theirs"));
    skopeo(&["copy", "--insecure-policy", "--all", &layout, &theirs]);
    let digest = image(&layout, "linux/amd64", &options).await.unwrap().raw.digest();
    assert_eq!(image(&theirs, "linux/amd64", &options).await.unwrap().raw.digest(), digest);

    // Its archives of both kinds, and ours read by it.
    let saved = format!("docker-archive:{}:team/app:v1", at("saved.tar"));
    skopeo(&["copy", "--insecure-policy", &layout, &saved]);
    let config = image(&layout, "linux/amd64", &options).await.unwrap().raw_config;
    let config: Value = serde_json::from_slice(&config).unwrap();
    let read = image(&saved, "linux/amd64", &options).await.unwrap();
    assert_eq!(read.config.rootfs().diff_ids()[0], config["rootfs"]["diff_ids"][0]);
    copy(&saved, &format!("oci:{}:v1", at("unpacked")), &options).await.unwrap();

    let archive = format!("oci-archive:{}:v1", at("theirs.tar"));
    skopeo(&["copy", "--insecure-policy", "--all", &layout, &archive]);
    assert_eq!(image(&archive, "linux/amd64", &options).await.unwrap().raw.digest(), digest);
    let ours = format!("oci-archive:{}:v1", at("ours.tar"));
    copy(&layout, &ours, &options).await.unwrap();
    let seen = skopeo(&["inspect", &ours]);
    assert_eq!(seen["Labels"]["a"], "b");
}
