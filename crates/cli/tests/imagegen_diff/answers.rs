//! What cannot be compared, may not be believed or should not be shown.

use serde_json::{Value, json};
use vast_testkit::image::{ImageBuilder, digest};
use vast_testkit::registry::Registry;

use super::place::{code, imagegen, stderr, stdout};

#[test]
fn what_cannot_be_compared_is_one_clear_message() {
    let registry = Registry::start();
    let image = |platform: &str| ImageBuilder::new().platform(platform).file("a", platform.as_bytes()).build();
    registry.push("app", "amd64", &image("linux/amd64"));
    registry.push("app", "arm64", &image("linux/arm64"));
    let dir = tempfile::tempdir().unwrap();
    let [amd64, arm64, none] = ["app:amd64", "app:arm64", "app:none"].map(|name| registry.reference(name));
    for (args, parts) in [
        (vec![&*amd64, &*none], vec!["app:none", "no tag none", "hint"]),
        (vec![&*amd64, &*arm64], vec!["linux/amd64", "linux/arm64", "no platform in common"]),
        (vec![&*amd64, &*arm64, "--platform", "linux/amd64"], vec!["app:arm64", "no image for linux/amd64"]),
        (vec![&*amd64, "oci:nowhere"], vec!["nowhere"]),
    ] {
        let output = imagegen(dir.path(), &[&["diff"], &args[..]].concat());
        assert_eq!((code(&output), stdout(&output)), (2, String::new()), "{args:?}");
        let said = stderr(&output);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    for args in [
        &["diff", &*amd64][..],
        &["diff", &*amd64, &*arm64, "--only", "colours"],
        &["diff", &*amd64, &*arm64, "--path", "[a"],
        &["diff", &*amd64, &*arm64, "--path", "./a"],
        &["diff", &*amd64, &*arm64, "--stat", "--all"],
    ] {
        assert_eq!(code(&imagegen(dir.path(), args)), 64, "{args:?}");
    }
}

#[test]
fn packages_that_could_not_be_compared_are_not_the_same() {
    let registry = Registry::start();
    for (tag, damage) in [("v1", 0xff), ("v2", 0xfe)] {
        registry.push("app", tag, &ImageBuilder::new().file("var/lib/dpkg/status", &[damage]).build());
    }
    let dir = tempfile::tempdir().unwrap();
    let [before, after] = ["app:v1", "app:v2"].map(|name| registry.reference(name));
    let output = imagegen(dir.path(), &["diff", &before, &after, "--only", "packages"]);
    assert_eq!(code(&output), 2, "{}", stdout(&output));
    assert!(stdout(&output).contains("not compared: "), "{}", stdout(&output));
    let output = imagegen(dir.path(), &["diff", &before, &after, "--only", "packages", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &found["equal"]), (2, &json!(false)));
    // What differs elsewhere is an answer.
    assert_eq!(code(&imagegen(dir.path(), &["diff", &before, &after])), 1);
}

#[test]
fn layers_that_are_not_what_the_image_says_are_found_by_reading_them() {
    let registry = Registry::start();
    let [honest, mut lying] = [b"1", b"2"].map(|content| ImageBuilder::new().file("a", content).build());
    lying.config.clone_from(&honest.config);
    let [said, mut manifest]: [Value; 2] =
        [&honest, &lying].map(|image| serde_json::from_slice(&image.manifest).unwrap());
    manifest["config"] = said["config"].clone();
    lying.manifest = serde_json::to_vec(&manifest).unwrap();
    registry.push("app", "v1", &honest);
    registry.push("app", "v2", &lying);
    let dir = tempfile::tempdir().unwrap();
    let [before, after] = ["app:v1", "app:v2"].map(|name| registry.reference(name));
    let output = imagegen(dir.path(), &["diff", &before, &after, "--only", "files"]);
    assert_eq!(code(&output), 0, "what they say is believed: {}", stdout(&output));
    let output = imagegen(dir.path(), &["diff", &before, &after, "--only", "files", "--deep"]);
    assert_eq!(code(&output), 1, "{}", stdout(&output));
    assert!(stdout(&output).contains("/a  content"), "{}", stdout(&output));
}

#[test]
fn secrets_in_commands_that_made_layers_are_not_shown() {
    let registry = Registry::start();
    let image = |content: &[u8]| {
        let mut image = ImageBuilder::new().file("a", content).build();
        let mut config: Value = serde_json::from_slice(&image.config).unwrap();
        config["history"] = json!([
            {"created_by": "RUN |1 API_TOKEN=hunter2 /bin/sh -c curl -u me:hunter2 https://me:hunter2@r.io # buildkit"},
            {"created_by": "ENV API_TOKEN=hunter2", "empty_layer": true},
        ]);
        image.config = serde_json::to_vec(&config).unwrap();
        let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        manifest["config"]["digest"] = json!(digest(&image.config));
        manifest["config"]["size"] = json!(image.config.len());
        image.manifest = serde_json::to_vec(&manifest).unwrap();
        image
    };
    registry.push("app", "v1", &image(b"1"));
    registry.push("app", "v2", &image(b"2"));
    let dir = tempfile::tempdir().unwrap();
    let [before, after] = ["app:v1", "app:v2"].map(|name| registry.reference(name));
    for more in [&[][..], &["--all"], &["--json"]] {
        let said = stdout(&imagegen(dir.path(), &[&["diff", &before, &after], more].concat()));
        assert!(said.contains("curl -u me:***") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_platform_that_would_act_on_the_terminal_is_refused() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    for (tag, platform) in [("one", "linux/\u{1b}[2Jamd64"), ("two", "linux/amd64\u{202e}")] {
        let image = ImageBuilder::new().platform(platform).file("a", b"a").build();
        registry.push("app", tag, &image);
        registry.push_index("indexed", tag, &[image]);
    }
    for name in ["app:one", "app:two", "indexed:one", "indexed:two"] {
        let output = imagegen(dir.path(), &["inspect", &registry.reference(name)]);
        assert_eq!(code(&output), 2, "{name}: {}", stdout(&output));
        assert!(stderr(&output).contains("characters that control a terminal"), "{}", stderr(&output));
        assert!(!stderr(&output).contains(['\u{1b}', '\u{202e}']) && stdout(&output).is_empty());
    }
}
