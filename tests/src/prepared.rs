//! The images of the end-to-end tests: built, pushed, read back and unpacked once, then shared by all test processes.
//!
//! What was prepared is kept under `target/e2e/<fingerprint>` and reused as long as neither the binaries nor `images/`
//! change. A lock lets one process prepare while the others wait.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::images::{Builder, Published, Unpacked, repository, unpack};
use crate::registry::Registry;
use crate::stand_in;

/// What the tests start from.
#[derive(Debug)]
pub struct Prepared {
    /// Builds further images with the same binaries.
    pub builder: Builder,
    /// `hello`, unpacked.
    pub hello: Unpacked,
    /// The folder of a registry that holds `debian`, `base-image` and `hello`; copy it before writing to it.
    pub registry: PathBuf,
    /// The digest that each build printed: stand-in, base, hello.
    pub digests: [String; 3],
}

/// The folder of the binaries under test: `cargo xtask test` puts them there, stripped.
#[must_use]
pub fn binaries() -> PathBuf {
    std::env::var_os("VAST_TEST_BINARIES").map_or_else(|| repository().join("target/dist-dev/bin"), PathBuf::from)
}

/// Prepares the images, or finds them prepared.
///
/// # Errors
/// When a step of the main job fails; that is what the tests would find too.
pub fn prepare() -> Result<Prepared> {
    let cache = repository().join("target/e2e");
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;

    let binaries = binaries();
    let builder = Builder { binaries: binaries.clone(), cache: cache.join("cache") };
    let stand_in = stand_in::folder(&cache)?;
    let folder = cache.join(fingerprint(&[&binaries, &repository().join("images")])?);
    if !folder.join("digests").exists() {
        remove_others(&cache, &folder)?;
        build_all(&builder, &stand_in, &folder)?;
    }
    let digests = fs::read_to_string(folder.join("digests"))?;
    let digests: Vec<String> = digests.lines().map(str::to_owned).collect();
    let digests = digests.try_into().map_err(|lines| anyhow::anyhow!("three digests expected, found {lines:?}"))?;
    Ok(Prepared {
        builder,
        hello: Unpacked::read(&folder.join("hello/bundle"))?,
        registry: folder.join("registry"),
        digests,
    })
}

fn build_all(builder: &Builder, stand_in: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let registry = Registry::start(&folder.join("registry"))?;
    let host = registry.host();
    let stand_in = builder.stand_in(stand_in, &host)?;
    let base = builder.base(&host, &stand_in)?;
    let hello = builder.hello(&host, &base)?;
    unpack(&hello.reference, &folder.join("hello"))?;
    let digests = [&stand_in, &base, &hello].map(|Published { digest, .. }| digest.as_str()).join("\n");
    // Written last: its presence says that the rest is whole.
    fs::write(folder.join("digests"), digests).context("cannot record the digests")
}

/// Earlier states of the same tree are of no use, and large.
fn remove_others(cache: &Path, keep: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let is_state = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"state-"));
        if is_state && path != keep {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// A name for the content of some folders: paths, modes and bytes.
fn fingerprint(folders: &[&Path]) -> Result<String> {
    let mut hasher = Sha256::new();
    for folder in folders {
        add(&mut hasher, folder).with_context(|| format!("cannot read {}", folder.display()))?;
    }
    Ok(format!("state-{}", &hex::encode(hasher.finalize())[..16]))
}

fn add(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    hasher.update(path.file_name().unwrap_or(OsStr::new("/")).as_bytes());
    hasher.update(metadata.permissions().mode().to_le_bytes());
    if metadata.is_dir() {
        let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        entries.iter().try_for_each(|entry| add(hasher, entry))
    } else if metadata.is_symlink() {
        hasher.update(fs::read_link(path)?.as_os_str().as_bytes());
        Ok(())
    } else {
        hasher.update(metadata.len().to_le_bytes());
        hasher.update(fs::read(path)?);
        Ok(())
    }
}
