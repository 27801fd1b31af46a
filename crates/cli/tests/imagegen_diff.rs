//! `vast-imagegen diff` on the real binary and a real registry (Debian's `docker-registry`), beside umoci's unpacked files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Behaviour, Distribution, Logged, Registry};

/// A registry, something in front of it that counts requests, and a folder.
struct Place {
    registry: Distribution,
    counting: Registry,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let registry = Distribution::start();
        let counting = Registry::start_with(Behaviour::in_front_of(&registry.host()));
        Self { registry, counting, dir: tempfile::tempdir().unwrap() }
    }

    /// Builds for two platforms, without passing what counts.
    fn build(&self, name: &str, dockerfile: &str, files: &[(&str, &str)]) {
        let folder = self.dir.path().join(name.replace(':', "-"));
        for (path, content) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            let mode = if path.starts_with(folder.join("ROOT/usr/bin")) { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let (folder, to) = (folder.to_str().unwrap().to_owned(), self.registry.reference(name));
        let platforms = "linux/amd64,linux/arm64";
        let built =
            imagegen(self.dir.path(), &["build", &folder, "--engine", "native", "--platform", platforms, "--to", &to]);
        assert_eq!(code(&built), 0, "{}", stderr(&built));
    }

    /// Compares two images through what counts, on a machine that has seen neither.
    fn diff(&self, before: &str, after: &str, more: &[&str]) -> Output {
        let cache = tempfile::tempdir_in(self.dir.path()).unwrap();
        let cache = cache.path().to_str().unwrap();
        let (before, after) = (self.counting.reference(before), self.counting.reference(after));
        imagegen(self.dir.path(), &[&["diff", &before, &after, "--cache-dir", cache], more].concat())
    }

    /// The difference as JSON; there must be one.
    fn difference(&self, before: &str, after: &str, more: &[&str]) -> Value {
        let output = self.diff(before, after, &[more, &["--json"]].concat());
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Copies an image without what is recorded about it.
    fn copy_without_records(&self, from: &str, to: &str) {
        skopeo(&["--all", &self.docker(from), &self.docker(to)]);
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.registry.reference(name))
    }

    /// The digests of the layers of every platform.
    fn layers(&self, name: &str) -> BTreeSet<String> {
        let inspected = imagegen(self.dir.path(), &["inspect", &self.registry.reference(name), "--json"]);
        let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
        let images = inspected["images"].as_array().unwrap();
        let layers = images.iter().flat_map(|image| image["layers"].as_array().unwrap());
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }

    fn fetched(&self, digest: &str) -> usize {
        self.counting.count("GET", &format!("/blobs/{digest}"))
    }
}

/// Runs the binary in `dir` with an environment of its own.
fn imagegen(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir.join("home"))
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn skopeo(args: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(args)
        .output()
        .expect("skopeo runs; `cargo xtask test` installs it");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const BASE: &str = "FROM scratch\nCOPY ROOT /\nENTRYPOINT [\"/boot\"]\nENV PATH=/usr/bin:/bin API_TOKEN=hunter2\n";

fn dpkg(libfoo: &str, curl: &str) -> String {
    let package = |name: &str, version: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    format!("{}{}{}", package("curl", curl), package("dpkg", "1.22"), package("libfoo", libfoo))
}

/// A base and an application on it, twice: the second time with another base and another application.
fn two_versions(place: &Place) {
    for (version, libfoo, curl, app) in [("v1", "1.0", "8.0", "one"), ("v2", "1.1", "8.1", "two, and longer")] {
        let status = dpkg(libfoo, curl);
        let files = [
            ("ROOT/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
            ("ROOT/usr/bin/dpkg", "#!/bin/sh\n"),
            ("ROOT/var/lib/dpkg/status", status.as_str()),
            ("ROOT/var/lib/dpkg/info/curl.md5sums", curl),
            ("ROOT/var/lib/dpkg/info/libfoo.md5sums", libfoo),
            ("ROOT/opt/tools/same.sh", "same"),
            ("ROOT/opt/tools/fixed.sh", version),
        ];
        place.build(&format!("base:{version}"), BASE, &files);
        let from = format!("FROM {}\nCOPY shared /opt/shared\n", place.registry.reference(&format!("base:{version}")));
        let (more, extra) = if version == "v1" {
            ("ENV API_TOKEN=swordfish\nCOPY app /opt/app/run\n", vec![])
        } else {
            (
                "ENV PATH=/opt/app:$PATH\nUSER 1000\nCOPY app /opt/app/run\nCOPY new /opt/new\n",
                vec![("new/a", "a"), ("new/b/c", "c")],
            )
        };
        let files = [&[("app", app), ("shared", "shared")][..], &extra].concat();
        place.build(&format!("app:{version}"), &format!("{from}{more}RUN env-hash > /.env_hash\n"), &files);
    }
}

/// The output with what depends on digests and on this run's ports left out.
fn masked(text: &str, place: &Place) -> String {
    let text = text.replace(&place.counting.host(), "HOST").replace(&place.registry.host(), "BASE");
    let mut masked = String::new();
    let mut run = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            run.push(character);
            continue;
        }
        masked.push_str(if run.len() >= 12 { "#" } else { &run });
        run.clear();
        masked.push(character);
    }
    masked.trim_end().to_owned()
}

