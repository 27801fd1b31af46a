//! The system that is hashed: this machine, with the environment at its place.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{mount_bind, mount_bind_recursive};

use super::super::namespace;

/// Where the environment is, for both.
pub(super) const VENV: &str = "/venv/main";

/// Moves this process into a mount namespace of its own, in which the machine's directories are bound below `folder` and
/// `venv` is the one environment, and makes that the root. All of it ends with the process.
pub(super) fn enter(folder: &Path, venv: &Path) -> Result<()> {
    namespace::enter(folder)?;
    for entry in fs::read_dir("/").context("cannot list `/`")? {
        let entry = entry.context("cannot list `/`")?;
        let (from, to) = (entry.path(), folder.join(entry.file_name()));
        let kind = entry.file_type().context("cannot list `/`")?;
        if entry.file_name() == "venv" {
            continue;
        }
        let laid = if kind.is_symlink() {
            fs::read_link(&from).and_then(|target| std::os::unix::fs::symlink(target, &to))
        } else if kind.is_dir() {
            fs::create_dir(&to).and_then(|()| Ok(mount_bind_recursive(&from, &to)?))
        } else {
            Ok(())
        };
        laid.with_context(|| format!("cannot lay out `{}`", from.display()))?;
    }
    let place = folder.join(VENV.trim_start_matches('/'));
    fs::create_dir_all(&place).with_context(|| format!("cannot create `{}`", place.display()))?;
    mount_bind(venv, &place).with_context(|| format!("cannot bind `{}`", venv.display()))?;
    rustix::process::chroot(folder).context("cannot change the root")?;
    std::env::set_current_dir("/").context("cannot go to `/`")
}
