//! `hello`, extended and rebased in a registry and booted from there: what was never rebuilt runs as what was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vast_tests::container::Container;
use vast_tests::images::{Unpacked, unpack};
use vast_tests::instance;
use vast_tests::prepared::{Prepared, prepare};
use vast_tests::program;
use vast_tests::registry::Registry;

/// A registry with what was prepared, and a folder for what is made of it.
struct Place {
    prepared: Prepared,
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Place {
    fn new() -> Self {
        let (prepared, folder) = (prepare().unwrap(), tempfile::tempdir().unwrap());
        program::run(Command::new("cp").arg("-a").arg(prepared.registry.join("blobs")).arg(folder.path())).unwrap();
        let registry = Registry::start(folder.path()).unwrap();
        Self { prepared, folder, registry }
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    fn imagegen(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.prepared.builder.binary("vast-imagegen"));
        // Nothing is remembered from when the images were built: what is known comes from the registry.
        program::output(command.args(arguments).env("HOME", self.folder.path()).env_remove("XDG_CACHE_HOME")).unwrap()
    }

    fn overlay(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn unpack(&self, reference: &str) -> Unpacked {
        unpack(reference, &self.folder.path().join(reference.replace(['/', ':'], "-"))).unwrap()
    }
}

/// Boots an image, waits until `hello` answers, and compares the environment hash inside with what is recorded.
fn boot_and_compare(place: &Place, image: &Unpacked, reference: &str, name: &str) {
    let mut container = Container::boot(image, &place.folder.path().join(name), &instance::options(&[])).unwrap();
    instance::until_served(&mut container).unwrap();
    let inside = program::output(&mut container.command("/opt/instance-tools/bin/vast-envhash")).unwrap();
    let written = fs::read_to_string(container.path("/.env_hash")).unwrap();
    assert_eq!(inside.trim(), written.trim());
    let recorded: serde_json::Value = serde_json::from_str(&place.imagegen(&["environment", reference])).unwrap();
    assert_eq!(recorded["hash"], inside.trim());
}

fn layers(reference: &str) -> Vec<String> {
    let text = program::output(
        Command::new("skopeo").args(["inspect", "--tls-verify=false"]).arg(format!("docker://{reference}")),
    );
    let image: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
    image["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o7777
}

#[test]
fn an_extended_image_boots_with_the_overlay_where_it_belongs_and_a_true_environment_hash() {
    let place = Place::new();
    let site = fs::read_dir(place.prepared.hello.rootfs.join("venv/main/lib")).unwrap();
    let python = site.filter_map(Result::ok).find(|entry| entry.file_name().to_string_lossy().starts_with("python3."));
    let python = python.unwrap().file_name().into_string().unwrap();
    let metadata = format!("venv/main/lib/{python}/site-packages/grafted-1.0.dist-info/METADATA");
    let overlay = place.overlay(
        "overlay",
        &[
            ("lib/grafted/library", "l"),
            ("root/.grafted", "r"),
            ("tmp/grafted", "t"),
            ("var/run/grafted", "v"),
            (&metadata, "Metadata-Version: 2.1\nName: grafted\nVersion: 1.0\n"),
        ],
    );
    let target = place.at("hello:extended");
    place.imagegen(&["extend", &place.at("hello:latest"), "--overlay", overlay.to_str().unwrap(), "--to", &target]);
    assert_eq!(layers(&target)[..layers(&place.at("hello:latest")).len()], layers(&place.at("hello:latest")));
    let image = place.unpack(&target);
    assert!(fs::symlink_metadata(image.rootfs.join("lib")).unwrap().is_symlink());
    for path in ["usr/lib/grafted/library", "root/.grafted", "tmp/grafted", "run/grafted"] {
        assert!(image.rootfs.join(path).is_file(), "{path}");
    }
    let before = &place.prepared.hello.rootfs;
    for path in ["root", "tmp", "run", "usr/lib"] {
        assert_eq!(mode(&image.rootfs.join(path)), mode(&before.join(path)), "{path}");
    }
    let hash = |root: &Path| fs::read_to_string(root.join(".env_hash")).unwrap();
    assert_ne!(hash(&image.rootfs), hash(before));
    boot_and_compare(&place, &image, &target, "extended");
}

#[test]
fn a_fix_of_the_base_reaches_hello_by_a_rebase_which_boots() {
    let place = Place::new();
    let fix = place.overlay("fix", &[("opt/instance-tools/share/fix", "fixed"), ("etc/vast-fix", "fixed")]);
    let (base, fixed) = (place.at("base-image:bookworm"), place.at("base-image:fixed"));
    place.imagegen(&["extend", &base, "--overlay", fix.to_str().unwrap(), "--to", &fixed]);
    let (hello, target) = (place.at("hello:latest"), place.at("hello:rebased"));
    let table = place.imagegen(&["rebase", &hello, "--onto", &fixed, "--check"]);
    assert!(table.contains("possible"), "{table}");
    place.imagegen(&["rebase", &hello, "--onto", &fixed, "--to", &target]);
    let (bases, own) = (layers(&fixed), layers(&hello));
    let expected = [&bases[..], &own[layers(&base).len()..]].concat();
    assert_eq!(layers(&target), expected);
    let image = place.unpack(&target);
    assert_eq!(fs::read_to_string(image.rootfs.join("etc/vast-fix")).unwrap(), "fixed");
    boot_and_compare(&place, &image, &target, "rebased");
}
