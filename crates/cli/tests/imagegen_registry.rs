//! `vast-imagegen copy`, `inspect` and `verify` on the real binary, against a registry that fails to order.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Access, Behaviour, Fault, Kind, Registry};

/// Runs the binary in `dir` with an environment of its own: no credentials, no proxies.
fn imagegen(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir.join("home"))
        .output()
        .unwrap()
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

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An image as the guide wants it, but for the environment hash that is `recorded`.
fn good(recorded: &[u8]) -> ImageBuilder {
    ImageBuilder::new()
        .label("org.opencontainers.image.source", "https://github.com/vastai/")
        .label("org.opencontainers.image.description", "App image suitable for Vast.ai.")
        .label("maintainer", "Vast.ai Inc <contact@vast.ai>")
        .config("Entrypoint", json!(["/opt/instance-tools/bin/entrypoint.sh"]))
        .layer(Layer::new().folder("etc").file("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n"))
        .layer(Layer::new().file(".env_hash", recorded))
}

/// A failed command says one thing, about the image, and leaves neither a tag nor a file.
fn assert_refused(output: &Output, parts: &[&str], registry: &Registry, dir: &Path) {
    let said = stderr(output);
    assert_eq!(code(output), 2, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("vast-imagegen: "), "{said}");
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("  hint: ")), "one message: {said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` in: {said}");
    }
    assert_eq!(stdout(output), "");
    assert_eq!(registry.tags("target"), Vec::<String>::new());
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(entries(dir), Vec::<String>::new(), "nothing is left");
}

#[test]
fn every_bad_source_is_one_clear_message() {
    let registry = Registry::start();
    let image = ImageBuilder::new().file("a", b"1").build();
    registry.push("app", "v1", &image);
    let dir = tempfile::tempdir().unwrap();
    let target = registry.reference("target:v1");
    let absent = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pinned = format!("app@{absent}");
    for (source, extra, parts) in [
        ("app:v2", None, ["app:v2", "no tag v2 in app", "hint"]),
        ("nobody/nothing:v1", None, ["nobody/nothing:v1", "no tag v1 in nobody/nothing", "hint"]),
        (pinned.as_str(), None, [absent, "no manifest", "hint"]),
        ("app:v1", Some("linux/arm64"), ["no image for linux/arm64", "it has linux/amd64", "hint"]),
    ] {
        let source = registry.reference(source);
        let mut args = vec!["copy", &source, &target];
        args.extend(extra.iter().flat_map(|platform| ["--platform", platform]));
        assert_refused(&imagegen(dir.path(), &args), &parts, &registry, dir.path());
        // The same towards a layout.
        args[2] = "oci:out:v1";
        assert_refused(&imagegen(dir.path(), &args), &parts, &registry, dir.path());
    }
}

