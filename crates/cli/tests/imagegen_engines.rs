//! `vast-imagegen build` with the program of another engine in `PATH`: a stand-in that is really run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to build, and a directory for `PATH` that holds nothing but what a test puts there.
struct Bench(TempDir);

impl Bench {
    fn new(dockerfile: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for folder in ["image", "bin", "tmp"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        fs::write(bench.path("image/Dockerfile"), dockerfile).unwrap();
        fs::write(bench.path("image/a"), "a").unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn build(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
            .args(["build", "image"])
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("TMPDIR", self.path("tmp"))
            .output()
            .unwrap();
        assert_eq!(fs::read_dir(self.path("tmp")).unwrap().count(), 0, "nothing temporary is left");
        output
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const RUNS: &str = "FROM scratch\nCOPY a /a\nRUN make\n";

#[test]
fn the_engine_is_what_is_installed_and_can_do_it() {
    let bench = Bench::new(RUNS);
    let chosen = |arguments: &[&str]| {
        let output = bench.build(&[&["--to", "oci:out:v1", "--dry-run"], arguments].concat());
        text(if output.status.success() { &output.stdout } else { &output.stderr }).lines().next().unwrap().to_owned()
    };
    let cannot = "vast-imagegen: image/Dockerfile:3: the native engine cannot run `make`: it starts no process";
    assert_eq!(chosen(&[]), format!("{cannot}, and no engine that can is installed"));
    assert_eq!(chosen(&["--builder", "far-away"]), "engine: buildkit");
    bench.program("docker", "exit 1");
    assert_eq!(chosen(&[]), "engine: buildkit");
    bench.program("buildah", "exit 1");
    assert_eq!(chosen(&[]), "engine: buildah");
    assert_eq!(chosen(&["--engine", "buildkit"]), "engine: buildkit");
    assert_eq!(chosen(&["--engine", "native"]), cannot);
    fs::write(bench.path("image/Dockerfile"), "FROM scratch\nCOPY a /a\n").unwrap();
    assert_eq!(chosen(&[]), "engine: native");
}

#[test]
fn what_docker_builds_is_published() {
    let bench = Bench::new("FROM scratch\nCOPY a /a\n");
    let output = bench.build(&["--to", "oci-archive:prepared.tar", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let prepared: Value = serde_json::from_slice(&output.stdout).unwrap();
    fs::write(bench.path("image/Dockerfile"), RUNS).unwrap();
    let record = bench.path("asked");
    bench.program(
        "docker",
        &format!(
            "printf '%s\\n' \"$@\" > {}\necho '#1 0.100 making' >&2\n/bin/cp {} image.tar\n\
             printf '{{\"containerimage.digest\":\"%s\"}}' {} > metadata.json",
            record.display(),
            bench.path("prepared.tar").display(),
            prepared["digest"].as_str().unwrap()
        ),
    );
    let output = bench.build(&["--to", "oci:out:v1", "--builder", "far-away", "--json"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("  #1 0.100 making\n"), "what the builder prints is shown: {said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["engine"], "buildkit");
    assert_eq!(
        result["images"][0]["layers"], prepared["images"][0]["layers"],
        "written anew, a layer of ours is itself"
    );
    let asked = fs::read_to_string(record).unwrap();
    assert!(asked.starts_with("buildx\nbuild\n--builder\nfar-away\n"), "{asked}");
    assert!(bench.path("out/index.json").exists());
}

#[test]
fn a_docker_without_buildx_is_one_message_with_advice() {
    let bench = Bench::new(RUNS);
    bench.program("docker", "echo \"docker: unknown command: docker buildx\" >&2; echo; echo \"Run 'docker --help' for more information\"; exit 1");
    let output = bench.build(&["--to", "oci:out:v1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    let messages: Vec<&str> = said.lines().filter(|line| line.starts_with("vast-imagegen: ")).collect();
    assert_eq!(messages, ["vast-imagegen: `docker buildx build` failed: docker: unknown command: docker buildx"]);
    assert!(said.contains("install docker's buildx plugin"), "{said}");
    assert!(!bench.path("out").exists());
}
