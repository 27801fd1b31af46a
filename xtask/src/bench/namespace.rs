//! A mount namespace of this process's own, in which a system to measure is laid out. All of it ends with the process.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

#[allow(unsafe_code, reason = "rustix calls it unsafe for the sake of descriptor tables")]
fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: the table of descriptors stays shared; only mounts become this process's own.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Moves this process into such a namespace, with an empty filesystem in memory at `folder`.
pub(super) fn enter(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let namespace = || -> rustix::io::Result<()> {
        unshare_mounts()?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)
    };
    namespace().context("cannot make a mount namespace; this needs root")
}