#[test]
fn recorded_images_are_compared_without_fetching_a_layer() {
    let place = Place::new();
    two_versions(&place);
    let output = place.diff("app:v1", "app:v2", &[]);
    assert_eq!((code(&output), stderr(&output)), (1, String::new()));
    let text = masked(&stdout(&output), &place);
    // The hash of the environment is another on each platform, and so is its layer.
    let (head, layers) = text.split_once("\nLayers (linux/amd64)\n").expect(&text);
    let (layers, _) = layers.split_once("\nLayers (linux/arm64)\n").expect(&text);
    let summary: Vec<&str> = head.lines().skip(4).take(4).collect();
    assert_eq!(
        summary[..3],
        [
            "packages: 2 changed (apt: curl, apt: libfoo 1.0 → 1.1)",
            "configuration: 1 added, 4 changed (Env API_TOKEN, Env PATH, User and 2 more)",
            "files: 2 added, 6 changed (+14 B)",
        ],
        "{text}"
    );
    assert!(summary[3].starts_with("layers") && summary[3].contains(": 4 added, 3 removed, 1 shared, "), "{text}");
    let details = head.split_once("\nPackages\n").expect(&text).1;
    let (above, rest) = details.split_once("\n\nConfiguration (linux/arm64)\n").expect(&text);
    let (_, files) = rest.split_once("\n\nFiles\n").expect(&text);
    assert_eq!(
        format!("{above}\n\nFiles\n{files}"),
        "  ~ apt  curl    (version not recorded)
  ~ apt  libfoo  1.0 → 1.1
  (only versions of libraries are recorded; --deep reads the others from the layers)

Configuration (linux/amd64)
  ~ Env API_TOKEN                                (another value, which is not shown)
  ~ Env PATH                                     + /opt/app (first)
  ~ Labels org.opencontainers.image.base.digest  sha256:# → sha256:#
  ~ Labels org.opencontainers.image.base.name    BASE/base:v1 → BASE/base:v2
  + User                                         1000

Files
  ~ /.env_hash  content
  ~ /opt/app/run  content +12 B
  + /opt/new/  2 files, 2 B
  ~ /opt/tools/fixed.sh  content
  ~ records of Debian packages  3 changed (±0 B)
",
        "{text}"
    );
    let lines: Vec<&str> = layers.lines().collect();
    let signs: String = lines.iter().filter_map(|line| line.trim_start().chars().next()).collect();
    assert_eq!(signs, "---++++1", "{layers}");
    assert!(lines.last().unwrap().starts_with("  1 shared ("), "{layers}");
    assert!(layers.contains("COPY new /opt/new"), "{layers}");
    assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");

    let layers: BTreeSet<String> = place.layers("app:v1").into_iter().chain(place.layers("app:v2")).collect();
    assert_eq!(layers.len(), 10, "both platforms share all but the hashes of their environments");
    for layer in &layers {
        assert_eq!(place.fetched(layer), 0, "{layer}");
    }
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for entry in place.counting.log().into_iter().filter(|entry| entry.target.contains("/blobs/")) {
        *asked.entry(format!("{} {}", entry.method, entry.target)).or_default() += 1;
    }
    // Configurations, inventories and, once for both platforms that share them, indexes.
    assert_eq!(asked.len(), 4 + 4 + layers.len(), "{asked:?}");
    assert!(asked.values().all(|count| *count == 1), "nothing is read twice: {asked:?}");

    // In CI and in files there are no colours; `--stat` is the paragraph alone.
    assert!(!text.contains('\u{1b}'));
    let stat = masked(&stdout(&place.diff("app:v1", "app:v2", &["--stat"])), &place);
    assert_eq!(stat, head.split_once("\n\nPackages\n").unwrap().0);
}

