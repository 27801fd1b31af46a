use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use vast_testkit::image::{ImageBuilder, Layer, TestImage, gzip};
use vast_testkit::registry::Registry;

use crate::support::{copy, layer, options, source, told};

fn made(text: &[u8]) -> TestImage {
    ImageBuilder::new().uncompressed().layer(Layer::new().file("a", text)).layer(Layer::new().file("b", text)).build()
}

/// An archive as `docker save` before version 25 writes it: layers in folders, a repeated one as a link.
fn legacy(dir: &Path, images: &[(&str, &TestImage)]) -> PathBuf {
    let mut archive = Layer::new();
    let mut entries = Vec::new();
    for (number, (tag, image)) in images.iter().enumerate() {
        archive = archive.file(&format!("{number}.json"), &image.config);
        let mut layers = Vec::new();
        for (n, layer) in image.layers.iter().enumerate() {
            let path = format!("{number}-{n}/layer.tar");
            archive = archive.folder(&format!("{number}-{n}")).file(&format!("{number}-{n}/real.tar"), layer);
            archive = archive.link(&path, &format!("../{number}-{n}/real.tar"));
            layers.push(path);
        }
        entries.push(json!({"Config": format!("{number}.json"), "RepoTags": [tag], "Layers": layers}));
    }
    archive = archive.file("manifest.json", json!(entries).to_string().as_bytes());
    let path = dir.join("saved.tar");
    fs::write(&path, archive.tar()).unwrap();
    path
}

#[tokio::test]
async fn a_saved_image_is_read_with_its_layers_as_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let made = made(b"1");
    let path = legacy(dir.path(), &[("team/app:v1", &made)]);
    let (options, _) = options();
    let source = source(&format!("docker-archive:{}", path.display()), &options).await.unwrap();
    let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
    assert_eq!(image.raw_config, made.config);
    for number in [0, 1] {
        assert_eq!(layer(&*source, &image, number).await.unwrap(), made.layers[number]);
        assert!(image.manifest.layers()[number].media_type().to_string().ends_with("layer.v1.tar"));
    }
    let registry = Registry::start();
    copy(&format!("docker-archive:{}", path.display()), &registry.reference("app:v1"), &options).await.unwrap();
    assert_eq!(registry.tag("app", "v1"), Some(image.raw.digest().to_string()));
}

#[tokio::test]
async fn images_of_an_archive_are_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (made(b"1"), made(b"2"));
    let path = legacy(dir.path(), &[("debian:12", &one), ("ghcr.io/team/app:v2", &two)]);
    let (options, _) = options();
    for (name, expected) in [("debian:12", &one), ("docker.io/library/debian:12", &one), ("ghcr.io/team/app:v2", &two)]
    {
        let source = source(&format!("docker-archive:{}:{name}", path.display()), &options).await.unwrap();
        let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
        assert_eq!(image.raw_config, expected.config, "{name}");
    }
    for (name, part) in [("", "name one"), (":alpine", "it has debian:12, ghcr.io/team/app:v2")] {
        let error = source(&format!("docker-archive:{}{name}", path.display()), &options).await.err().unwrap();
        assert!(told(&error).contains(part), "{}", told(&error));
    }
}

#[tokio::test]
async fn compressed_layers_and_compressed_archives_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let plain = made(b"1");
    // As newer versions save: the layers compressed, and the whole piped through gzip.
    let packed = TestImage { layers: plain.layers.iter().map(|layer| gzip(layer)).collect(), ..plain.clone() };
    let path = legacy(dir.path(), &[("app:v1", &packed)]);
    fs::write(&path, gzip(&fs::read(&path).unwrap())).unwrap();
    let (options, _) = options();
    let source = source(&format!("docker-archive:{}", path.display()), &options).await.unwrap();
    let image = source.image(&"linux/amd64".parse().unwrap()).await.unwrap();
    assert!(image.manifest.layers()[0].media_type().to_string().ends_with("tar+gzip"));
    assert_eq!(layer(&*source, &image, 0).await.unwrap(), packed.layers[0]);
}

#[tokio::test]
async fn damage_and_foreign_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    let (good, mut damaged) = (made(b"1"), made(b"1"));
    damaged.layers[0][600] ^= 1;
    assert_ne!(good.layers[0], damaged.layers[0]);
    let path = legacy(dir.path(), &[("app:v1", &damaged)]);
    let reference = format!("docker-archive:{}", path.display());
    let damaged = source(&reference, &options).await.unwrap();
    let image = damaged.image(&"linux/amd64".parse().unwrap()).await.unwrap();
    let error = layer(&*damaged, &image, 0).await.unwrap_err();
    assert!(told(&error).contains("not what it claims"), "{}", told(&error));

    fs::write(&path, Layer::new().file("x", b"y").tar()).unwrap();
    let error = source(&reference, &options).await.err().unwrap();
    assert!(told(&error).contains("not from `docker save`"), "{}", told(&error));
    fs::write(&path, b"no archive at all, but longer than one block would be ".repeat(20)).unwrap();
    source(&reference, &options).await.err().unwrap();
    fs::write(&path, b"").unwrap();
    source(&reference, &options).await.err().unwrap();
}
