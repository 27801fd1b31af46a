//! A folder, what runs in it, and what other tools see of images.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Runs the binary with an environment of its own.
    pub(crate) fn imagegen(&self, arguments: &[&str]) -> Output {
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
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        let output = self.imagegen(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A folder with these files and no others.
    pub(crate) fn folder(&self, name: &str, files: &[(impl AsRef<str>, impl AsRef<str>)]) -> PathBuf {
        let folder = self.dir.path().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        for (path, content) in files {
            let path = folder.join(path.as_ref());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.as_ref()).unwrap();
        }
        folder
    }

    /// Builds from a Dockerfile and files beside it, and pushes.
    pub(crate) fn build(
        &self,
        dockerfile: &str,
        files: &[(impl AsRef<str>, impl AsRef<str>)],
        platforms: &[&str],
        to: &str,
    ) {
        let folder = self.folder("folder", files);
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        self.printed(&["build", "folder", "--engine", "native", "--platform", &platforms.join(","), "--to", to]);
    }

    /// The files of the image for amd64 as other tools unpack them.
    pub(crate) fn unpacked(&self, image: &str) -> PathBuf {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let from = format!("docker://{image}");
        let copy = ["--insecure-policy", "--override-arch", "amd64", "copy", "--quiet", "--src-tls-verify=false"];
        tool("skopeo", &[&copy[..], &[&from, &format!("oci:{}:i", at("layout"))]].concat());
        tool("umoci", &["unpack", "--rootless", "--image", &format!("{}:i", at("layout")), &at("bundle")]);
        self.dir.path().join("bundle/rootfs")
    }
}

/// The layers of the image for `arch` (`arm/v7` with its variant) as skopeo sees them.
pub(crate) fn layers(arch: &str, image: &str) -> Vec<String> {
    let shown = inspected(arch, image);
    shown["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn inspected(arch: &str, image: &str) -> Value {
    let (arch, variant) = arch.split_once('/').unwrap_or((arch, ""));
    let platform = ["--override-arch", arch, "--override-variant", variant];
    let image = format!("docker://{image}");
    serde_json::from_slice(&tool("skopeo", &[&platform[..], &["inspect", "--tls-verify=false", &image]].concat()))
        .unwrap()
}

/// Runs a tool that must succeed, and gives what it prints.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} runs; `cargo xtask test` installs it: {error}"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