#[test]
fn what_has_no_record_is_read_and_comes_to_the_same() {
    let place = Place::new();
    two_versions(&place);
    for version in ["v1", "v2"] {
        place.copy_without_records(&format!("app:{version}"), &format!("plain:{version}"));
    }
    let recorded = place.difference("app:v1", "app:v2", &[]);
    let output = place.diff("plain:v1", "plain:v2", &["--json"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = stderr(&output);
    let names = [place.counting.reference("plain:v1"), place.counting.reference("plain:v2")];
    for name in &names {
        // On the second platform only the hash of the environment is new.
        for layers in ["4 layers", "1 layer"] {
            assert!(said.contains(&format!("reading {layers} of docker://{name} without a path index (")), "{said}");
        }
        assert!(said.contains(&format!("reading the layers of docker://{name} that hold its environment (")), "{said}");
    }
    for section in ["layers", "files", "configuration"] {
        assert_eq!(read["platforms"][0][section], recorded["platforms"][0][section], "{section}");
    }
    let package = |name: &str, before: &str, after: &str| json!({"place": "apt", "name": name, "kind": "changed", "before": before, "after": after});
    let versions = json!([package("curl", "8.0", "8.1"), package("libfoo", "1.0", "1.1")]);
    assert_eq!(read["platforms"][0]["packages"]["changes"], versions, "the layers tell all versions");
    // Once for both platforms for its headers, and where it holds a part of the environment once more for each platform.
    for layer in place.layers("plain:v1") {
        let times = place.fetched(&layer);
        assert!((1..=3).contains(&times), "{layer}: {times}");
    }

    // The same is done where records are there and not believed.
    let before = place.counting.log().len();
    let deep = place.difference("app:v1", "app:v2", &["--deep"]);
    assert_eq!(deep["platforms"], read["platforms"]);
    let layers = place.layers("app:v2");
    let log = &place.counting.log()[before..];
    assert!(layers.iter().all(|layer| log.iter().any(|entry| entry.target.ends_with(&format!("/blobs/{layer}")))));
}

#[test]
fn nothing_is_read_that_is_not_asked_for() {
    let place = Place::new();
    two_versions(&place);
    let output = place.diff("app:v1", "app:v1", &[]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("are the same image, sha256:"), "{}", stdout(&output));
    place.copy_without_records("app:v1", "plain:again");
    let output = place.diff("app:v1", "plain:again", &["--json"]);
    let same: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &same["equal"], &same["platforms"]), (0, &json!(true), &json!([])));
    assert_eq!(place.counting.count("GET", "/blobs/"), 0, "manifests are enough");

    let shallow =
        place.difference("app:v1", "app:v2", &["--only", "layers,configuration", "--platform", "linux/arm64"]);
    assert_eq!(place.counting.count("GET", "/blobs/"), 2, "two configurations");
    assert_eq!(place.counting.count("GET", "referrers") + place.counting.count("GET", "/manifests/sha256-"), 0);
    let keys: Vec<&String> = shallow["platforms"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["platform", "before", "after", "layers", "configuration"]);
    assert_eq!(shallow["platforms"].as_array().unwrap().len(), 1);

    // A question about some paths has an answer for CI.
    for (path, expected) in [("/etc/**", 0), ("/opt/app", 1), ("*.sh", 1), ("same.sh", 0)] {
        let output = place.diff("app:v1", "app:v2", &["--only", "files", "--path", path]);
        assert_eq!(code(&output), expected, "{path}: {}", stdout(&output));
        if expected == 0 {
            assert!(stdout(&output).ends_with("files: the same\nnothing that was compared differs\n"));
        }
    }
}

