//! `vast-imagegen merge`, `promote`, `rollback`, and what every publishing command does when it is interrupted or refused, on
//! the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vast_testkit::image::{ImageBuilder, Layer, TestImage};
use vast_testkit::registry::{Behaviour, Fault, Kind, Registry};

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vast-imagegen"));
    command.args(args).current_dir(dir).env_clear().env("HOME", dir.join("home")).env("TMPDIR", dir);
    command
}

fn imagegen(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// The JSON that the command prints when it succeeds.
fn json(dir: &Path, args: &[&str]) -> Value {
    let output = imagegen(dir, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn image(platform: &str, text: &str) -> TestImage {
    ImageBuilder::new().platform(platform).file("text", text.as_bytes()).build()
}

fn writes(registry: &Registry) -> usize {
    ["PUT", "POST", "PATCH"].iter().map(|method| registry.count(method, "")).sum()
}

#[test]
fn merge_makes_one_image_and_says_what_is_in_it() {
    let registry = Registry::start();
    let (amd64, arm64) = (image("linux/amd64", "a"), image("linux/arm64", "a"));
    registry.push("app", "amd64", &amd64);
    registry.push("app", "arm64", &arm64);
    let dir = tempfile::tempdir().unwrap();
    let references = ["app:all", "app:amd64", "app:arm64"].map(|name| registry.reference(name));
    let args = ["merge", "-t", &references[0], &references[1], &references[2]];
    let dry = json(dir.path(), &[&args[..], &["--dry-run"]].concat());
    assert_eq!((writes(&registry), dry["dry_run"].as_bool()), (0, Some(true)));
    let done = json(dir.path(), &args);
    assert_eq!(done["images"][1]["platform"], "linux/arm64");
    assert_eq!(done["images"][1]["digest"], arm64.digest());
    assert_eq!(done["tags"][0]["digest"], dry["tags"][0]["digest"]);
    assert_eq!(registry.tag("app", "all").unwrap(), done["tags"][0]["digest"].as_str().unwrap());
    // Into a layout, for people.
    let output = imagegen(dir.path(), &["merge", "-t", "oci:out:v1", &references[1], &references[2]]);
    assert!(stdout(&output).contains(&format!("oci:out:v1@{}", done["tags"][0]["digest"].as_str().unwrap())));
    // A conflict names both.
    registry.push("app", "other", &image("linux/amd64", "b"));
    let other = registry.reference("app:other");
    let output = imagegen(dir.path(), &["merge", "-t", &registry.reference("app:bad"), &references[1], &other]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains(&references[1]) && said.contains(&other) && said.contains("both for linux/amd64"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    assert_eq!(registry.tag("app", "bad"), None);
    for args in [&["merge", "app:v1"][..], &["merge", "-t", "app:v1"], &["merge", "-t", "x", "y", "--annotation", "z"]]
    {
        assert_eq!(imagegen(dir.path(), args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn merge_names_all_tags_when_it_is_everywhere_or_says_how_far_it_came() {
    let (from, to) = (Registry::start(), Registry::start());
    from.push("app", "amd64", &image("linux/amd64", "a"));
    to.push("app", "two", &image("linux/amd64", "old"));
    let dir = tempfile::tempdir().unwrap();
    let other = Registry::start();
    let [one, two, three] = [to.reference("app:one"), to.reference("app:two"), other.reference("app:three")];
    let source = from.reference("app:amd64");
    let args = ["merge", "-t", &one, "-t", &two, "-t", &three, &source];
    // Nothing is named as long as it is not in all places.
    other.fault(Fault::new("PUT", "/blobs/uploads/", Kind::Status(403)));
    let output = imagegen(dir.path(), &args);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!((to.tag("app", "one"), to.open_uploads(), other.open_uploads()), (None, 0, 0));
    other.heal();
    // A name that cannot be moved is told together with those that were.
    to.fault(Fault::new("PUT", "/app/manifests/two", Kind::Status(403)));
    let output = imagegen(dir.path(), &args);
    assert_eq!(output.status.code(), Some(2));
    let told = format!("`docker://{one}` moved, but the tag of `docker://{two}` could not be moved: cannot write to");
    assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    assert_eq!((to.tag("app", "one").is_some(), other.tag("app", "three")), (true, None));
    to.heal();
    let done = json(dir.path(), &args);
    assert_eq!(done["tags"][1]["previous"], image("linux/amd64", "old").digest());
    assert_eq!((&done["tags"][2]["previous"], &done["tags"][2]["blobs"]["present"]), (&Value::Null, &Value::from(2)));
    for (registry, tag) in [(&to, "one"), (&to, "two"), (&other, "three")] {
        assert_eq!(registry.tag("app", tag).unwrap(), done["tags"][0]["digest"].as_str().unwrap());
    }
}

#[test]
fn promote_moves_all_tags_and_rollback_moves_one_back() {
    let registry = Registry::start();
    let (old, new) = (image("linux/amd64", "old"), image("linux/amd64", "new"));
    registry.push("prod", "latest", &old);
    registry.push("staging", "v2", &new);
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (registry.reference("staging:v2"), registry.reference("prod:v2"));
    let args = ["promote", &source, &target, "--also", "latest"];
    let dry = imagegen(dir.path(), &[&args[..], &["--dry-run"]].concat());
    assert!(stdout(&dry).contains("prod:v2 would name") && stdout(&dry).contains("and is new"), "{}", stdout(&dry));
    assert!(stdout(&dry).contains(&format!("prod:latest would name {}, before {}", new.digest(), old.digest())));
    assert_eq!(writes(&registry), 0);
    let done = json(dir.path(), &args);
    assert_eq!(done["tags"][1]["from"], old.digest());
    assert_eq!(done["blobs"]["mounted"], 2);
    for tag in ["v2", "latest"] {
        assert_eq!(registry.tag("prod", tag), Some(new.digest()));
    }

    let latest = registry.reference("prod:latest");
    let output = imagegen(dir.path(), &["rollback", &latest, "--dry-run"]);
    assert!(stdout(&output).contains(&format!("would name {}", old.digest())), "{}", stdout(&output));
    assert_eq!(registry.tag("prod", "latest"), Some(new.digest()));
    let output = imagegen(dir.path(), &["rollback", &latest]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("names {}, before {} since 20", old.digest(), new.digest())));
    assert_eq!(registry.tag("prod", "latest"), Some(old.digest()));
    let output = imagegen(dir.path(), &["rollback", &latest]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot roll") && stderr(&output).contains("hint: "), "{}", stderr(&output));
    let undone = json(dir.path(), &["rollback", &latest, "--undo"]);
    assert_eq!((&undone["to"], &undone["undone"]), (&Value::from(new.digest()), &Value::from(true)));
    assert_eq!(registry.tag("prod", "latest"), Some(new.digest()));

    for args in [&["promote", "a"][..], &["promote", "a", "oci:x"], &["rollback", "oci:x"]] {
        assert_eq!(imagegen(dir.path(), args).status.code(), Some(64), "{args:?}");
    }
    let output = imagegen(dir.path(), &["promote", &source, &target, "--also", "a:b"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// Waits until `holds`, for at most a minute.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: &Child, signal: &str) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn an_interruption_leaves_no_tag_no_upload_and_no_file() {
    let made = ImageBuilder::new().file("a", &vec![7; 100_000]).build();
    for (signal, chunks) in [("-INT", false), ("-TERM", true)] {
        let from = Registry::start();
        from.push("app", "v1", &made);
        let old = image("linux/amd64", "old");
        let to = Registry::start_with(Behaviour { whole_uploads: !chunks, ..Behaviour::default() });
        to.push("app", "v1", &old);
        // In the middle of an upload, which goes no further.
        to.fault(Fault::new(if chunks { "PATCH" } else { "PUT" }, "/blobs/uploads/", Kind::Hang));
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (from.reference("app:v1"), to.reference("app:v1"));
        for args in [&["copy", &source, &target][..], &["promote", &source, &target, "--also", "latest"]] {
            let before = to.log().len();
            let child = command(dir.path(), args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            wait_until("an upload hangs", || to.log()[before..].iter().any(|entry| entry.fault == Some(Kind::Hang)));
            assert!(to.open_uploads() > 0);
            interrupt(&child, signal);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            assert_eq!(stderr(&output).lines().last(), Some("vast-imagegen: the work was interrupted"));
            assert_eq!((to.tag("app", "v1"), to.tags("app").len()), (Some(old.digest()), 1));
            assert_eq!(to.open_uploads(), 0, "what was begun is cancelled");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file is left");
        }
    }
}

#[test]
fn an_interruption_waits_for_the_addresses_of_uploads_that_it_then_cancels() {
    let (from, to) = (Registry::start(), Registry::start());
    from.push("app", "v1", &ImageBuilder::new().file("a", &vec![7; 100_000]).build());
    // Begun, and not yet said where.
    to.fault(Fault::new("POST", "/blobs/uploads/", Kind::Late(Duration::from_secs(1))));
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (from.reference("app:v1"), to.reference("app:v1"));
    let child =
        command(dir.path(), &["copy", &source, &target]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("an upload is begun", || to.open_uploads() > 0);
    interrupt(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!((to.open_uploads(), to.tags("app").len()), (0, 0));
}

#[test]
fn an_interruption_leaves_nothing_in_a_folder_either() {
    let from = Registry::start();
    from.push("app", "v1", &ImageBuilder::new().file("a", &vec![7; 100_000]).build());
    from.fault(Fault::new("GET", "/blobs/", Kind::Hang));
    let dir = tempfile::tempdir().unwrap();
    let child = command(dir.path(), &["copy", &from.reference("app:v1"), "oci:out:v1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a download hangs", || from.log().iter().any(|entry| entry.fault == Some(Kind::Hang)));
    interrupt(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// `base:v1`, `base:v2`, and images on the first, by another tool: nothing is recorded about any of them.
fn bases_and(registry: &Registry, images: &[&str]) {
    let base = |text: &str| ImageBuilder::new().layer(Layer::new().file("etc/base", text.as_bytes()));
    for (tag, text) in [("v1", "old"), ("v2", "new")] {
        registry.push("base", tag, &base(text).build());
    }
    for name in images {
        let own = base("old").layer(Layer::new().file("opt/own", name.as_bytes()));
        let own = own.label("org.opencontainers.image.base.digest", &base("old").build().digest());
        registry.push(name, "v1", &own.build());
    }
}

/// The commands that make an image of `app:v1` and put it into `to`, which lie in `dir`.
fn derivations(dir: &Path, from: &Registry, to: &str) -> [Vec<String>; 2] {
    std::fs::create_dir_all(dir.join("overlay/etc")).unwrap();
    std::fs::write(dir.join("overlay/etc/more"), "more").unwrap();
    let (app, onto) = (from.reference("app:v1"), from.reference("base:v2"));
    let extend = ["extend", &app, "--index", "--overlay", "overlay", "--to", to];
    let rebase = ["rebase", &app, "--onto", &onto, "--to", to];
    [extend.map(str::to_owned).to_vec(), rebase.map(str::to_owned).to_vec()]
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn an_interruption_of_an_extension_or_a_rebase_cancels_its_uploads() {
    let from = Registry::start();
    bases_and(&from, &["app"]);
    let to = Registry::start();
    to.fault(Fault::new("PUT", "/blobs/uploads/", Kind::Hang));
    let dir = tempfile::tempdir().unwrap();
    for args in derivations(dir.path(), &from, &to.reference("app:v1")) {
        let before = to.log().len();
        let child = command(dir.path(), &words(&args)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("an upload hangs", || to.log()[before..].iter().any(|entry| entry.fault == Some(Kind::Hang)));
        interrupt(&child, "-INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!((to.tags("app").len(), to.open_uploads()), (0, 0), "{args:?}");
    }
}

#[test]
fn what_a_registry_does_not_record_is_said() {
    let from = Registry::start();
    bases_and(&from, &["app"]);
    let dir = tempfile::tempdir().unwrap();
    let refusing = || {
        let to = Registry::start();
        to.push("app", "v1", &image("linux/amd64", "old"));
        // The image is taken, and no artifact.
        to.fault(Fault::new("PUT", "/manifests/sha256", Kind::Status(400)).after(1));
        to
    };
    for number in 0..2 {
        let to = refusing();
        let args = &derivations(dir.path(), &from, &to.reference("app:v1"))[number];
        let output = imagegen(dir.path(), &words(args));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for part in ["keeps no record of what the tag named before, sha256:", "keeps no path indexes or environment"] {
            assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
        }
        assert!(to.tag("app", "v1").is_some_and(|digest| digest != image("linux/amd64", "old").digest()));
    }
    // What was read to be kept with the images is not said to be kept where it is not.
    let from = Registry::start();
    bases_and(&from, &["app"]);
    from.fault(Fault::new("PUT", "/manifests/sha256", Kind::Status(400)));
    let cold = tempfile::tempdir().unwrap();
    let [extend, rebase] = derivations(cold.path(), &from, "oci:out:v1");
    for (args, said) in [(extend, "cannot attach path indexes to "), (rebase, "the records cannot be attached to it: ")]
    {
        let output = imagegen(cold.path(), &words(&args));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let warning = stderr(&output).lines().find(|line| line.contains(said)).map(str::to_owned).unwrap_or_default();
        assert!(warning.contains("400 Bad Request"), "the cause is said as well: {}", stderr(&output));
        assert!(!stderr(&output).contains("attached to it now") && !stderr(&output).contains("are attached to"));
    }
}

#[test]
fn one_image_that_cannot_be_published_does_not_keep_others_from_their_base() {
    let registry = Registry::start();
    bases_and(&registry, &["one", "two", "three"]);
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one:v1", "two:v1", "three:v1"].map(|name| registry.reference(name));
    std::fs::write(dir.path().join("images"), format!("{one}\n{two}\n{three}\n")).unwrap();
    let before = ["one", "two", "three"].map(|name| registry.tag(name, "v1"));
    registry.fault(Fault::new("PUT", "/two/manifests/v1", Kind::Status(403)));
    let onto = registry.reference("base:v2");
    let output = imagegen(dir.path(), &["rebase", "--all", "images", "--onto", &onto, "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let moved = ["one", "two", "three"].map(|name| registry.tag(name, "v1"));
    let is_moved: Vec<bool> = before.iter().zip(&moved).map(|(before, after)| before != after).collect();
    assert_eq!(is_moved, [true, false, true], "{}", stderr(&output));
    let told = format!("vast-imagegen: docker://{two} is not published: cannot write to");
    assert!(stderr(&output).lines().any(|line| line.starts_with(&told) && line.contains("403")), "{}", stderr(&output));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(done["images"][1]["error"].as_str().unwrap().contains("(403 to PUT /v2/two/manifests/v1)"), "{done}");
    assert_eq!(done["images"][2]["digest"], moved[2].clone().unwrap());
}
