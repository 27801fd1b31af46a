//! The same difference whatever way the images come, and all of it as JSON.

use serde_json::{Value, json};

use super::place::{Place, code, imagegen, skopeo, stderr, stdout, two_versions};

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
