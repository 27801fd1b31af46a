//! What commands that make images take from the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vast_imagegen::build::DEFAULT_EPOCH;
use vast_imagegen::env_vars;

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
