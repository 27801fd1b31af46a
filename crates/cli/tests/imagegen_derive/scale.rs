//! Many: platforms, layers, images. The registry is one that counts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use vast_testkit::registry::{Behaviour, Distribution, Registry};

use super::place::{Place, layers, tool};

const FOUR: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"];

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

/// `count` layers with a file each, and one that all of them write.
fn many_layers(count: usize) -> (String, Vec<(String, String)>) {
    let mut dockerfile = "FROM scratch\n".to_owned();
    let mut files = Vec::new();
    for number in 0..count {
        writeln!(dockerfile, "COPY layer-{number} /").unwrap();
        files.push((format!("layer-{number}/opt/{number}"), number.to_string()));
        files.push((format!("layer-{number}/opt/last"), number.to_string()));
    }
    (dockerfile, files)
}

#[test]
fn an_image_of_a_hundred_and_twenty_layers_is_built_extended_copied_rebased_and_read_by_others() {
    const LAYERS: usize = 120;
    let (place, registry) = (Place::new(), Distribution::start());
    let at = |name: &str| registry.reference(name);
    let (dockerfile, mut files) = many_layers(LAYERS);
    place.build(&dockerfile, &files, &["linux/amd64"], &at("base:1"));
    files[7].1 = "mended".to_owned();
    files[6].1 = "mended too".to_owned();
    place.build(&dockerfile, &files, &["linux/amd64"], &at("base:2"));
    fs::create_dir_all(place.dir.path().join("overlay/opt")).unwrap();
    fs::write(place.dir.path().join("overlay/opt/added"), "added").unwrap();
    place.printed(&["extend", &at("base:1"), "--overlay", "overlay", "--to", &at("app:1")]);
    place.printed(&["rebase", &at("app:1"), "--from", &at("base:1"), "--onto", &at("base:2"), "--to", &at("app:2")]);
    place.printed(&["copy", &at("app:2"), &at("copied:2")]);
    assert_eq!(layers("amd64", &at("copied:2")).len(), LAYERS + 1);
    let root = place.unpacked(&at("copied:2"));
    assert_eq!(read(&root, "opt/last"), (LAYERS - 1).to_string());
    assert_eq!(read(&root, "opt/3"), "mended too");
    assert_eq!(read(&root, "opt/added"), "added");
    assert_eq!(fs::read_dir(root.join("opt")).unwrap().count(), LAYERS + 2);
}

#[test]
fn four_platforms_stay_four_whatever_is_done_to_them() {
    let (place, registry) = (Place::new(), Distribution::start());
    let at = |name: &str| registry.reference(name);
    let file = |content: &str| vec![("root/etc/conf".to_owned(), content.to_owned())];
    for (tag, content) in [("1", "bug"), ("2", "mended")] {
        place.build("FROM scratch\nCOPY root /\n", &file(content), &FOUR, &at(&format!("base:{tag}")));
    }
    fs::create_dir_all(place.dir.path().join("overlay/opt")).unwrap();
    fs::write(place.dir.path().join("overlay/opt/added"), "added").unwrap();
    place.printed(&["extend", &at("base:1"), "--overlay", "overlay", "--to", &at("app:1")]);
    // Taken apart and put together again.
    let parts: Vec<String> = FOUR
        .iter()
        .map(|platform| {
            let part = at(&format!("part:{}", platform.replace('/', "-")));
            place.printed(&["copy", "--platform", platform, &at("app:1"), &part]);
            part
        })
        .collect();
    let merged = at("merged:1");
    let merge = ["merge", "-t", &merged].into_iter().chain(parts.iter().map(String::as_str));
    place.printed(&merge.collect::<Vec<_>>());
    place.printed(&["rebase", &merged, "--from", &at("base:1"), "--onto", &at("base:2"), "--to", &at("rebased:1")]);
    place.printed(&["promote", &at("rebased:1"), &at("production:1")]);
    let arches = ["amd64", "arm64", "arm/v7", "riscv64"];
    for arch in arches {
        let [base, mended, app, rebased] =
            ["base:1", "base:2", "app:1", "production:1"].map(|name| layers(arch, &at(name)));
        assert_eq!(app[..1], base, "{arch}");
        assert_eq!((&rebased[..1], &rebased[1..]), (&mended[..], &app[1..]), "{arch}");
    }
    let image = format!("docker://{}", at("production:1"));
    let index: Value =
        serde_json::from_slice(&tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &image])).unwrap();
    let platforms: Vec<String> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let platform = &entry["platform"];
            let variant = platform["variant"].as_str().map_or_else(String::new, |variant| format!("/{variant}"));
            format!("linux/{}{variant}", platform["architecture"].as_str().unwrap())
        })
        .collect();
    assert_eq!(platforms, FOUR);
}

#[test]
fn two_hundred_images_take_a_mended_base_in_one_run_over_a_few_connections() {
    const IMAGES: usize = 200;
    let (place, registry) = (Place::new(), Registry::start());
    let counting = Registry::start_with(Behaviour::in_front_of(&registry.host()));
    let at = |name: &str| registry.reference(name);
    let root = |content: &str| vec![("root/etc/conf".to_owned(), content.to_owned())];
    for (tag, content) in [("1", "bug"), ("2", "mended")] {
        place.build("FROM scratch\nCOPY root /\n", &root(content), &["linux/amd64"], &at(&format!("base:{tag}")));
    }
    let mut list = String::new();
    for number in 0..IMAGES {
        let overlay = place.dir.path().join("overlay/opt/number");
        fs::create_dir_all(overlay.parent().unwrap()).unwrap();
        fs::write(&overlay, number.to_string()).unwrap();
        let image = at(&format!("app-{number}:1"));
        place.printed(&["extend", &at("base:1"), "--overlay", "overlay", "--to", &image]);
        writeln!(list, "{}", counting.reference(&format!("app-{number}:1"))).unwrap();
    }
    fs::write(place.dir.path().join("images"), list).unwrap();
    let (base, onto) = (counting.reference("base:1"), counting.reference("base:2"));
    let rebase = ["rebase", "--all", "images", "--from", &base, "--onto", &onto, "--connections", "6", "--json"];
    let done: Value = serde_json::from_str(&place.printed(&rebase)).unwrap();
    let images = done["images"].as_array().unwrap();
    assert_eq!(images.len(), IMAGES);
    for (number, image) in images.iter().enumerate() {
        let name = format!("app-{number}");
        assert_eq!(image["possible"], true, "{image}");
        assert_eq!(image["digest"], registry.tag(&name, "1").unwrap());
    }
    assert!((2..=6).contains(&counting.most_at_once()), "{}", counting.most_at_once());
    // No layer was read: of the base, one manifest, one configuration and the records, once for all images.
    let log = counting.log();
    let of_base = log.iter().filter(|entry| entry.method == "GET" && entry.target.starts_with("/v2/base/")).count();
    assert!(of_base < 20, "{of_base} requests");
}
