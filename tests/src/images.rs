//! The images of the main job: the stand-in, `images/base` and `images/derivative/hello`, by the real `vast-imagegen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::program;

/// The folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    // The manifest's folder is `tests/`.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// One `vast-imagegen` with what all its builds share.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The folder of the project's binaries: `vast-imagegen` is run from it, and the images get the others from it.
    pub binaries: PathBuf,
    /// Where `vast-imagegen` keeps what it may reuse.
    pub cache: PathBuf,
}

/// An image that was built and pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `host/repository:tag`.
    pub reference: String,
    /// The digest that the build printed: `sha256:…`.
    pub digest: String,
}

impl Builder {
    /// The path of one of the project's binaries.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Builds the image of `folder` and pushes it to `reference`, with further arguments of `vast-imagegen build`.
    ///
    /// # Errors
    /// When the build does not succeed.
    pub fn build(&self, folder: &Path, reference: &str, arguments: &[&str]) -> Result<Published> {
        let printed = program::output(
            Command::new(self.binary("vast-imagegen"))
                .arg("build")
                .arg(folder)
                .args(["--to", reference, "--cache-dir"])
                .arg(&self.cache)
                .args(arguments),
        )?;
        let last = printed.lines().last().unwrap_or_default();
        let (_, digest) =
            last.rsplit_once('@').with_context(|| format!("`vast-imagegen build` printed no digest: {last}"))?;
        Ok(Published { reference: reference.to_owned(), digest: digest.to_owned() })
    }

    /// Builds and pushes the stand-in for the upstream image.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn stand_in(&self, folder: &Path, host: &str) -> Result<Published> {
        self.build(folder, &format!("{host}/debian:bookworm"), &["--engine", "native"])
    }

    /// Builds and pushes `images/base` on the stand-in.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn base(&self, host: &str, stand_in: &Published) -> Result<Published> {
        let context = format!("instance_tools={}", self.instance_tools()?.display());
        let base = format!("BASE_IMAGE={}", stand_in.reference);
        self.build(
            &repository().join("images/base"),
            &format!("{host}/base-image:bookworm"),
            &["--engine", "buildah", "--build-arg", &base, "--build-context", &context],
        )
    }

    /// Builds and pushes `images/derivative/hello` on the base, without any daemon or process.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn hello(&self, host: &str, base: &Published) -> Result<Published> {
        let argument = format!("BASE={}", base.reference);
        self.build(
            &repository().join("images/derivative/hello"),
            &format!("{host}/hello:latest"),
            &["--engine", "native", "--build-arg", &argument],
        )
    }

    /// A folder of the binaries that belong into an image: all but `vast-imagegen`, which only authors and CI run.
    fn instance_tools(&self) -> Result<PathBuf> {
        let folder = self.cache.join("instance-tools");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for name in INSTANCE_TOOLS {
            fs::copy(self.binary(name), folder.join(name))
                .with_context(|| format!("cannot copy {}", self.binary(name).display()))?;
        }
        Ok(folder)
    }
}

/// The binaries that run inside containers.
pub const INSTANCE_TOOLS: [&str; 7] =
    ["vast-boot", "vast-sync", "vast-envhash", "vast-gpu", "vast-portal", "vast-logtee", "vast-pty"];

/// An image on disk, with what its configuration says of the process to run.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The root filesystem: the lower layer of each container that is booted from it.
    pub rootfs: PathBuf,
    /// The entrypoint and its arguments.
    pub arguments: Vec<String>,
    /// The environment, `NAME=value`.
    pub environment: Vec<String>,
}

/// Reads an image back from the registry with `skopeo` and unpacks it with `umoci`: neither shares code with the builder.
///
/// # Errors
/// When either tool refuses the image.
pub fn unpack(reference: &str, folder: &Path) -> Result<Unpacked> {
    fs::create_dir_all(folder)?;
    let layout = folder.join("layout");
    program::run(
        Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{reference}"))
            .arg(format!("oci:{}:image", layout.display())),
    )?;
    let bundle = folder.join("bundle");
    program::run(
        Command::new("umoci").arg("unpack").arg("--image").arg(format!("{}:image", layout.display())).arg(&bundle),
    )?;
    fs::remove_dir_all(&layout)?;
    Unpacked::read(&bundle)
}

impl Unpacked {
    /// Reads a bundle that [`unpack`] left.
    ///
    /// # Errors
    /// When its `config.json` cannot be read.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: serde_json::Value = serde_json::from_slice(&text)?;
        let strings = |name: &str| -> Vec<String> {
            let values = config["process"][name].as_array().into_iter().flatten();
            values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        Ok(Self { rootfs: bundle.join("rootfs"), arguments: strings("args"), environment: strings("env") })
    }
}
