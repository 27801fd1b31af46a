//! Files that differ, beside those of the unpacked images.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Logged, Registry};

use super::place::{code, imagegen, skopeo, stderr};

/// Two images with everything that a layer can do to those below it.
fn hostile_trees() -> [TestImage; 2] {
    let base = || {
        Layer::new()
            .folder("usr")
            .folder("usr/lib")
            .link("lib", "usr/lib")
            .file("usr/lib/kept", b"kept")
            .file("usr/lib/other", b"one")
            .folder("d")
            .file("d/gone", b"1")
            .file("d/stays", b"1")
            .folder("d/sub")
            .file("d/sub/file", b"1")
            .folder("opaque")
            .file("opaque/before", b"1")
            .file("replaced", b"1")
            .folder_of_mode("tmp", 0o1777)
    };
    let one =
        ImageBuilder::new().layer(base()).layer(Layer::new().file("only-one", b"1").hard_link("hard", "usr/lib/kept"));
    let other = ImageBuilder::new()
        .layer(base())
        .layer(
            Layer::new()
                .file("d/.wh.gone", b"")
                .file("d/.wh.sub", b"")
                .file("opaque/.wh..wh..opq", b"")
                .file("opaque/new", b"n"),
        )
        .layer(
            Layer::new().folder("replaced").file("replaced/x", b"x").file("lib/other", b"two").link("link", "d/stays"),
        )
        .layer(Layer::new().folder_of_mode("tmp", 0o755).hard_link("hard", "usr/lib/other"));
    [one.build(), other.build()]
}

/// Everything below a folder, as `diff -r --no-dereference` and `stat` would see it.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_symlink() {
                format!("link {}", std::fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                left.push(path.clone());
                format!("directory {:o}", metadata.permissions().mode() & 0o7777)
            } else {
                format!("file {:o} {:?}", metadata.permissions().mode() & 0o7777, std::fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    found
}

#[test]
fn the_files_are_those_that_differ_when_both_images_are_unpacked() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut roots = Vec::new();
    for (image, tag) in hostile_trees().iter().zip(["one", "other"]) {
        registry.push("app", tag, image);
        let folder = dir.path().join(tag);
        std::fs::create_dir(&folder).unwrap();
        let layout = format!("{}:i", folder.join("layout").display());
        skopeo(&[&format!("docker://{}", registry.reference(&format!("app:{tag}"))), &format!("oci:{layout}")]);
        let bundle = folder.join("bundle");
        let unpacked = Command::new("umoci").args(["unpack", "--rootless", "--image", &layout]).arg(&bundle).output();
        let unpacked = unpacked.expect("umoci runs; `cargo xtask test` installs it");
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        roots.push(listing(&bundle.join("rootfs")));
    }
    let [one, other] = &roots[..] else { panic!() };
    let paths: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    let expected: BTreeMap<String, &str> = paths
        .into_iter()
        .filter(|path| one.get(*path) != other.get(*path))
        .map(|path| {
            let kind = match (one.get(path), other.get(path)) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            };
            (path.display().to_string(), kind)
        })
        .collect();
    assert!(expected.len() >= 11, "{expected:?}");
    let before = registry.log().len();
    let names = ["app:one", "app:other"].map(|name| registry.reference(name));
    let output = imagegen(dir.path(), &["diff", &names[0], &names[1], "--only", "files", "--json"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = found["platforms"][0]["files"].as_array().unwrap();
    let found: BTreeMap<String, &str> =
        files.iter().map(|file| (file["path"].as_str().unwrap().to_owned(), file["kind"].as_str().unwrap())).collect();
    assert_eq!(found, expected);
    // The shared layer once, the others once each.
    let layers: BTreeSet<String> =
        hostile_trees().iter().flat_map(|image| &image.layers).map(|layer| digest(layer)).collect();
    let log = &registry.log()[before..];
    for layer in &layers {
        let fetched = |entry: &&Logged| entry.method == "GET" && entry.target.ends_with(&format!("/blobs/{layer}"));
        assert_eq!(log.iter().filter(fetched).count(), 1, "{layer}");
    }
    assert_eq!(layers.len(), 5);
}
