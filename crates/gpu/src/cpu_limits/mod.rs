//! Thread pools that fit the container (boot stage 12).
//!
//! A container can see hundreds of CPUs while its quota is a few and its `pids.max` small; thread pools sized by visible CPUs then
//! exhaust it. Where that can happen, the usual variables that size thread pools are set to what the quota allows, in a managed block of
//! `/etc/environment`, which every process of the instance loads. Where it cannot, a block that an earlier boot left is removed.
//!
//! ```
//! use std::collections::BTreeMap;
//! use vast_gpu::cpu_limits::{Facts, plan, Settings};
//!
//! let facts = Facts { visible_cpus: 256, pids_max: Some(2048), quota_cores: Some(7.6) };
//! let plan = plan(&facts, &Settings::default(), "", "", &BTreeMap::new());
//! assert_eq!(plan.cap, Some(8));
//! assert!(plan.environment_file.unwrap().contains("OMP_NUM_THREADS=\"8\"\n"));
//! ```

mod block;
mod cgroup;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::env_vars;
use crate::error::Error;
use crate::files;
use crate::toolkit::under;

/// The file that every process of the instance loads.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";

/// The variables by which libraries size their thread pools.
pub const VARIABLES: [&str; 8] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
];

/// So many processes and threads per visible CPU are enough for thread pools sized by it.
const ENOUGH_PIDS_PER_CPU: u64 = 16;

/// A pool of one thread serialises what expects to run beside something else.
const LOWEST_CAP: u32 = 2;

const DEFAULT_CEILING: u32 = 16;

/// What the kernel grants the container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// The CPUs that a program sees and sizes its pools by.
    pub visible_cpus: u32,
    /// The most processes and threads; None without a limit.
    pub pids_max: Option<u64>,
    /// CPU time per time, in cores; None without a quota.
    pub quota_cores: Option<f64>,
}

/// What the user may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most threads for one pool.
    pub ceiling: u32,
    /// Why the user's ceiling was not taken.
    pub warning: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ceiling: DEFAULT_CEILING, warning: None }
    }
}

impl Settings {
    /// Reads `VAST_CPU_THREAD_CEILING`; what is no number from 1 up counts as unset, with a warning.
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let name = env_vars::VAST_CPU_THREAD_CEILING;
        match env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty()) {
            None => Self::default(),
            Some(value) => match value.parse() {
                Ok(ceiling) if ceiling > 0 => Self { ceiling, warning: None },
                _ => Self {
                    warning: Some(format!("{name} is `{value}`, no number of threads: {DEFAULT_CEILING} is used")),
                    ..Self::default()
                },
            },
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The threads that a pool gets, or None where no limit is needed.
    pub cap: Option<u32>,
    /// The new text of `/etc/environment`; None where it stays.
    pub environment_file: Option<String>,
    /// Variables for the later stages.
    pub set: BTreeMap<String, String>,
    /// Variables that an earlier boot's block put into the environment and that go.
    pub unset: BTreeSet<String>,
    /// Variables that keep the value that the user or the template gave them.
    pub kept: BTreeSet<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Reads the limits of the calling process in the system under `root`: `/proc/self`, `/sys/fs/cgroup` (version 1 or 2).
///
/// # Errors
/// [`Error::Read`] when the number of visible CPUs cannot be told. A limit that cannot be read counts as none.
pub fn gather(root: &Path) -> Result<Facts, Error> {
    Ok(Facts {
        visible_cpus: cgroup::visible_cpus(root)?,
        pids_max: cgroup::pids_max(root),
        quota_cores: cgroup::quota_cores(root),
    })
}

impl Facts {
    /// The threads that a pool gets, or None where processes are not scarce.
    ///
    /// The quota in whole cores, at most `ceiling`, at least 2; without a quota the ceiling.
    #[must_use]
    pub fn cap(&self, ceiling: u32) -> Option<u32> {
        let scarce = self.pids_max.is_some_and(|pids| pids < ENOUGH_PIDS_PER_CPU * u64::from(self.visible_cpus));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits; a float cast saturates"
        )]
        let quota = self.quota_cores.map(|cores| cores.round().max(0.0) as u32);
        scarce.then(|| quota.unwrap_or(ceiling).min(ceiling).max(LOWEST_CAP))
    }
}

