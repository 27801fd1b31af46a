use vast_testkit::image::{ImageBuilder, digest};
use vast_testkit::registry::Registry;

use crate::support::{copy, image, layer, noise, options, source, told};

const ABSENT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn images_of_both_dialects_are_read() {
    let registry = Registry::start();
    let (options, _) = options();
    for (tag, made) in [
        ("oci", ImageBuilder::new().file("a", b"1").build()),
        ("docker", ImageBuilder::new().docker().file("a", b"1").build()),
    ] {
        registry.push("team/app", tag, &made);
        let reference = registry.reference(&format!("team/app:{tag}"));
        let source = source(&reference, &options).await.unwrap();
        let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
        assert_eq!(image.raw.digest().to_string(), made.digest());
        assert_eq!(image.raw.media_type, made.media_type);
        assert_eq!(image.raw_config, made.config);
        assert_eq!(layer(&*source, &image, 0).await.unwrap(), made.layers[0]);
        assert_eq!(source.blob_size(&image.manifest.layers()[0]).await.unwrap(), Some(made.layers[0].len() as u64));
    }
}

#[tokio::test]
async fn the_platform_is_chosen_from_the_index() {
    let registry = Registry::start();
    let images: Vec<_> = ["linux/amd64", "linux/arm64"]
        .into_iter()
        .map(|platform| ImageBuilder::new().platform(platform).file("p", platform.as_bytes()).build())
        .collect();
    registry.push_index("app", "v1", &images);
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    for made in &images {
        let found = image(&reference, &made.platform, &options).await.unwrap();
        assert_eq!(found.raw.digest().to_string(), made.digest());
    }
    let error = image(&reference, "linux/riscv64", &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains(&reference) && told.contains("linux/riscv64"), "{told}");
    assert!(told.contains("linux/amd64, linux/arm64"), "{told}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_single_image_of_another_platform_is_refused() {
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    let error = image(&registry.reference("app:v1"), "linux/arm64", &options).await.unwrap_err();
    assert!(told(&error).contains("it has linux/amd64"), "{}", told(&error));
}

#[tokio::test]
async fn a_digest_decides_what_is_read_and_the_tag_beside_it_does_not() {
    let registry = Registry::start();
    let (old, new) = (ImageBuilder::new().file("v", b"1").build(), ImageBuilder::new().file("v", b"2").build());
    registry.push("app", "v", &old);
    registry.push("app", "v", &new);
    let (options, _) = options();
    let pinned = registry.reference(&format!("app:v@{}", old.digest()));
    let found = image(&pinned, "linux/amd64", &options).await.unwrap();
    assert_eq!(found.raw.digest().to_string(), old.digest());
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    for (reference, part) in [
        ("app:v2".to_owned(), "no tag v2 in app"),
        ("other:v1".to_owned(), "no tag v1 in other"),
        (format!("app@{ABSENT}"), "no manifest sha256:e3b0"),
    ] {
        let reference = registry.reference(&reference);
        let error = image(&reference, "linux/amd64", &options).await.unwrap_err();
        let told = told(&error);
        assert!(told.contains(&reference) && told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn content_of_another_digest_is_never_handed_out() {
    let registry = Registry::start();
    let made = ImageBuilder::new().file("a", &noise(100_000)).build();
    registry.push("app", "v1", &made);
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    let source = source(&reference, &options).await.unwrap();
    let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
    let length = made.layers[0].len();
    let mut altered = made.layers[0].clone();
    altered[50_000] ^= 1;
    for (content, part) in [
        (altered, "its content has the digest"),
        (made.layers[0][..length - 1].to_vec(), "ended after"),
        ([&made.layers[0][..], b"more"].concat(), "longer than"),
    ] {
        registry.corrupt_blob(&digest(&made.layers[0]), &content);
        let error = layer(&*source, &image, 0).await.unwrap_err();
        let told = told(&error);
        assert!(told.contains(&reference) && told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_stands_for_the_same_image_until_the_end() {
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().file("v", b"1").build());
    let (options, _) = options();
    let source = source(&registry.reference("app:v1"), &options).await.unwrap();
    let before = source.top().await.unwrap();
    registry.push("app", "v1", &ImageBuilder::new().file("v", b"2").build());
    assert_eq!(source.top().await.unwrap(), before);
    assert_eq!(registry.count("GET", "/manifests/v1"), 1);
}

#[tokio::test]
async fn an_index_that_lies_about_a_manifests_size_is_refused() {
    let registry = Registry::start();
    let made = ImageBuilder::new().build();
    registry.push("app", "one", &made);
    let mut entry = made.descriptor();
    entry["size"] = serde_json::json!(made.manifest.len() + 1);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    registry.push_manifest("app", Some("v1"), "application/vnd.oci.image.index.v1+json", index.as_bytes());
    let (options, _) = options();
    let error = image(&registry.reference("app:v1"), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("where its index says"), "{}", told(&error));
}

#[tokio::test]
async fn hostile_manifests_are_refused() {
    let registry = Registry::start();
    let (options, _) = options();
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let huge = vec![b' '; 5 << 20];
    for (media_type, content, part) in [
        (oci, &b"{"[..], "manifest"),
        (oci, br#"{"schemaVersion":1}"#, "schema version"),
        (
            oci,
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
            "media type",
        ),
        (oci, br#"{"schemaVersion":2,"manifests":[]}"#, "delivered as an image"),
        (
            index,
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
            "media type",
        ),
        (oci, &huge, "more than the"),
    ] {
        registry.push_manifest("app", Some("v1"), media_type, content);
        let error = image(&registry.reference("app:v1"), "linux/amd64", &options).await.unwrap_err();
        assert!(told(&error).contains(part), "{}", told(&error));
        let error = copy(&registry.reference("app:v1"), &registry.reference("to:v1"), &options).await.unwrap_err();
        assert!(told(&error).contains(part), "{}", told(&error));
        assert_eq!(registry.tags("to"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn many_blobs_may_be_open_and_read_in_any_order() {
    let registry = Registry::start();
    let builder = (0..12).fold(ImageBuilder::new().uncompressed(), |builder, n| {
        builder.layer(vast_testkit::image::Layer::new().file(&format!("f{n}"), &noise(600_000 + n)))
    });
    let made = builder.build();
    registry.push("app", "v1", &made);
    // Fewer connections than open blobs: one that was opened but not read must not keep one.
    let (options, _) = crate::support::options_with(|settings| settings.connections = 2);
    let source = source(&registry.reference("app:v1"), &options).await.unwrap();
    let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
    let mut readers = Vec::new();
    for descriptor in image.manifest.layers() {
        readers.push(source.open_blob(descriptor).await.unwrap());
    }
    let read = tokio::task::spawn_blocking(move || {
        readers.reverse();
        readers
            .into_iter()
            .map(|mut reader| std::io::copy(&mut reader, &mut std::io::sink()).unwrap())
            .collect::<Vec<_>>()
    });
    let sizes: Vec<u64> = made.layers.iter().rev().map(|layer| layer.len() as u64).collect();
    assert_eq!(read.await.unwrap(), sizes);
}
