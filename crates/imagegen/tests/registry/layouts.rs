use std::fs;
use std::path::Path;

use vast_testkit::image::{ImageBuilder, TestImage, digest};
use vast_testkit::registry::{Fault, Kind, Registry};

use crate::support::{copy, image, layer, noise, options, source, told};

fn made(text: &[u8]) -> TestImage {
    ImageBuilder::new().file("a", text).build()
}

fn oci(dir: &Path, rest: &str) -> String {
    format!("oci:{}{rest}", dir.display())
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_goes_into_a_layout_comes_out_again() {
    let registry = Registry::start();
    let images: Vec<_> = ["linux/amd64", "linux/arm64"]
        .into_iter()
        .map(|platform| ImageBuilder::new().platform(platform).file("p", platform.as_bytes()).build())
        .collect();
    let index = registry.push_index("app", "v1", &images);
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    for target in
        [oci(&dir.path().join("new"), ":v1"), format!("oci-archive:{}:v1", dir.path().join("a.tar").display())]
    {
        copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
        let source = source(&target, &options).await.unwrap();
        assert_eq!(source.top().await.unwrap().digest().to_string(), index, "{target}");
        let found = source.image(&"linux/arm64".parse().unwrap()).await.unwrap();
        assert_eq!(layer(&*source, &found, 0).await.unwrap(), images[1].layers[0]);
        copy(&target, &registry.reference("back:v1"), &options).await.unwrap();
        assert_eq!(registry.tag("back", "v1").as_ref(), Some(&index));
    }
    assert_eq!(files(dir.path()), ["a.tar", "new"], "nothing is left beside the targets");
    assert_eq!(files(&dir.path().join("new")), ["blobs", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn the_same_image_gives_the_same_archive() {
    let registry = Registry::start();
    registry.push("app", "v1", &made(b"1"));
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    for name in ["a", "b"] {
        let target = format!("oci-archive:{}:v1", dir.path().join(name).display());
        copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
    }
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), fs::read(dir.path().join("b")).unwrap());
}

#[tokio::test]
async fn other_names_of_a_layout_stay() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    let (one, two) = (made(b"1"), made(b"2"));
    registry.push("app", "one", &one);
    registry.push("app", "two", &two);
    copy(&registry.reference("app:one"), &oci(dir.path(), ":one"), &options).await.unwrap();
    copy(&registry.reference("app:two"), &oci(dir.path(), ":two"), &options).await.unwrap();
    copy(&registry.reference("app:two"), &oci(dir.path(), ":moved"), &options).await.unwrap();
    copy(&registry.reference("app:one"), &oci(dir.path(), ":moved"), &options).await.unwrap();
    for (name, expected) in [("one", &one), ("two", &two), ("moved", &one)] {
        let found = image(&oci(dir.path(), &format!(":{name}")), "linux/amd64", &options).await.unwrap();
        assert_eq!(found.raw.digest().to_string(), expected.digest(), "{name}");
    }
    let pinned = image(&oci(dir.path(), &format!("@{}", two.digest())), "linux/amd64", &options).await.unwrap();
    assert_eq!(pinned.raw.digest().to_string(), two.digest());
    let error = image(&oci(dir.path(), ":absent"), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("one, two, moved") || told(&error).contains("it has"), "{}", told(&error));
    let error = image(&oci(dir.path(), ""), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("name one"), "{}", told(&error));
}

#[tokio::test]
async fn writers_of_different_names_do_not_lose_each_other() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    registry.push("app", "v1", &made(b"1"));
    let copies = (0..12).map(|n| {
        let (from, to, options) = (registry.reference("app:v1"), oci(dir.path(), &format!(":v{n}")), options.clone());
        tokio::spawn(async move { copy(&from, &to, &options).await.map(drop) })
    });
    for copy in copies.collect::<Vec<_>>() {
        copy.await.unwrap().unwrap();
    }
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn a_failed_copy_leaves_no_layout_behind() {
    let registry = Registry::start();
    let made = ImageBuilder::new().file("a", &noise(2_000_000)).build();
    registry.push("app", "v1", &made);
    registry.fault(Fault::new("GET", &digest(&made.layers[0]), Kind::Corrupt));
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    for target in [oci(&dir.path().join("new"), ":v1"), format!("oci-archive:{}", dir.path().join("a.tar").display())] {
        copy(&registry.reference("app:v1"), &target, &options).await.unwrap_err();
    }
    assert_eq!(files(dir.path()), Vec::<String>::new());

    let existing = dir.path().join("existing");
    registry.heal();
    copy(&registry.reference("app:v1"), &oci(&existing, ":v1"), &options).await.unwrap();
    let before = fs::read(existing.join("index.json")).unwrap();
    let other = ImageBuilder::new().file("b", &noise(1_000_000)).build();
    registry.push("app", "v2", &other);
    registry.fault(Fault::new("GET", &digest(&other.layers[0]), Kind::Corrupt));
    copy(&registry.reference("app:v2"), &oci(&existing, ":v1"), &options).await.unwrap_err();
    assert_eq!(fs::read(existing.join("index.json")).unwrap(), before);
    assert_eq!(files(&existing.join("blobs/sha256")).len(), 3);
    assert_eq!(files(&existing), ["blobs", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn damaged_and_missing_blobs_are_named() {
    let registry = Registry::start();
    let made = made(b"1");
    registry.push("app", "v1", &made);
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    let reference = oci(dir.path(), ":v1");
    copy(&registry.reference("app:v1"), &reference, &options).await.unwrap();
    let hex = digest(&made.layers[0]).replace("sha256:", "");
    let path = dir.path().join("blobs/sha256").join(hex);
    let mut content = fs::read(&path).unwrap();
    content[3] ^= 1;
    fs::write(&path, content).unwrap();
    let error = copy(&reference, &registry.reference("to:v1"), &options).await.unwrap_err();
    assert!(told(&error).contains("not what it claims to be"), "{}", told(&error));
    fs::remove_file(&path).unwrap();
    let error = copy(&reference, &registry.reference("to:v1"), &options).await.unwrap_err();
    assert!(told(&error).contains("is missing"), "{}", told(&error));
    assert_eq!((registry.tags("to"), registry.open_uploads()), (Vec::new(), 0));
}

#[tokio::test]
async fn places_that_are_no_layouts_are_refused() {
    let registry = Registry::start();
    registry.push("app", "v1", &made(b"1"));
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options();
    let error = image(&oci(&dir.path().join("absent"), ""), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("no OCI layout"), "{}", told(&error));
    fs::write(dir.path().join("precious"), "x").unwrap();
    let error = copy(&registry.reference("app:v1"), &oci(dir.path(), ""), &options).await.unwrap_err();
    assert!(told(&error).contains("other things"), "{}", told(&error));
    let file = dir.path().join("precious");
    let error = copy(&registry.reference("app:v1"), &oci(&file, ""), &options).await.unwrap_err();
    assert!(told(&error).contains("not a directory"), "{}", told(&error));
    let archive = format!("docker-archive:{}", dir.path().join("x.tar").display());
    let error = copy(&registry.reference("app:v1"), &archive, &options).await.unwrap_err();
    assert!(error.hint().unwrap().contains("oci-archive:"), "{}", told(&error));
    assert_eq!(files(dir.path()), ["precious"]);
}
