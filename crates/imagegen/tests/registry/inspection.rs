use std::sync::Arc;

use serde_json::json;
use vast_imagegen::source::ImageSource;
use vast_imagegen::verify::{Check, Options, Verdict, verify};
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest, gzip};
use vast_testkit::registry::{Fault, Kind, Registry};

use crate::support::{options, source, told};

async fn verdict(registry: &Registry, deep: bool) -> Verdict {
    let (options, _) = options();
    let source: Arc<dyn ImageSource> = Arc::from(source(&registry.reference("app:v1"), &options).await.unwrap());
    verify(&source, &Options { deep, ..Options::default() }).await.unwrap()
}

/// The findings that the guide's requirements do not account for.
fn damage(verdict: &Verdict) -> Vec<(Check, &str)> {
    let guide = [Check::Labels, Check::Entrypoint, Check::EnvHash];
    verdict
        .findings
        .iter()
        .filter(|finding| !guide.contains(&finding.check))
        .map(|finding| (finding.check, finding.message.as_str()))
        .collect()
}

fn made() -> TestImage {
    ImageBuilder::new().file("a", &[1; 10_000]).build()
}

/// The image with another configuration, and a manifest that names it.
fn with_config(image: &TestImage, change: impl FnOnce(&mut serde_json::Value)) -> TestImage {
    let mut config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    change(&mut config);
    let config = serde_json::to_vec(&config).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["config"]["digest"] = json!(digest(&config));
    manifest["config"]["size"] = json!(config.len());
    TestImage { config, manifest: serde_json::to_vec(&manifest).unwrap(), ..image.clone() }
}

#[tokio::test]
async fn a_sound_image_has_no_damage_at_either_depth() {
    let registry = Registry::start();
    registry.push("app", "v1", &made());
    for deep in [false, true] {
        assert_eq!(damage(&verdict(&registry, deep).await), []);
    }
}

#[tokio::test]
async fn missing_and_short_layers_are_found_without_reading_them() {
    let registry = Registry::start();
    let image = made();
    let layer = digest(&image.layers[0]);
    registry.push("app", "v1", &image);
    registry.corrupt_blob(&layer, b"short");
    let found = verdict(&registry, false).await;
    assert!(
        matches!(damage(&found)[..], [(Check::Layer, message)] if message.contains("5 bytes instead of")),
        "{found:?}"
    );
    assert_eq!(registry.count("GET", &layer), 0);

    let registry = Registry::start();
    registry.push_blob("app", &image.config);
    registry.push_manifest("app", Some("v1"), &image.media_type, &image.manifest);
    let found = verdict(&registry, false).await;
    assert!(matches!(damage(&found)[..], [(Check::Layer, message)] if message.contains("is missing")), "{found:?}");
    let found = verdict(&registry, true).await;
    assert!(matches!(damage(&found)[..], [(Check::Layer, message)] if message.contains("no blob")), "{found:?}");
}

#[tokio::test]
async fn altered_layers_are_found_by_reading_them() {
    let registry = Registry::start();
    let image = made();
    registry.push("app", "v1", &image);
    let mut altered = image.layers[0].clone();
    *altered.last_mut().unwrap() ^= 1;
    registry.corrupt_blob(&digest(&image.layers[0]), &altered);
    assert_eq!(damage(&verdict(&registry, false).await), []);
    let found = verdict(&registry, true).await;
    assert!(matches!(damage(&found)[..], [(Check::Layer, message)] if message.contains("has the digest")), "{found:?}");
}

#[tokio::test]
async fn layers_that_do_not_unpack_or_unpack_to_something_else_are_found() {
    let registry = Registry::start();
    let garbage = TestImage { layers: vec![b"\x1f\x8bgarbage".to_vec()], ..made() };
    let mut manifest: serde_json::Value = serde_json::from_slice(&garbage.manifest).unwrap();
    manifest["layers"][0]["digest"] = json!(digest(&garbage.layers[0]));
    manifest["layers"][0]["size"] = json!(garbage.layers[0].len());
    let garbage = TestImage { manifest: serde_json::to_vec(&manifest).unwrap(), ..garbage };
    registry.push("app", "v1", &garbage);
    let found = verdict(&registry, true).await;
    assert!(matches!(damage(&found)[..], [(Check::Layer, _)]), "{found:?}");

    let other = format!("sha256:{}", "0".repeat(64));
    let wrong = with_config(&made(), |config| config["rootfs"]["diff_ids"][0] = json!(other));
    registry.push("app", "v1", &wrong);
    let found = verdict(&registry, true).await;
    assert!(matches!(damage(&found)[..], [(Check::DiffId, message)] if message.contains(&other)), "{found:?}");
}

