//! The commands on registries of the distribution project, one of them behind a token service; what comes out is checked
//! with skopeo and umoci.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use vast_imagegen::merge::merge;
use vast_imagegen::promote::{Promoted, promote};
use vast_imagegen::publish::{contents, publish};
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::rollback::{Options, rollback};
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::{TransportOptions, open_sink, open_source};
use vast_imagegen::verify;
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Access, Behaviour, Distribution, Fault, Kind, Registry, schedule};

use crate::support::{auth_file, copy, copy_in_parallel, noise, options, options_with, source, told};

/// `user:secret` in base64.
const GOOD: &str = "dXNlcjpzZWNyZXQ=";

fn image(platform: &str, text: &str) -> TestImage {
    ImageBuilder::new()
        .platform(platform)
        .label("org.opencontainers.image.source", "https://github.com/vastai/")
        .label("org.opencontainers.image.description", "App image suitable for Vast.ai.")
        .label("maintainer", "Vast.ai Inc <contact@vast.ai>")
        .config("Entrypoint", json!(["/opt/instance-tools/bin/entrypoint.sh"]))
        .layer(Layer::new().folder("opt").file("opt/large", &noise(300_000)))
        .layer(Layer::new().file("text", text.as_bytes()).file("platform", platform.as_bytes()))
        .build()
}

/// A proxy that wants a token for each request that it passes on to `behind`; a token is good for so many.
fn token_service(behind: &Distribution, uses: usize) -> Registry {
    let Access::Token { user, password, .. } = Access::token("user", "secret") else { unreachable!() };
    let access = Access::Token { user, password, anonymous_pull: false, uses };
    Registry::start_with(Behaviour { access, ..Behaviour::in_front_of(&behind.host()) })
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Uploads that the registry was asked to forget and did not.
///
/// It refuses that for what broke off in the middle of a request: it holds more than the state in the address says. It
/// forgets such uploads by itself, after a week.
fn not_cancelled(proxy: &Registry) -> usize {
    proxy.log().iter().filter(|entry| entry.method == "DELETE" && entry.status == 404).count()
}

/// The manifest under a reference, as skopeo reads it.
fn raw(reference: &str) -> Vec<u8> {
    run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])
}

/// The file `text` of one platform, as skopeo fetches and umoci unpacks it.
fn unpacked(reference: &str, architecture: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}:v1", dir.path().join("layout").display());
    let args = ["copy", "--insecure-policy", "--src-tls-verify=false", "--override-arch", architecture];
    let (from, to) = (format!("docker://{reference}"), format!("oci:{layout}"));
    run("skopeo", &[&args[..], &[&from, &to]].concat());
    let bundle = dir.path().join("bundle").display().to_string();
    run("umoci", &["unpack", "--rootless", "--image", &layout, &bundle]);
    let rootfs = Path::new(&bundle).join("rootfs");
    assert_eq!(std::fs::read(rootfs.join("opt/large")).unwrap(), noise(300_000));
    assert_eq!(std::fs::read_to_string(rootfs.join("platform")).unwrap(), format!("linux/{architecture}"));
    std::fs::read_to_string(rootfs.join("text")).unwrap()
}

/// Puts both platforms' images into `to` as `app:amd64` and `app:arm64`.
async fn publish_images(text: &str, to: &str, options: &TransportOptions) {
    let made = Registry::start();
    for architecture in ["amd64", "arm64"] {
        made.push("app", architecture, &image(&format!("linux/{architecture}"), text));
        let name = format!("app:{architecture}");
        copy(&made.reference(&name), &format!("{to}/{name}"), options).await.unwrap();
    }
}

async fn merged(host: &str, tag: &str, options: &TransportOptions) -> String {
    let mut sources = Vec::new();
    for name in ["app:amd64", "app:arm64"] {
        sources.push(source(&format!("{host}/{name}"), options).await.unwrap());
    }
    let merged = merge(&sources, &BTreeMap::new()).await.unwrap();
    let sink = open_sink(&format!("{host}/{tag}").parse().unwrap(), options).await.unwrap();
    publish(&merged.publication, &*sink, 4, &()).await.unwrap().digest.to_string()
}

async fn promoted(from: &str, to: &[String], options: &TransportOptions) -> Promoted {
    let source = source(from, options).await.unwrap();
    let target = |name: &String| RegistryImage::new(Arc::clone(&options.registry), name.parse().unwrap());
    let targets: Vec<RegistryImage> = to.iter().map(target).collect();
    promote(&contents(&*source).await.unwrap(), &targets, 4, &()).await.unwrap()
}

