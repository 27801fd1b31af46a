//! `rebase` of many images onto another version of their base.

use std::collections::BTreeMap;

use serde_json::Value;
use vast_testkit::registry::Distribution;

use super::place::{Place, layers};

pub(crate) const BASE: &str = "FROM scratch\nCOPY ROOT /\nENTRYPOINT [\"/boot\"]\nRUN env-hash > /.env_hash\n";
pub(crate) const ROOT: [(&str, &str); 3] =
    [("ROOT/etc/os-release", "VERSION_ID=\"12\"\n"), ("ROOT/opt/tools/boot.sh", "bug"), ("ROOT/usr/lib/x.so", "x")];
pub(crate) const TWO: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// A base, three images on it, and the base with its bug fixed.
fn base_and_three(place: &Place, registry: &Distribution) {
    let at = |name: &str| registry.reference(name);
    let build = |dockerfile: &str, files: &[(&str, &str)], name: &str| place.build(dockerfile, files, &TWO, &at(name));
    let fixed = ROOT.map(|(name, content)| (name, if content == "bug" { "fixed" } else { content }));
    build(BASE, &ROOT, "base:v1");
    build(BASE, &fixed, "base:v2");
    let from = format!("FROM {}\n", at("base:v1"));
    build(&format!("{from}COPY a /opt/one/\nRUN env-hash > /.env_hash\n"), &[("a", "one")], "one:v1");
    build(&format!("{from}COPY a /opt/tools/two\nENTRYPOINT [\"/two\"]\n"), &[("a", "two")], "two:v1");
    build(&format!("{from}COPY a /opt/tools/boot.sh\n"), &[("a", "own")], "three:v1");
}

#[test]
fn one_command_brings_a_base_fix_to_every_image_that_can_take_it_and_says_why_others_cannot() {
    let (place, registry) = (Place::new(), Distribution::start());
    let at = |name: &str| registry.reference(name);
    base_and_three(&place, &registry);
    let list = place.dir.path().join("images");
    let [one, two, three] = ["one:v1", "two:v1", "three:v1"].map(at);
    std::fs::write(&list, format!("# everything on the base\n{one}\n{two} {}\n\n{three} # last\n", at("two:v2")))
        .unwrap();
    let (list, onto) = (list.to_str().unwrap().to_owned(), at("base:v2"));

    let layers_of = |name: &str| ["amd64", "arm64"].map(|platform| layers(platform, &at(name)));
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
    let root = place.unpacked(&at("one:v1"));
    assert_eq!(std::fs::read_to_string(root.join("opt/tools/boot.sh")).unwrap(), "fixed");
    assert_eq!(std::fs::read_to_string(root.join("opt/one/a")).unwrap(), "one");
}

#[test]
fn a_log_tells_for_each_of_many_rebased_images_what_became_of_its_layers() {
    let (place, registry) = (Place::new(), Distribution::start());
    let at = |name: &str| registry.reference(name);
    base_and_three(&place, &registry);
    let onto = at("base:v2");
    for (tag, more) in [("v2", &[][..]), ("v3", &["--json"])] {
        // The third image has a file of its own that the base changed.
        let targets = ["one", "two", "three"].map(|name| (name, at(&format!("{name}:{tag}"))));
        let list: Vec<String> =
            targets.iter().map(|(name, target)| format!("{} {target}", at(&format!("{name}:v1")))).collect();
        std::fs::write(place.dir.path().join("images"), list.join("\n")).unwrap();
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
                for layer in layers(platform, &at(&format!("{name}:{tag}"))) {
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
