//! Images that are compared by what is recorded about them, and what is read where nothing is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::place::{Place, code, masked, stderr, stdout, two_versions};

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
            "packages: 2 changed (apt: curl 8.0 → 8.1, apt: libfoo 1.0 → 1.1)",
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
        "  ~ apt  curl    8.0 → 8.1
  ~ apt  libfoo  1.0 → 1.1

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
    // Configurations, inventories and, once for both platforms that share them, indexes and lists of packages.
    assert_eq!(asked.len(), 4 + 4 + layers.len() + 2, "{asked:?}");
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
    for section in ["layers", "packages", "files", "configuration"] {
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
