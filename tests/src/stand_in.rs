//! A Debian root filesystem, made from the package mirror, that stands in for the upstream image of the base.
//!
//! It has an SSH server, as the platform installs one where an instance is reached through SSH.
//!
//! What this machine trusts (certificate authorities, as a proxy in between may need them) is laid into it, because
//! packages are installed in it at build time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::program;

/// What is installed beside the smallest system.
const PACKAGES: [&str; 2] = ["ca-certificates", "openssh-server"];

/// Where this machine keeps the certificate authorities it trusts.
const TRUSTED: &str = "etc/ssl/certs/ca-certificates.crt";

/// The folder of a `FROM scratch` image that holds the root filesystem; made once under `cache`, then reused.
///
/// # Errors
/// When `mmdebstrap` fails or the cache cannot be written.
pub fn folder(cache: &Path) -> Result<PathBuf> {
    // One that was made of other packages is another one.
    let folder = cache.join(format!("stand-in-{}", PACKAGES.join("-")));
    if folder.join("Dockerfile").exists() {
        return Ok(folder);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // The folder appears under its name only when it is whole: a run that was stopped half-way leaves nothing to trust.
    let staging = tempfile::tempdir_in(cache)?;
    program::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", &format!("--include={}", PACKAGES.join(",")), "bookworm"])
            .arg(staging.path().join("rootfs.tar")),
    )?;
    let trust = staging.path().join("trust");
    write(&trust.join("etc/pip.conf"), format!("[global]\ncert = /{TRUSTED}\n").as_bytes())?;
    write(&trust.join("etc/uv/uv.toml"), b"native-tls = true\n")?;
    if let Ok(authorities) = fs::read(Path::new("/").join(TRUSTED)) {
        write(&trust.join(TRUSTED), &authorities)?;
    }
    write(&staging.path().join("Dockerfile"), b"FROM scratch\nADD rootfs.tar /\nCOPY trust /\nCMD [\"/bin/bash\"]\n")?;
    let staging = staging.keep();
    fs::rename(&staging, &folder).with_context(|| format!("cannot publish {}", folder.display()))?;
    Ok(folder)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