#[tokio::test]
async fn merge_promote_copy_verify_and_rollback_between_two_registries() {
    let (staging, production) = (Distribution::start(), Distribution::start());
    // Tokens end after a few requests, in the middle of everything.
    let guarded = token_service(&production, 5);
    let dir = tempfile::tempdir().unwrap();
    let files = auth_file(dir.path(), &guarded.host(), GOOD);
    let (options, clock) = options_with(|settings| settings.auth_files = files);
    let v1 = format!("{}/app:1.0", guarded.host());
    let plain_v1 = production.reference("app:1.0");
    let mut digests = Vec::new();
    for text in ["first", "second"] {
        publish_images(text, &staging.host(), &options).await;
        let index = merged(&staging.host(), "app:staging", &options).await;
        assert_eq!(digest(&raw(&staging.reference("app:staging"))), index);
        let seen: Value = serde_json::from_slice(&raw(&staging.reference("app:staging"))).unwrap();
        let platforms: Vec<_> = seen["manifests"].as_array().unwrap().iter().map(|entry| &entry["platform"]).collect();
        assert_eq!(platforms[0], &json!({"os": "linux", "architecture": "amd64"}));
        assert_eq!(platforms[1], &json!({"os": "linux", "architecture": "arm64"}));

        let names = [v1.clone(), format!("{}/app:latest", guarded.host())];
        let promoted = promoted(&staging.reference("app:staging"), &names, &options).await;
        assert_eq!(promoted.published.digest.to_string(), index);
        for name in ["app:1.0", "app:latest"] {
            assert_eq!(digest(&raw(&production.reference(name))), index);
        }
        for architecture in ["amd64", "arm64"] {
            assert_eq!(unpacked(&plain_v1, architecture), text);
        }
        digests.push(index);
    }

    let image = RegistryImage::new(Arc::clone(&options.registry), v1.parse().unwrap());
    for (undo, expected) in [(false, 0), (true, 1), (false, 0)] {
        rollback(&image, Options { undo, parallel: 4, ..Options::default() }).await.unwrap();
        assert_eq!(digest(&raw(&plain_v1)), digests[expected]);
        assert_eq!(unpacked(&plain_v1, "amd64"), ["first", "second"][expected]);
        assert_eq!(digest(&raw(&production.reference("app:latest"))), digests[1], "the other tag stays");
    }

    let opened: Arc<dyn ImageSource> = Arc::from(open_source(&v1.parse().unwrap(), &options).await.unwrap());
    let verdict = verify::verify(&opened, &verify::Options { deep: true, ..Default::default() }).await.unwrap();
    let other: Vec<_> = verdict.findings.iter().filter(|found| found.check != verify::Check::EnvHash).collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!((verdict.platforms.len(), verdict.layers), (2, 4));

    // Back out of the registry, and to another repository of it, where the token has to cover both.
    let layout = format!("oci:{}:v1", dir.path().join("layout").display());
    assert_eq!(copy(&v1, &layout, &options).await.unwrap().digest.to_string(), digests[0]);
    let mounted = promoted(&v1, &[format!("{}/team/other:1.0", guarded.host())], &options).await;
    assert_eq!((mounted.published.mounted, mounted.published.written), (5, 0));
    assert_eq!(digest(&raw(&production.reference("team/other:1.0"))), digests[0]);
    assert!(clock.pauses().is_empty(), "a new token needs no pause");
    for (registry, repository) in [(&staging, "app"), (&production, "app"), (&production, "team/other")] {
        assert_eq!(registry.open_uploads(repository), 0);
    }
    assert!(guarded.count("GET", "/token") > 10, "tokens did end");
}

