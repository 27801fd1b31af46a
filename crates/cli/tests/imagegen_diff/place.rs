//! A registry, what runs on it, and images to compare.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use vast_testkit::registry::{Behaviour, Distribution, Registry};

/// A registry, something in front of it that counts requests, and a folder.
pub(crate) struct Place {
    pub(crate) registry: Distribution,
    pub(crate) counting: Registry,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let registry = Distribution::start();
        let counting = Registry::start_with(Behaviour::in_front_of(&registry.host()));
        Self { registry, counting, dir: tempfile::tempdir().unwrap() }
    }

    /// Builds for two platforms, without passing what counts.
    pub(crate) fn build(&self, name: &str, dockerfile: &str, files: &[(&str, &str)]) {
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
    pub(crate) fn diff(&self, before: &str, after: &str, more: &[&str]) -> Output {
        let cache = tempfile::tempdir_in(self.dir.path()).unwrap();
        let cache = cache.path().to_str().unwrap();
        let (before, after) = (self.counting.reference(before), self.counting.reference(after));
        imagegen(self.dir.path(), &[&["diff", &before, &after, "--cache-dir", cache], more].concat())
    }

    /// The difference as JSON; there must be one.
    pub(crate) fn difference(&self, before: &str, after: &str, more: &[&str]) -> Value {
        let output = self.diff(before, after, &[more, &["--json"]].concat());
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Copies an image without what is recorded about it.
    pub(crate) fn copy_without_records(&self, from: &str, to: &str) {
        skopeo(&["--all", &self.docker(from), &self.docker(to)]);
    }

    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.registry.reference(name))
    }

    /// The digests of the layers of every platform.
    pub(crate) fn layers(&self, name: &str) -> BTreeSet<String> {
        let inspected = imagegen(self.dir.path(), &["inspect", &self.registry.reference(name), "--json"]);
        let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
        let images = inspected["images"].as_array().unwrap();
        let layers = images.iter().flat_map(|image| image["layers"].as_array().unwrap());
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn fetched(&self, digest: &str) -> usize {
        self.counting.count("GET", &format!("/blobs/{digest}"))
    }
}

/// Runs the binary in `dir` with an environment of its own.
pub(crate) fn imagegen(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vast-imagegen"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir.join("home"))
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

pub(crate) fn skopeo(args: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(args)
        .output()
        .expect("skopeo runs; `cargo xtask test` installs it");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const BASE: &str = "FROM scratch\nCOPY ROOT /\nENTRYPOINT [\"/boot\"]\nENV PATH=/usr/bin:/bin API_TOKEN=hunter2\n";

pub(crate) fn dpkg(libfoo: &str, curl: &str) -> String {
    let package = |name: &str, version: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    format!("{}{}{}", package("curl", curl), package("dpkg", "1.22"), package("libfoo", libfoo))
}

/// A base and an application on it, twice: the second time with another base and another application.
pub(crate) fn two_versions(place: &Place) {
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
pub(crate) fn masked(text: &str, place: &Place) -> String {
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