#[test]
fn altered_content_is_one_clear_message() {
    let registry = Registry::start();
    let image = ImageBuilder::new().file("a", b"1").build();
    registry.push("app", "v1", &image);
    registry.corrupt_blob(&digest(&image.layers[0]), &vec![7; image.layers[0].len()]);
    let other = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let source = registry.reference("app:v1");
    for target in [other.reference("target:v1"), "oci:out".to_owned(), "oci-archive:out.tar".to_owned()] {
        let output = imagegen(dir.path(), &["copy", &source, &target]);
        // Blobs that were placed before are fine to tell.
        let last: String = stderr(&output).lines().filter(|line| line.starts_with("vast-imagegen")).collect();
        assert_eq!(code(&output), 2);
        assert!(last.contains(&source) && last.contains("not what it claims to be"), "{last}");
        assert_eq!((other.tags("target"), other.open_uploads()), (Vec::new(), 0));
        assert_eq!(entries(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn a_registry_that_is_down_refuses_or_hangs_up_is_one_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let image = ImageBuilder::new().file("a", b"1").build();

    let registry = Registry::start();
    let gone = {
        let registry = Registry::start();
        registry.reference("app:v1")
    };
    let output = imagegen(dir.path(), &["copy", &gone, &registry.reference("target:v1"), "--attempts", "2"]);
    assert_refused(&output, &[&gone, "cannot be reached", "refused", "hint"], &registry, dir.path());

    registry.push("app", "v1", &image);
    registry.fault(Fault::new("GET", "/manifests/", Kind::Cut));
    let source = registry.reference("app:v1");
    let output = imagegen(dir.path(), &["copy", &source, &registry.reference("target:v1"), "--attempts", "2"]);
    assert_refused(&output, &[&source, "was cut, 2 times"], &registry, dir.path());

    registry.heal();
    registry.fault(Fault::new("GET", "/manifests/", Kind::Status(503)));
    let output = imagegen(dir.path(), &["copy", &source, &registry.reference("target:v1"), "--attempts", "1"]);
    assert_refused(&output, &[&source, "503 Service Unavailable"], &registry, dir.path());

    let access = Access::Basic { user: "user".to_owned(), password: "secret".to_owned() };
    let private = Registry::start_with(Behaviour { access, ..Behaviour::default() });
    private.push("app", "v1", &image);
    let source = private.reference("app:v1");
    let output = imagegen(dir.path(), &["copy", &source, "oci:out"]);
    assert_refused(&output, &[&source, "asks for credentials", "docker login"], &private, dir.path());

    let auth = tempfile::NamedTempFile::new().unwrap();
    // `user:wrong`.
    std::fs::write(auth.path(), json!({"auths": {private.host(): {"auth": "dXNlcjp3cm9uZw=="}}}).to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
        .args(["copy", &source, "oci:out"])
        .current_dir(dir.path())
        .env_clear()
        .env("REGISTRY_AUTH_FILE", auth.path())
        .output()
        .unwrap();
    assert_refused(&output, &[&source, "refused the credentials of `user`"], &private, dir.path());
    assert!(!stderr(&output).contains("wrong"));
}

#[test]
fn a_credential_helper_of_docker_is_asked() {
    let registry = Registry::start_with(Behaviour { access: Access::token("user", "secret"), ..Behaviour::default() });
    registry.push("app", "v1", &ImageBuilder::new().file("a", b"1").build());
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-ofatest");
    // It is given the registry's name, and answers as Docker's helpers do.
    let script = format!(
        "#!/bin/sh\nread -r asked\n[ \"$1 $asked\" = 'get {}' ] || {{ echo 'credentials not found'; exit 1; }}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"secret\"}}'\n",
        registry.host()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = dir.path().join("config.json");
    let run = |target: &str| {
        Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
            .args(["copy", &registry.reference("app:v1"), &registry.reference(target)])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
            .env("DOCKER_CONFIG", dir.path())
            .output()
            .unwrap()
    };
    let host = registry.host();
    for (target, text) in
        [("target:one", json!({"credHelpers": {host: "ofatest"}})), ("target:all", json!({"credsStore": "ofatest"}))]
    {
        std::fs::write(&config, text.to_string()).unwrap();
        let output = run(target);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(registry.tags("target"), ["all", "one"]);
    // One that knows nothing of this registry: the image may still be read, but not written.
    std::fs::write(&helper, "#!/bin/sh\necho 'credentials not found in native keychain'; exit 1\n").unwrap();
    let output = run("target:none");
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("asks for credentials"), "{}", stderr(&output));
}

#[test]
fn plain_http_is_spoken_to_other_machines_only_if_that_is_allowed() {
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().file("a", b"1").build());
    // An address that leads here as well, and is no loopback address.
    let source = registry.reference("app:v1").replace("127.0.0.1", "0.0.0.0");
    let dir = tempfile::tempdir().unwrap();
    let output = imagegen(dir.path(), &["copy", &source, "oci:out", "--attempts", "1"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("cannot be reached"), "{}", stderr(&output));
    assert_eq!(registry.log(), Vec::new(), "nothing that it could read");
    let output = imagegen(dir.path(), &["copy", &source, "oci:out", "--insecure"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn nothing_is_tagged_when_the_target_fails_midway() {
    let (from, to) = (Registry::start(), Registry::start());
    from.push("app", "v1", &ImageBuilder::new().file("a", &vec![7; 100_000]).build());
    let dir = tempfile::tempdir().unwrap();
    for kind in [Kind::Status(500), Kind::CutUpload(50), Kind::Status(403)] {
        to.heal();
        to.fault(Fault::new("PUT", "/blobs/uploads/", kind));
        let output =
            imagegen(dir.path(), &["copy", &from.reference("app:v1"), &to.reference("target:v1"), "--attempts", "2"]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(&to.reference("target:v1")), "{}", stderr(&output));
        assert_eq!(to.tags("target"), Vec::<String>::new());
        assert_eq!(to.open_uploads(), 0);
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["copy", "https://docker.io/debian", "oci:x"][..],
        &["copy", "Debian", "oci:x"],
        &["inspect", "debian@sha256:12"],
        &["verify", "debian", "--platform", "linux"],
        &["copy", "debian"],
        &["nothing"],
    ] {
        let output = imagegen(dir.path(), args);
        assert_eq!(code(&output), 64, "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_copy_says_what_it_did_and_a_dry_run_does_nothing() {
    let registry = Registry::start();
    let image = ImageBuilder::new().file("a", b"1").build();
    registry.push("app", "v1", &image);
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (registry.reference("app:v1"), registry.reference("target:v1"));
    let output = imagegen(dir.path(), &["copy", &source, &target, "--dry-run"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains(&digest(&image.layers[0])), "{}", stdout(&output));
    assert_eq!(registry.count("PUT", "") + registry.count("POST", ""), 0);

    let output = imagegen(dir.path(), &["copy", &source, &target, "--json"]);
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["digest"], image.digest());
    assert_eq!(done["blobs"]["mounted"], 2);
    assert_eq!(registry.tag("target", "v1"), Some(image.digest()));

    let output = imagegen(dir.path(), &["copy", &source, "oci:out:v1"]);
    assert_eq!(stdout(&output).trim(), format!("oci:out:v1@{}", image.digest()));
    let output = imagegen(dir.path(), &["copy", stdout(&output).trim(), &registry.reference("target:v2")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn inspect_shows_all_platforms_as_a_tree_and_as_json() {
    let registry = Registry::start();
    let images: Vec<TestImage> = ["linux/amd64", "linux/arm64"]
        .into_iter()
        .map(|platform| good(b"x").platform(platform).config("Env", json!(["A=1"])).build())
        .collect();
    let index = registry.push_index("app", "v1", &images);
    let dir = tempfile::tempdir().unwrap();
    let reference = registry.reference("app:v1");
    let output = imagegen(dir.path(), &["inspect", &reference]);
    let tree = stdout(&output);
    for part in ["linux/amd64", "linux/arm64", index.as_str(), "entrypoint", "A=1", "maintainer=Vast.ai", "layer 1"] {
        assert!(tree.contains(part), "`{part}` in {tree}");
    }
    let output = imagegen(dir.path(), &["inspect", &reference, "--json", "--platform", "linux/arm64"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["digest"], index);
    assert_eq!(report["images"][0]["platform"]["architecture"], "arm64");
    assert_eq!(report["images"][0]["layers"].as_array().unwrap().len(), 2);
    assert_eq!(registry.count("GET", &digest(&images[0].layers[0])), 0, "no layer is read");
}

/// An image of these layers, whose manifest claims the largest size that other programs can read for each of them.
fn claiming_too_much(layers: &[&str]) -> TestImage {
    let layer = |name: &&str| Layer::new().file(name, name.as_bytes());
    let mut image = layers.iter().map(layer).fold(ImageBuilder::new(), ImageBuilder::layer).build();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["size"] = json!(i64::MAX);
    }
    image.manifest = serde_json::to_vec(&manifest).unwrap();
    image
}

#[test]
fn claimed_sizes_that_add_up_to_more_than_a_number_holds_stop_and_fool_nobody() {
    let registry = Registry::start();
    registry.push("app", "v1", &claiming_too_much(&["a", "b", "c", "old"]));
    registry.push("app", "v2", &claiming_too_much(&["a", "b", "c", "new"]));
    let dir = tempfile::tempdir().unwrap();
    let [before, after] = ["app:v1", "app:v2"].map(|name| registry.reference(name));
    let answer = |args: &[&str], expected: i32| {
        let output = imagegen(dir.path(), args);
        assert_eq!(code(&output), expected, "{args:?}: {}", stderr(&output));
        output
    };
    let json = |args: &[&str], expected: i32| -> Value {
        serde_json::from_slice(&answer(&[args, &["--json"]].concat(), expected).stdout).unwrap()
    };
    let most = "18446744.1 TB";

    assert_eq!(json(&["inspect", &before], 0)["images"][0]["size_bytes"], u64::MAX);
    let tree = stdout(&answer(&["inspect", &before], 0));
    assert!(tree.lines().any(|line| line.contains("linux/amd64") && line.ends_with(most)), "{tree}");

    let layers = &json(&["diff", &before, &after, "--only", "layers"], 1)["platforms"][0]["layers"];
    for sum in ["shared_bytes", "before_bytes", "after_bytes"] {
        assert_eq!(layers[sum], u64::MAX, "{sum}");
    }
    let text = stdout(&answer(&["diff", &before, &after, "--only", "layers"], 1));
    assert!(text.contains(&format!("{most} → {most} (±0 B)")), "{text}");
    let said = stderr(&answer(&["diff", &before, &after], 2));
    assert!(said.contains(&format!("reading 4 layers of docker://{before} without a path index ({most})")), "{said}");

    let plan = stdout(&answer(&["copy", &before, "oci:out:v1", "--dry-run"], 0));
    assert!(plan.contains(&format!("5 blobs to place, {most}; then oci:out:v1")), "{plan}");
    let said = stderr(&answer(&["copy", &before, "oci:out:v1"], 2));
    let last: String = said.lines().filter(|line| line.starts_with("vast-imagegen: ")).collect();
    assert!(last.contains(&before) && last.ends_with(&format!(" of {} bytes", i64::MAX)), "{said}");
    assert!(!entries(dir.path()).contains(&"out".to_owned()), "nothing is left");
}

#[test]
fn verify_answers_with_its_exit_code() {
    let registry = Registry::start();
    registry.push("app", "good", &good(b"0123456789ab\n").build());
    registry.push("app", "bare", &ImageBuilder::new().build());
    let dir = tempfile::tempdir().unwrap();
    let output = imagegen(dir.path(), &["verify", &registry.reference("app:good")]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("good: 2 layers looked up"), "{}", stdout(&output));

    let output = imagegen(dir.path(), &["verify", &registry.reference("app:bare")]);
    assert_eq!(code(&output), 1);
    for part in [
        "org.opencontainers.image.source",
        "org.opencontainers.image.description",
        "maintainer",
        "entrypoint is missing",
    ] {
        assert!(stdout(&output).contains(part), "`{part}` in {}", stdout(&output));
    }

    // The recorded hash is one, but not this image's; the message says the right one.
    let output = imagegen(dir.path(), &["verify", &registry.reference("app:good"), "--deep", "--json"]);
    assert_eq!(code(&output), 1);
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = verdict["findings"][0]["message"].as_str().unwrap();
    assert_eq!(verdict["findings"][0]["check"], "env-hash");
    let right = message.rsplit(' ').next().unwrap();
    registry.push("app", "right", &good(format!("{right}\n").as_bytes()).build());
    let output = imagegen(dir.path(), &["verify", &registry.reference("app:right"), "--deep"]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));

    let output = imagegen(dir.path(), &["verify", &registry.reference("app:absent")]);
    assert_eq!(code(&output), 2);
}
