//! What commands that make images take from the environment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use vast_imagegen::build::DEFAULT_EPOCH;
use vast_imagegen::env_vars;
use vast_imagegen::reference::Reference;

/// The time of new files and of the image, in seconds since 1970.
pub(super) fn epoch(env: &BTreeMap<String, String>) -> Result<i64, String> {
    let Some(text) = env.get(env_vars::SOURCE_DATE_EPOCH).map(|text| text.trim()).filter(|text| !text.is_empty())
    else {
        return Ok(DEFAULT_EPOCH);
    };
    text.parse()
        .ok()
        .filter(|epoch| (0..=253_402_300_799).contains(epoch))
        .ok_or_else(|| format!("{} is `{text}`, which is no number of seconds since 1970", env_vars::SOURCE_DATE_EPOCH))
}

/// Where indexes of layers are kept.
pub(super) fn cache(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = |name: &str| env.get(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let caches = named(env_vars::XDG_CACHE_HOME).or_else(|| named(env_vars::HOME).map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("vast-imagegen"))
}

/// The commit that is recorded as an image's revision.
pub(super) fn revision(given: Option<&String>, env: &BTreeMap<String, String>) -> Option<String> {
    given.or_else(|| env.get(env_vars::GITHUB_SHA)).cloned()
}

/// Threads that compress.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether layers that are made in `work` stay on its disk when they are published as `to`.
pub(super) fn local(to: &Reference, work: &Path) -> bool {
    let Reference::OciLayout(layout) = to else { return false };
    // The layout may not be there yet; the end of a relative path's ancestors is the current folder.
    let above = layout.path.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
    let device = |path: &Path| path.metadata().map(|facts| facts.dev()).ok();
    above.into_iter().find_map(device).is_some_and(|disk| Some(disk) == device(work))
}
