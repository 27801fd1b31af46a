//! Jupyter's entries depend on who runs it: the platform, this image, or nobody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::env_vars;
use crate::error::Error;
use crate::model::{Entry, PortalConfig};
use crate::resolve::PortMap;

/// Jupyter's published port.
const JUPYTER_PORT: u16 = 8080;
/// Where this image's own Jupyter listens, behind the proxy.
const JUPYTER_BEHIND_PROXY: u16 = 18080;

/// How the platform started the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaunchMode {
    /// The platform runs Jupyter itself.
    PlatformJupyter,
    /// The platform offers SSH and runs nothing.
    Ssh,
    /// The image's entrypoint runs.
    Entrypoint,
}

impl LaunchMode {
    /// Reads `/.launch` under `root`: the platform's own start script, absent in entrypoint mode.
    ///
    /// # Errors
    /// [`Error::Read`] when the file is there but cannot be read.
    pub fn detect(root: &Path) -> Result<Self, Error> {
        let path = root.join(".launch");
        match fs::read(&path) {
            Ok(content) if names_jupyter(&String::from_utf8_lossy(&content)) => Ok(Self::PlatformJupyter),
            Ok(_) => Ok(Self::Ssh),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Entrypoint),
            Err(error) => Err(Error::read(&path)(error)),
        }
    }
}

/// The entries with which this image's boot continues.
///
/// In this order:
/// 1. port 8080 is not published, or SSH mode without `JUPYTER_OVERRIDE=true`: no entry that names jupyter stays;
/// 2. entrypoint mode, `FORCE_JUPYTER` is not `false`, 8080 is published and no entry names jupyter: Jupyter and its
///    terminal are added;
/// 3. the platform runs Jupyter, without `JUPYTER_OVERRIDE=true`: its entries link to 8080 directly, not proxied.
#[must_use]
pub fn apply_rules(config: &PortalConfig, mode: LaunchMode, env: &BTreeMap<String, String>) -> PortalConfig {
    let is = |name: &str, word: &str| env.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    let overridden = is(env_vars::JUPYTER_OVERRIDE, "true");
    let published = PortMap::from_env(env).is_published(JUPYTER_PORT);
    let mut entries = config.entries.clone();

    if !published || (mode == LaunchMode::Ssh && !overridden) {
        entries.retain(|entry| !names_jupyter(&entry.to_string()));
    }
    if mode == LaunchMode::Entrypoint
        && published
        && !is(env_vars::FORCE_JUPYTER, "false")
        && !entries.iter().any(|entry| names_jupyter(&entry.to_string()))
    {
        entries.push(jupyter(JUPYTER_BEHIND_PROXY, "/", "Jupyter"));
        entries.push(jupyter(JUPYTER_PORT, "/terminals/1", "Jupyter Terminal"));
    }
    if mode == LaunchMode::PlatformJupyter && !overridden {
        for entry in &mut entries {
            let mut pair = [entry.internal_port, entry.external_port];
            pair.sort_unstable();
            // In either order: both are in the wild.
            if pair == [JUPYTER_PORT, JUPYTER_BEHIND_PROXY] {
                entry.internal_port = JUPYTER_PORT;
                entry.external_port = JUPYTER_PORT;
            }
        }
    }
    PortalConfig { entries }
}

fn jupyter(second_port: u16, path: &str, label: &str) -> Entry {
    Entry {
        host: "localhost".to_owned(),
        internal_port: JUPYTER_PORT,
        external_port: second_port,
        path: path.to_owned(),
        label: label.to_owned(),
    }
}

fn names_jupyter(text: &str) -> bool {
    text.to_ascii_lowercase().contains("jupyter")
}
