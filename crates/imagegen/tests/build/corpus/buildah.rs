//! buildah itself, left to do everything its own way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::unpacked::write_layout;

/// A storage of its own, with the corpus's base in it.
pub(crate) struct Buildah {
    storage: tempfile::TempDir,
    base: String,
}

impl Buildah {
    /// Takes the image `v1` of the layout `base` in.
    pub(crate) fn new(base: &Path) -> Self {
        let mut buildah = Self { storage: tempfile::tempdir().unwrap(), base: String::new() };
        // buildah names what it pulls after the path, and its names have no capitals: it must be a relative one.
        let name = format!("oci:{}:v1", base.file_name().unwrap().display());
        let pull = buildah.run(&["pull", "--quiet", &name], base.parent().unwrap()).unwrap();
        pull.trim().clone_into(&mut buildah.base);
        buildah
    }

    fn run(&self, arguments: &[&str], directory: &Path) -> Result<String, String> {
        let output = Command::new("buildah")
            .arg("--root")
            .arg(self.storage.path().join("root"))
            .arg("--runroot")
            .arg(self.storage.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .current_dir(directory)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Builds `dockerfile` in `folder`, with the base as the context `base`, into a layout in `work`; or what it says.
    ///
    /// Docker's format, because OCI's has no place for health checks, shells and triggers.
    pub(crate) fn build(
        &self,
        folder: &Path,
        dockerfile: &Path,
        arguments: &[String],
        work: &Path,
    ) -> Result<PathBuf, String> {
        let saved = work.join("saved");
        let tag = format!("dir:{}", saved.display());
        let base = format!("base=container-image://{}", self.base);
        let dockerfile = dockerfile.display().to_string();
        let mut command = vec!["bud", "--isolation", "chroot", "--format", "docker", "--identity-label=false"];
        command.extend(["--quiet", "--pull-never", "--build-context", &base, "--file", &dockerfile, "--tag", &tag]);
        for argument in arguments {
            command.extend(["--build-arg", argument]);
        }
        let folder = folder.display().to_string();
        command.push(&folder);
        self.run(&command, work)?;
        Ok(as_layout(&saved, &work.join("theirs")))
    }

    /// Copies what is in `overlay` to the root of the base, into a layout in `work`.
    pub(crate) fn copy_over(&self, overlay: &Path, work: &Path) -> Result<PathBuf, String> {
        let container = self.run(&["from", "--quiet", "--pull-never", &self.base], work)?;
        let container = container.trim();
        self.run(&["copy", "--quiet", container, &format!("{}/", overlay.display()), "/"], work)?;
        self.run(&["commit", "--quiet", "--rm", "--identity-label=false", container, "oci:theirs:v1"], work)?;
        Ok(work.join("theirs"))
    }
}

/// What `dir:` saved, as a layout: the same blobs under OCI's types.
fn as_layout(saved: &Path, layout: &Path) -> PathBuf {
    let manifest: Value = serde_json::from_slice(&fs::read(saved.join("manifest.json")).unwrap()).unwrap();
    let blob = |digest: &Value| fs::read(saved.join(&digest.as_str().unwrap()["sha256:".len()..])).unwrap();
    let layers: Vec<(String, Vec<u8>)> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            let packed = layer["mediaType"].as_str().unwrap().ends_with("gzip");
            let suffix = if packed { "+gzip" } else { "" };
            (format!("application/vnd.oci.image.layer.v1.tar{suffix}"), blob(&layer["digest"]))
        })
        .collect();
    write_layout(layout, &blob(&manifest["config"]["digest"]), &layers);
    layout.to_owned()
}
