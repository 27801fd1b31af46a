//! Versions of Debian packages that do not count for the environment hash, through everything that makes an image of another.

use serde_json::{Value, json};
use vast_testkit::image::digest;
use vast_testkit::registry::{Fault, Kind};

use super::place::{Place, code, dpkg, imagegen, stderr, stdout};

const BASE: &str = "FROM scratch\nCOPY ROOT /\nRUN env-hash > /.env_hash\n";

/// A base with this version of curl.
fn base(place: &Place, name: &str, curl: &str) {
    let status = dpkg("1.0", curl);
    let files = [
        ("ROOT/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("ROOT/usr/bin/dpkg", "#!/bin/sh\n"),
        ("ROOT/var/lib/dpkg/status", status.as_str()),
        ("ROOT/var/lib/dpkg/info/curl.md5sums", curl),
    ];
    place.build(name, BASE, &files);
}

fn overlay(place: &Place, name: &str, path: &str, content: &str) -> String {
    let file = place.dir.path().join(name).join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content).unwrap();
    name.to_owned()
}

fn curl(before: &str, after: &str) -> Value {
    json!([{"place": "apt", "name": "curl", "kind": "changed", "before": before, "after": after}])
}

#[test]
fn versions_move_with_their_layers_through_build_extend_and_rebase() {
    let place = Place::new();
    base(&place, "base:v1", "8.0");
    base(&place, "base:v2", "8.1");
    let at = |name: &str| place.registry.reference(name);
    let run = |args: &[&str]| {
        let output = imagegen(place.dir.path(), args);
        assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
    };
    place.build("app:v1", &format!("FROM {}\nCOPY app /opt/app\n", at("base:v1")), &[("app", "app")]);
    let added = overlay(&place, "added", "opt/more", "more");
    run(&["extend", &at("app:v1"), "--overlay", &added, "--to", &at("extended:v1")]);
    // The hash of the environment stays what it is, so nothing about the environment is taken anew.
    let (from, onto) = (at("base:v1"), at("base:v2"));
    run(&["rebase", &at("extended:v1"), "--from", &from, "--onto", &onto, "--to", &at("rebased:v1")]);
    for (before, after) in [("base:v1", "base:v2"), ("app:v1", "rebased:v1"), ("extended:v1", "rebased:v1")] {
        let found = place.difference(before, after, &[]);
        for platform in found["platforms"].as_array().unwrap() {
            assert_eq!(platform["packages"]["changes"], curl("8.0", "8.1"), "{before} {after}");
        }
    }
    // An overlay that replaces the database has it read.
    let upgraded = overlay(&place, "upgraded", "var/lib/dpkg/status", &dpkg("1.0", "9.0"));
    run(&["extend", &at("rebased:v1"), "--overlay", &upgraded, "--to", &at("upgraded:v1"), "--index"]);
    let found = place.difference("rebased:v1", "upgraded:v1", &[]);
    assert_eq!(found["platforms"][1]["packages"]["changes"], curl("8.1", "9.0"));
    let layers = ["base:v1", "base:v2", "upgraded:v1"].map(|name| place.layers(name));
    for layer in layers.iter().flatten() {
        assert_eq!(place.fetched(layer), 0, "no layer is read to compare: {layer}");
    }
}

#[test]
fn without_a_recorded_list_versions_are_told_as_unknown() {
    let place = Place::new();
    base(&place, "base:v1", "8.0");
    base(&place, "base:v2", "8.1");
    let told = || stdout(&place.diff("base:v1", "base:v2", &["--only", "packages"]));
    assert!(told().contains("~ apt  curl  8.0 → 8.1\n"), "{}", told());
    // A record may name a blob that somebody deleted.
    for version in ["8.0", "8.1"] {
        let list = [("curl", version), ("dpkg", "1.22"), ("libfoo", "1.0")];
        let list: Vec<String> =
            list.iter().map(|(name, version)| format!(r#"{{"name":"{name}","version":"{version}"}}"#)).collect();
        let blob = format!("/blobs/{}", digest(format!("[{}]", list.join(",")).as_bytes()));
        for method in ["GET", "HEAD"] {
            place.counting.fault(Fault::new(method, &blob, Kind::Status(404)));
        }
    }
    let text = told();
    assert!(text.contains("~ apt  curl  (version not recorded)\n"), "{text}");
    assert!(text.contains("(not all versions are recorded; --deep reads them from the layers)"), "{text}");
    // It is not handed on, and stops nothing.
    let added = overlay(&place, "added", "opt/more", "more");
    let base = place.counting.reference("base:v1");
    let output = imagegen(place.dir.path(), &["extend", &base, "--overlay", &added, "--to", "oci:out:v1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}
