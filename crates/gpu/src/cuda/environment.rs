//! What later stages and every process of the instance see of the choice.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loader::is_cuda_path;
use super::plan::Plan;
use crate::toolkit::CURRENT;

/// Changes to the environment of later stages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Environment {
    /// Variables and their new values.
    pub set: BTreeMap<String, String>,
    /// Variables that go.
    pub unset: BTreeSet<String>,
}

impl Plan {
    /// The changes that the choice makes to `env`: none where no toolkit was chosen.
    ///
    /// `CUDA_HOME` is `/usr/local/cuda`; `PATH` has its `bin` where another toolkit's stood, else first; `LD_LIBRARY_PATH`, which would come before
    /// the loader's configuration, loses its entries for CUDA, and begins with [`search_first`](Plan::search_first) if there is one.
    #[must_use]
    pub fn environment(&self, env: &BTreeMap<String, String>) -> Environment {
        let mut changes = Environment::default();
        if self.choice.toolkit().is_none() {
            return changes;
        }
        let mut set = |name: &str, value: String| {
            if env.get(name) != Some(&value) {
                changes.set.insert(name.to_owned(), value);
            }
        };
        set("CUDA_HOME", CURRENT.to_owned());
        set("PATH", path(env.get("PATH").map_or("", String::as_str)));
        if let Some(old) = env.get("LD_LIBRARY_PATH") {
            let first = self.search_first.as_ref().map(|directory| directory.display().to_string());
            let kept: Vec<&str> =
                first.as_deref().into_iter().chain(old.split(':').filter(|entry| !is_cuda_path(entry))).collect();
            let kept = kept.join(":");
            if kept.is_empty() {
                changes.unset.insert("LD_LIBRARY_PATH".to_owned());
            } else {
                set("LD_LIBRARY_PATH", kept);
            }
        }
        changes
    }
}

fn path(old: &str) -> String {
    let bin = format!("{CURRENT}/bin");
    let is_toolkit_bin = |entry: &str| is_cuda_path(entry) && entry.trim_end_matches('/').ends_with("/bin");
    let mut entries: Vec<&str> = Vec::new();
    for entry in old.split(':').filter(|entry| !entry.is_empty()) {
        if !is_toolkit_bin(entry) {
            entries.push(entry);
        } else if !entries.contains(&bin.as_str()) {
            entries.push(&bin);
        }
    }
    if !entries.contains(&bin.as_str()) {
        entries.insert(0, &bin);
    }
    entries.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolkit_in_use_takes_the_place_of_others_in_the_path() {
        for (old, new) in [
            ("/opt/bin:/usr/bin", "/usr/local/cuda/bin:/opt/bin:/usr/bin"),
            ("/opt/bin:/usr/local/cuda-12.4/bin:/usr/bin", "/opt/bin:/usr/local/cuda/bin:/usr/bin"),
            ("/a:/usr/local/cuda/bin:/b:/usr/local/cuda-13.0/bin/:/c", "/a:/usr/local/cuda/bin:/b:/c"),
            ("/usr/local/cuda-12.4/nvvm/x:/b", "/usr/local/cuda/bin:/usr/local/cuda-12.4/nvvm/x:/b"),
            ("", "/usr/local/cuda/bin"),
        ] {
            assert_eq!(path(old), new, "{old}");
            assert_eq!(path(new), new, "{new}");
        }
    }
}