#[test]
fn the_json_is_complete_and_keeps_secrets() {
    let place = Place::new();
    two_versions(&place);
    let found = place.difference("app:v1", "app:v2", &["--platform", "linux/amd64"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let expected = ["equal", "before", "after", "only_before", "only_after", "annotations", "platforms"];
    assert_eq!(keys(&found), expected);
    assert_eq!(found["before"]["reference"], format!("docker://{}", place.counting.reference("app:v1")));
    let platform = &found["platforms"][0];
    assert_eq!(keys(platform), ["platform", "before", "after", "layers", "packages", "files", "configuration"]);
    assert_eq!(platform["platform"], json!({"os": "linux", "architecture": "amd64"}));
    let file = |path: &str| {
        platform["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap_or(&Value::Null).clone()
    };
    let added = file("opt/new/b/c");
    assert_eq!(
        (&added["kind"], &added["before"], &added["after"]["mode"]),
        (&json!("added"), &Value::Null, &json!("0644"))
    );
    assert_eq!(file("opt/new")["after"]["type"], "directory", "nothing is folded");
    let changed = file("opt/app/run");
    assert_eq!(changed["aspects"], json!(["content"]));
    assert_eq!((&changed["before"]["size_bytes"], &changed["after"]["size_bytes"]), (&json!(3), &json!(15)));
    assert_eq!(file("opt/tools/same.sh"), Value::Null);
    let text = found.to_string();
    assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
    let layers = &platform["layers"];
    assert_eq!((&layers["shared"], layers["only_after"].as_array().unwrap().len()), (&json!(1), 4));
    assert_eq!(layers["only_after"][3]["created_by"], "RUN env-hash > /.env_hash");
}

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

#[test]
fn the_transport_makes_no_difference() {
    let place = Place::new();
    two_versions(&place);
    let dir = place.dir.path();
    let copied = imagegen(dir, &["copy", &place.registry.reference("app:v1"), "oci:layout:v1"]);
    assert_eq!(code(&copied), 0, "{}", stderr(&copied));
    let output = imagegen(dir, &["diff", &place.registry.reference("app:v1"), "oci:layout:v1"]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let archive = format!("docker-archive:{}:app:v1", dir.join("archive.tar").display());
    skopeo(&["--override-arch=amd64", &place.docker("app:v1"), &archive][1..]);
    let file = format!("docker-archive:{}", dir.join("archive.tar").display());
    let compared = |other: &str| {
        let output = imagegen(dir, &["diff", &place.registry.reference(other), &file, "--json"]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let same = compared("app:v1");
    assert_eq!(same["only_before"], json!([{"os": "linux", "architecture": "arm64"}]));
    let platform = &same["platforms"][0];
    assert_eq!((&platform["files"], &platform["packages"]["changes"]), (&json!([]), &json!([])));
    assert_eq!((&platform["layers"]["shared"], &platform["layers"]["only_after"]), (&json!(4), &json!([])));
    assert_eq!(platform["layers"]["recompressed"].as_array().unwrap().len(), 4);
    // What the registry knows of layers serves for the archive, which keeps no records.
    let other = compared("app:v2");
    let recorded = place.difference("app:v2", "app:v1", &["--platform", "linux/amd64"]);
    assert_eq!(other["platforms"][0]["files"], recorded["platforms"][0]["files"]);
}

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