/// Decides what becomes of the managed block in `environment_file`, the text of `/etc/environment`.
///
/// A variable that stands in that file outside the block, in `dotenv` (the text of `$WORKSPACE/.env`), or in `env` with another value than
/// the old block's, is the user's or the template's and is not touched.
#[must_use]
pub fn plan(
    facts: &Facts,
    settings: &Settings,
    environment_file: &str,
    dotenv: &str,
    env: &BTreeMap<String, String>,
) -> Plan {
    let old = block::cut_out(environment_file);
    let cap = facts.cap(settings.ceiling);
    let given = |name: &str| {
        block::assigns(&old.rest, name)
            || block::assigns(dotenv, name)
            || env.get(name).is_some_and(|value| old.values.get(name) != Some(value))
    };
    let (kept, free): (BTreeSet<&str>, BTreeSet<&str>) = VARIABLES.into_iter().partition(|name| given(name));
    let set: BTreeMap<String, String> = match cap {
        Some(cap) => free.iter().map(|&name| (name.to_owned(), cap.to_string())).collect(),
        None => BTreeMap::new(),
    };
    // What `env` has with the old block's value came from it, and goes unless it is set again.
    let from_block = old.values.iter().filter(|&(name, value)| env.get(name) == Some(value));
    let unset = from_block.map(|(name, _)| name.clone()).filter(|name| !set.contains_key(name)).collect();
    let text = block::append(&old.rest, VARIABLES.iter().filter_map(|&name| Some((name, set.get(name)?.as_str()))));
    Plan {
        cap,
        environment_file: (text != environment_file).then_some(text),
        unset,
        kept: if cap.is_some() { kept.into_iter().map(str::to_owned).collect() } else { BTreeSet::new() },
        set,
        warnings: settings.warning.clone().into_iter().collect(),
    }
}

/// The whole stage under `root`: gathers the facts, plans, and writes `/etc/environment` if its block changes.
///
/// `workspace` is the container's path of the user's directory, which may hold a `.env`. The variables for later stages are the caller's to
/// set and unset.
///
/// # Errors
/// [`Error::Read`] and [`Error::Change`]; the file is then as it was.
pub fn apply(root: &Path, workspace: &Path, env: &BTreeMap<String, String>) -> Result<Plan, Error> {
    let path = under(root, Path::new(ENVIRONMENT_FILE));
    let file = Text::read(&path)?;
    let dotenv = Text::read(&under(root, &workspace.join(".env")))?;
    let plan = plan(&gather(root)?, &Settings::from_env(env), &file.text, &dotenv.text, env);
    if let Some(text) = &plan.environment_file {
        files::publish(&path, &file.bytes(text)).map_err(Error::change(&path))?;
    }
    Ok(plan)
}

/// The text of a file that may hold any bytes: values of variables need not be UTF-8.
///
/// One that is not is read as if each byte were the character of its number, and written back the same way. All that is looked
/// for or added here is ASCII, which is the same in both.
struct Text {
    text: String,
    is_utf8: bool,
}

impl Text {
    /// Empty if there is no file.
    fn read(path: &PathBuf) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(match String::from_utf8(bytes) {
                Ok(text) => Self { text, is_utf8: true },
                Err(error) => Self { text: error.as_bytes().iter().copied().map(char::from).collect(), is_utf8: false },
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { text: String::new(), is_utf8: true }),
            Err(error) => Err(Error::read(path)(error)),
        }
    }

    /// What to write so that the file holds `text`, made of this one.
    fn bytes(&self, text: &str) -> Vec<u8> {
        if self.is_utf8 {
            return text.as_bytes().to_vec();
        }
        text.chars().filter_map(|character| u8::try_from(character).ok()).collect()
    }
}
