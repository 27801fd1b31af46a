//! What later stages and every process of the instance see of the choice.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loader::is_cuda_path;
use super::plan::Plan;
use crate::toolkit::CURRENT;
use crate::version::CudaVersion;

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
            changes.search_path(old, first.as_deref(), is_cuda_path);
        }
        changes
    }

    /// As [`environment`](Self::environment), for variables that an earlier boot wrote down, and that the user may have edited since.
    ///
    /// A `CUDA_HOME` outside of `/usr/local/cuda…` is the user's and stays. Where no toolkit was chosen, the directories that an earlier boot
    /// put first in `LD_LIBRARY_PATH` go: it is not known that their libraries still fit the driver.
    #[must_use]
    pub fn environment_after(&self, earlier: &BTreeMap<String, String>) -> Environment {
        let mut changes = self.environment(earlier);
        if earlier.get("CUDA_HOME").is_some_and(|home| !home.is_empty() && !is_cuda_path(home)) {
            changes.set.remove("CUDA_HOME");
        }
        if let (None, Some(old)) = (self.choice.toolkit(), earlier.get("LD_LIBRARY_PATH")) {
            changes.search_path(old, None, is_search_first);
        }
        changes
    }
}

impl Environment {
    /// `LD_LIBRARY_PATH` with this entry first and without those that go.
    fn search_path(&mut self, old: &str, first: Option<&str>, goes: fn(&str) -> bool) {
        let entries: Vec<&str> = first.into_iter().chain(old.split(':').filter(|entry| !goes(entry))).collect();
        let new = entries.join(":");
        if new.is_empty() {
            self.unset.insert("LD_LIBRARY_PATH".to_owned());
        } else if new != old {
            self.set.insert("LD_LIBRARY_PATH".to_owned(), new);
        }
    }
}

/// Whether a directory is one that [`Plan::search_first`] names: `/usr/local/cuda-13.0/compat`.
fn is_search_first(directory: &str) -> bool {
    let version = directory.strip_prefix(CURRENT).and_then(|rest| rest.strip_prefix('-')?.strip_suffix("/compat"));
    version.is_some_and(|version| version.parse::<CudaVersion>().is_ok())
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
    use crate::cuda::Choice;

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

    #[test]
    fn what_an_earlier_boot_wrote_follows_this_one_and_what_the_user_wrote_stays() {
        let version = CudaVersion::new(13, 0);
        let (compat, driver) = ("/usr/local/cuda-13.0/compat", "/usr/local/nvidia/lib64");
        let both = format!("{compat}:{driver}");
        for (choice, first, earlier, expected) in [
            (Choice::ForwardCompat(version), Some(compat), driver, Some(both.as_str())),
            (Choice::ForwardCompat(version), Some(compat), &both, Some(&both)),
            (Choice::Native(version), None, &both, Some(driver)),
            (Choice::Native(version), None, compat, None),
            (Choice::Keep, None, &both, Some(driver)),
            (Choice::Keep, None, compat, None),
            (Choice::NoDriver, None, &both, Some(driver)),
            // These no boot has written.
            (
                Choice::Keep,
                None,
                "/usr/local/cuda/compat:/usr/local/cuda-13.0/lib64",
                Some("/usr/local/cuda/compat:/usr/local/cuda-13.0/lib64"),
            ),
        ] {
            let plan = Plan {
                choice,
                changes: Vec::new(),
                ldconfig: false,
                search_first: first.map(Into::into),
                failure: None,
                messages: Vec::new(),
            };
            let before: BTreeMap<_, _> = [("CUDA_HOME", "/opt/cuda"), ("LD_LIBRARY_PATH", earlier)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
            let changes = plan.environment_after(&before);
            let mut after = before.clone();
            after.extend(changes.set);
            after.retain(|name, _| !changes.unset.contains(name));
            assert_eq!(after.get("LD_LIBRARY_PATH").map(String::as_str), expected, "{choice:?} {earlier}");
            assert_eq!(after["CUDA_HOME"], "/opt/cuda");
        }
    }
}
