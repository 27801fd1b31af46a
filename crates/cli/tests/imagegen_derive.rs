//! `vast-imagegen extend` and `rebase` on the real binary and a real registry (Debian's `docker-registry`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use vast_testkit::registry::Distribution;

/// A registry and a folder; both go when this value goes.
struct Place {
    registry: Distribution,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { registry: Distribution::start(), dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> String {
        self.registry.reference(name)
    }

    fn imagegen(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap()
    }

    /// What a command prints that must succeed.
    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.imagegen(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn folder(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.dir.path().join(name);
        for (path, content) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    /// Builds for two platforms and pushes.
    fn build(&self, folder: &str, dockerfile: &str, files: &[(&str, &str)], name: &str) {
        let folder = self.folder(folder, files);
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        let to = self.at(name);
        let platforms = "linux/amd64,linux/arm64";
        self.printed(&["build", folder.to_str().unwrap(), "--engine", "native", "--platform", platforms, "--to", &to]);
    }

    fn skopeo(&self, platform: &str, name: &str) -> Value {
        let output = Command::new("skopeo")
            .args(["--override-arch", platform, "inspect", "--tls-verify=false"])
            .arg(format!("docker://{}", self.at(name)))
            .output()
            .expect("skopeo runs; `cargo xtask test` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn layers(&self, platform: &str, name: &str) -> Vec<String> {
        let layers = self.skopeo(platform, name);
        layers["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
    }

    /// An image's files as skopeo reads and umoci unpacks them.
    fn unpacked(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(format!("unpacked-{}", name.replace([':', '/'], "-")));
        std::fs::create_dir_all(&folder).unwrap();
        let layout = folder.join("layout").display().to_string();
        for command in [
            vec![
                "skopeo",
                "--insecure-policy",
                "--override-arch",
                "amd64",
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                &format!("docker://{}", self.at(name)),
                &format!("oci:{layout}:i"),
            ],
            vec![
                "umoci",
                "unpack",
                "--rootless",
                "--image",
                &format!("{layout}:i"),
                folder.join("bundle").to_str().unwrap(),
            ],
        ] {
            let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        folder.join("bundle/rootfs")
    }
}

const BASE: &str = "FROM scratch\nCOPY ROOT /\nENTRYPOINT [\"/boot\"]\nRUN env-hash > /.env_hash\n";
const ROOT: [(&str, &str); 3] =
    [("ROOT/etc/os-release", "VERSION_ID=\"12\"\n"), ("ROOT/opt/tools/boot.sh", "bug"), ("ROOT/usr/lib/x.so", "x")];

/// A base, three images on it, and the base with its bug fixed.
fn base_and_three(place: &Place) {
    let fixed: Vec<(&str, &str)> =
        ROOT.iter().map(|&(name, content)| (name, if content == "bug" { "fixed" } else { content })).collect();
    place.build("base", BASE, &ROOT, "base:v1");
    place.build("base2", BASE, &fixed, "base:v2");
    let from = format!("FROM {}\n", place.at("base:v1"));
    place.build("one", &format!("{from}COPY a /opt/one/\nRUN env-hash > /.env_hash\n"), &[("a", "one")], "one:v1");
    place.build("two", &format!("{from}COPY a /opt/tools/two\nENTRYPOINT [\"/two\"]\n"), &[("a", "two")], "two:v1");
    place.build("three", &format!("{from}COPY a /opt/tools/boot.sh\n"), &[("a", "own")], "three:v1");
}

#[test]
fn one_command_brings_a_base_fix_to_every_image_that_can_take_it_and_says_why_others_cannot() {
    let place = Place::new();
    base_and_three(&place);
    let list = place.dir.path().join("images");
    let [one, two, three] = ["one:v1", "two:v1", "three:v1"].map(|name| place.at(name));
    std::fs::write(&list, format!("# everything on the base\n{one}\n{two} {}\n\n{three} # last\n", place.at("two:v2")))
        .unwrap();
    let (list, onto) = (list.to_str().unwrap().to_owned(), place.at("base:v2"));

    let layers_of = |name: &str| ["amd64", "arm64"].map(|platform| place.layers(platform, name));
    let before = ["one:v1", "two:v1"].map(layers_of);
    let check = place.imagegen(&["rebase", "--all", &list, "--onto", &onto, "--check"]);
    assert_eq!(check.status.code(), Some(1), "{}", String::from_utf8_lossy(&check.stderr));
    let table = String::from_utf8(check.stdout).unwrap();
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let why = "path: /opt/tools/boot.sh is changed by the new base, and the image has its own";
    let expected = [(&one, "possible"), (&two, "possible"), (&three, "refused")];
    let mut lines = words.iter();
    for (image, verdict) in expected {
        for platform in ["linux/amd64", "linux/arm64"] {
            assert_eq!(*lines.next().unwrap(), [format!("docker://{image}").as_str(), platform, verdict], "{table}");
            if verdict == "refused" {
                assert_eq!(lines.next().unwrap().join(" "), why);
            }
        }
    }
    assert_eq!(lines.next(), None);
    assert_eq!(layers_of("one:v1"), before[0], "a check changes nothing");

    let output = place.imagegen(&["rebase", "--all", &list, "--onto", &onto, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    let possible: Vec<&Value> = done["images"].as_array().unwrap().iter().map(|image| &image["possible"]).collect();
    assert_eq!(possible, [true, true, false]);
    assert_eq!(done["images"][2]["platforms"][1]["conflicts"][0]["path"], "opt/tools/boot.sh");
    for (name, before) in ["one:v1", "two:v2"].iter().zip(&before) {
        for ((base, after), before) in layers_of("base:v2").iter().zip(layers_of(name)).zip(before) {
            assert_eq!(after[..base.len()], *base);
            assert_eq!(after[base.len()..], before[base.len()..], "the same layers of their own");
        }
    }
    let root = place.unpacked("one:v1");
    assert_eq!(std::fs::read_to_string(root.join("opt/tools/boot.sh")).unwrap(), "fixed");
    assert_eq!(std::fs::read_to_string(root.join("opt/one/a")).unwrap(), "one");
}

#[test]
fn a_log_tells_for_each_of_many_rebased_images_what_became_of_its_layers() {
    let place = Place::new();
    base_and_three(&place);
    let onto = place.at("base:v2");
    for (tag, more) in [("v2", &[][..]), ("v3", &["--json"])] {
        // The third image has a file of its own that the base changed.
        let targets = ["one", "two", "three"].map(|name| (name, place.at(&format!("{name}:{tag}"))));
        let list: String =
            targets.iter().map(|(name, target)| format!("{} {target}\n", place.at(&format!("{name}:v1")))).collect();
        std::fs::write(place.dir.path().join("images"), list).unwrap();
        let output = place.imagegen(&[&["rebase", "--all", "images", "--onto", &onto], more].concat());
        let [log, stdout] = [output.stderr, output.stdout].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(1), "{log}");

        let said = |target: &str| -> BTreeMap<&str, &str> {
            let start = format!("docker://{target}: ");
            let lines = log.lines().filter_map(|line| line.strip_prefix(&start));
            lines.map(|line| line.split_once(' ').expect(line)).collect()
        };
        for (name, target) in &targets[..2] {
            let said = said(target);
            for platform in ["amd64", "arm64"] {
                for layer in place.layers(platform, &format!("{name}:{tag}")) {
                    let short = &layer.strip_prefix("sha256:").unwrap()[..12];
                    let outcome = said.get(short).unwrap_or_else(|| panic!("{layer} of {target}: {log}"));
                    let (what, size) = outcome.split_once(" (").expect(outcome);
                    assert!(["is there", "mounted", "written"].contains(&what), "{outcome}");
                    assert!(size.ends_with("B)"), "{outcome}");
                }
            }
        }
        assert!(said(&targets[2].1).is_empty(), "nothing became of what was refused: {log}");
        // Nothing of it is drawn, and all of it is about an image.
        assert!(!log.contains(['\u{1b}', '\r']), "{log:?}");
        assert!(log.lines().all(|line| targets.iter().any(|(_, target)| line.contains(target))), "{log}");
        if more.is_empty() {
            let published: Vec<&str> = stdout.lines().filter(|line| line.contains("@sha256:")).collect();
            assert_eq!(published.len(), 2, "{stdout}");
        } else {
            let done: Value = serde_json::from_str(&stdout).expect("one document and nothing else");
            assert_eq!(done["images"].as_array().unwrap().len(), 3);
        }
    }
}

#[test]
fn an_extended_image_is_read_by_other_tools_and_nothing_is_published_where_it_is_refused() {
    let place = Place::new();
    place.build("base", BASE, &ROOT, "base:v1");
    let overlay = place.folder("overlay", &[("opt/tools/boot.sh", "own"), ("lib/y", "y")]);
    let (base, target) = (place.at("base:v1"), place.at("app:v1"));
    let overlay = overlay.to_str().unwrap().to_owned();
    let dry = place.printed(&["extend", &base, "--overlay", &overlay, "--to", &target, "--dry-run"]);
    let printed = place.printed(&["extend", &base, "--overlay", &overlay, "--to", &target]);
    assert_eq!(printed, dry, "the same digest, published or not");
    let root = place.unpacked("app:v1");
    assert_eq!(std::fs::read_to_string(root.join("opt/tools/boot.sh")).unwrap(), "own");
    assert_eq!(place.skopeo("arm64", "app:v1")["Architecture"], "arm64");

    // Pushed by another tool, an image has no records.
    let copied = place.at("plain:v1");
    let copy = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--all", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([format!("docker://{base}"), format!("docker://{copied}")])
        .status()
        .unwrap();
    assert!(copy.success());
    // The cache of this machine knows the layers; another one does not.
    let elsewhere = place.dir.path().join("elsewhere").display().to_string();
    let refused = ["extend", &copied, "--overlay", &overlay, "--to", &place.at("never:v1"), "--cache-dir", &elsewhere];
    let output = place.imagegen(&refused);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`/lib/y`") && said.contains("hint: with --index"), "{said}");
    assert!(!Path::new(&place.dir.path().join("data/docker/registry/v2/repositories/never")).exists());
    place.printed(&[&refused[..], &["--index"]].concat());
}