#[tokio::test]
async fn configuration_and_manifest_have_to_agree() {
    let registry = Registry::start();
    let image = with_config(&made(), |config| config["rootfs"]["diff_ids"] = json!([]));
    registry.push("app", "v1", &image);
    let found = verdict(&registry, false).await;
    assert!(
        matches!(damage(&found)[..], [(Check::Configuration, message)] if message.contains("0 diff ids")),
        "{found:?}"
    );
    let image = with_config(&made(), |config| config["history"] = json!([{"created_by": "a"}, {"created_by": "b"}]));
    registry.push("app", "v1", &image);
    let found = verdict(&registry, false).await;
    assert!(
        matches!(damage(&found)[..], [(Check::Configuration, message)] if message.contains("history")),
        "{found:?}"
    );
}

#[tokio::test]
async fn an_index_has_to_tell_the_truth_about_its_images() {
    let registry = Registry::start();
    let image = made();
    registry.push("app", "one", &image);
    let mut entry = image.descriptor();
    entry["platform"]["architecture"] = json!("arm64");
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    registry.push_manifest("app", Some("v1"), "application/vnd.oci.image.index.v1+json", index.as_bytes());
    let found = verdict(&registry, false).await;
    assert!(matches!(damage(&found)[..], [(Check::Platform, message)] if message.contains("linux/arm64")), "{found:?}");

    let mut entry = image.descriptor();
    entry["digest"] = json!(digest(b"nothing"));
    let index = json!({"schemaVersion": 2, "manifests": [entry, image.descriptor()]}).to_string();
    registry.push_manifest("app", Some("v1"), "application/vnd.oci.image.index.v1+json", index.as_bytes());
    let found = verdict(&registry, false).await;
    assert!(matches!(damage(&found)[..], [(Check::Manifest, message)] if message.contains("no manifest")), "{found:?}");
    assert_eq!(found.platforms.len(), 1, "the other image is looked at all the same");
}

#[tokio::test]
async fn the_environment_hash_is_the_last_one_that_the_layers_leave() {
    for (layers, part) in [
        (vec![Layer::new().file("a", b"1")], "is missing"),
        (
            vec![Layer::new().file(".env_hash", b"000000000000\n"), Layer::new().file(".wh..env_hash", b"")],
            "is missing",
        ),
        (vec![Layer::new().folder(".env_hash")], "no file"),
        (vec![Layer::new().file(".env_hash", b"not a hash\n")], "`not a hash`"),
        (
            vec![Layer::new().file(".env_hash", b"bad"), Layer::new().file("./.env_hash", b"000000000000")],
            "says 000000000000",
        ),
    ] {
        let registry = Registry::start();
        let image = layers.into_iter().fold(ImageBuilder::new(), ImageBuilder::layer).build();
        registry.push("app", "v1", &image);
        let found = verdict(&registry, true).await;
        let messages: Vec<&str> = found
            .findings
            .iter()
            .filter(|finding| finding.check == Check::EnvHash)
            .map(|finding| finding.message.as_str())
            .collect();
        assert!(matches!(messages[..], [message] if message.contains(part)), "{part}: {messages:?}");
    }
}

#[tokio::test]
async fn a_registry_that_fails_is_an_error_and_not_a_verdict() {
    let registry = Registry::start();
    registry.push("app", "v1", &made());
    for (method, deep) in [("HEAD", false), ("GET", true)] {
        registry.heal();
        registry.fault(Fault::new(method, "/blobs/", Kind::Status(503)));
        let (options, _) = options();
        let source: Arc<dyn ImageSource> = Arc::from(source(&registry.reference("app:v1"), &options).await.unwrap());
        let error = verify(&source, &Options { deep, ..Options::default() }).await.unwrap_err();
        assert!(told(&error).contains("503"), "{}", told(&error));
    }
}

#[tokio::test]
async fn zstd_and_uncompressed_layers_unpack_as_well() {
    let tar = Layer::new().file("a", &[1; 10_000]).tar();
    for blob in [tar.clone(), gzip(&tar), zstd::encode_all(&tar[..], 3).unwrap()] {
        let registry = Registry::start();
        let mut image = ImageBuilder::new().uncompressed().layer(Layer::new().file("a", &[1; 10_000])).build();
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        manifest["layers"][0]["digest"] = json!(digest(&blob));
        manifest["layers"][0]["size"] = json!(blob.len());
        image.manifest = serde_json::to_vec(&manifest).unwrap();
        image.layers = vec![blob];
        registry.push("app", "v1", &image);
        assert_eq!(damage(&verdict(&registry, true).await), []);
    }
}