#[tokio::test]
async fn the_token_service_works_for_skopeo_as_well() {
    let production = Distribution::start();
    let guarded = token_service(&production, usize::MAX);
    let dir = tempfile::tempdir().unwrap();
    let made = Registry::start();
    made.push("app", "v1", &image("linux/amd64", "text"));
    let (clean, _) = options();
    let layout = format!("oci:{}:v1", dir.path().join("layout").display());
    copy(&made.reference("app:v1"), &layout, &clean).await.unwrap();
    let target = format!("docker://{}/app:v1", guarded.host());
    let args = ["copy", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"];
    run("skopeo", &[&args[..], &["--dest-creds", "user:secret", &layout, &target]].concat());
    let wrong = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", "--creds", "user:wrong", &target])
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    let files = auth_file(dir.path(), &guarded.host(), GOOD);
    let (ours, _) = options_with(|settings| settings.auth_files = files);
    let read = source(&format!("{}/app:v1", guarded.host()), &ours).await.unwrap().top().await.unwrap();
    assert_eq!(digest(&read.bytes), made.tag("app", "v1").unwrap());
}

#[tokio::test]
async fn an_upload_to_a_real_registry_survives_a_cut_at_every_place() {
    let behind = Distribution::start();
    let made = Registry::start();
    let image = ImageBuilder::new().uncompressed().layer(Layer::new().file("a", &noise(9_000_000))).build();
    made.push("app", "v1", &image);
    let (layer, length) = (digest(&image.layers[0]).replace(':', "%3A"), image.layers[0].len());
    let chunk = 8 << 20;
    let whole = [0, 1, (256 << 10) - 1, 256 << 10, length - 1, length].map(|at| ("PUT", 0, at));
    let first = [0, 1, chunk - 1, chunk].map(|at| ("PATCH", 0, at));
    let last = [0, 1, length - chunk - 1, length - chunk].map(|at| ("PATCH", 1, at));
    for (number, (method, skip, at)) in whole.into_iter().chain(first).chain(last).enumerate() {
        let proxy = Registry::start_with(Behaviour::in_front_of(&behind.host()));
        let repository = format!("app{number}");
        if method == "PATCH" {
            // The configuration, which goes first, is not taken in one piece; so all goes in chunks.
            proxy.fault(Fault::new("PUT", "digest=", Kind::Status(405)).times(1));
            proxy.fault(Fault::new("PATCH", "/blobs/uploads/", Kind::CutUpload(at)).after(1 + skip).times(1));
        } else {
            proxy.fault(Fault::new("PUT", &layer, Kind::CutUpload(at)).times(1));
        }
        let (options, _) = options();
        let target = format!("{}/{repository}:v1", proxy.host());
        copy_in_parallel(&made.reference("app:v1"), &target, 1, &options).await.unwrap();
        let seen = raw(&behind.reference(&format!("{repository}:v1")));
        assert_eq!(digest(&seen), made.tag("app", "v1").unwrap(), "{method} {skip} cut after {at}");
        assert!(proxy.faults_are_used_up());
        assert!(behind.open_uploads(&repository) <= not_cancelled(&proxy), "{method} {skip} cut after {at}");
        // Read back past the proxy, every byte verified.
        let dir = tempfile::tempdir().unwrap();
        let layout = format!("oci:{}:v1", dir.path().join("layout").display());
        copy(&behind.reference(&format!("{repository}:v1")), &layout, &options).await.unwrap();
    }
}

#[tokio::test]
async fn a_real_registry_behind_random_faults_never_has_a_tag_of_something_incomplete() {
    let behind = Distribution::start();
    let made = Registry::start();
    let images = ["linux/amd64", "linux/arm64"].map(|platform| image(platform, "text"));
    let index = made.push_index("app", "v1", &images);
    let (mut succeeded, mut failed) = (0, 0);
    for seed in 0..24 {
        let proxy = Registry::start_with(Behaviour::in_front_of(&behind.host()));
        for fault in schedule(seed) {
            proxy.fault(fault);
        }
        let (options, _) = options();
        let repository = format!("app{seed}");
        let copied =
            copy_in_parallel(&made.reference("app:v1"), &format!("{}/{repository}:v1", proxy.host()), 3, &options)
                .await;
        match &copied {
            Ok(published) => {
                assert_eq!(published.digest.to_string(), index);
                succeeded += 1;
            }
            Err(error) => {
                let told = told(error);
                assert!(told.contains(&proxy.host()) && !told.contains('\n'), "seed {seed}: {told}");
                assert!(error.hint().is_some(), "seed {seed}: {told}");
                failed += 1;
            }
        }
        let tags = behind.tags(&repository);
        assert!(copied.is_err() || tags.contains(&"v1".to_owned()), "seed {seed}");
        for tag in tags {
            let dir = tempfile::tempdir().unwrap();
            let layout = format!("oci:{}:v1", dir.path().join("layout").display());
            let reference = behind.reference(&format!("{repository}:{tag}"));
            copy(&reference, &layout, &options).await.unwrap_or_else(|error| panic!("seed {seed}: {}", told(&error)));
            assert_eq!(digest(&raw(&reference)), index, "seed {seed}");
        }
        let hidden = proxy
            .log()
            .into_iter()
            .filter(|entry| entry.method == "POST" && entry.fault.as_ref().is_some_and(Kind::hides_location));
        let could_not = hidden.count() + not_cancelled(&proxy);
        assert!(behind.open_uploads(&repository) <= could_not, "seed {seed}");
    }
    assert!(succeeded > 0 && failed > 0, "{succeeded} and {failed}");
}

#[tokio::test]
async fn a_token_without_the_source_of_a_mount_uploads_instead() {
    let behind = Distribution::start();
    let guarded = token_service(&behind, usize::MAX);
    let dir = tempfile::tempdir().unwrap();
    let files = auth_file(dir.path(), &guarded.host(), GOOD);
    let (options, _) = options_with(|settings| settings.auth_files = files);
    let made = Registry::start();
    made.push("app", "v1", &image("linux/amd64", "text"));
    let (base, target) = (format!("{}/base:v1", guarded.host()), format!("{}/app:v1", guarded.host()));
    copy(&made.reference("app:v1"), &base, &options).await.unwrap();
    guarded.fault(Fault::new("POST", "mount=", Kind::DeclineMount));
    let copied = copy(&base, &target, &options).await.unwrap();
    assert_eq!((copied.mounted, copied.written), (0, 3));
    assert_eq!(behind.open_uploads("app"), 0, "the upload that was opened for the mount is the one used");
    guarded.heal();
    let mounted = copy(&base, &format!("{}/third:v1", guarded.host()), &options).await.unwrap();
    assert_eq!((mounted.mounted, mounted.written), (3, 0));
}
