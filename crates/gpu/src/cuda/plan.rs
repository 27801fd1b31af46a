//! The decision, from facts alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{COMPAT_CONF, COMPAT_MARKER, CUDA_CONF, loader};
use crate::tables;
use crate::toolkit::{self, Compat, Toolkit};
use crate::version::{CudaVersion, DriverVersion};

/// What the decision is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// None where the container has no NVIDIA driver.
    pub driver: Option<Driver>,
    /// The image's toolkits, oldest first.
    pub toolkits: Vec<Toolkit>,
    /// The toolkit that `/usr/local/cuda` leads to.
    pub current: Option<CudaVersion>,
    /// The toolkit that an earlier boot established forward compatibility for.
    pub established: Option<CudaVersion>,
    /// The user wants no forward compatibility.
    pub compat_disabled: bool,
    /// The loader's configuration files and their text.
    pub loader_files: BTreeMap<PathBuf, String>,
    /// The library directory of the system that has `libcuda.so.1` but no `libcuda.so`, on amd64.
    pub lacks_library_link: Option<PathBuf>,
    /// An earlier set-up was cut short before the loader's cache was made.
    pub pending: bool,
    /// `LD_LIBRARY_PATH`, which comes before all of the loader's configuration, leads to a libcuda that is no toolkit's.
    pub search_path_has_libcuda: bool,
    /// What was noticed while the facts were gathered.
    pub notes: Vec<String>,
}

/// The driver as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// The kernel's part.
    pub version: Option<DriverVersion>,
    /// The newest CUDA version that it supports.
    pub maximum: Maximum,
    /// The file that said so, as it was mapped; None where it was not the driver that said it.
    pub library: Option<PathBuf>,
}

/// The newest CUDA version that a driver supports, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maximum {
    /// The driver's own library says so.
    Driver(CudaVersion),
    /// The user says so.
    Override(CudaVersion),
    /// Nobody could say, and why. Guessing would be worse.
    Unknown(String),
}

impl Maximum {
    /// The version, if it is known.
    #[must_use]
    pub fn version(&self) -> Option<CudaVersion> {
        match self {
            Self::Driver(version) | Self::Override(version) => Some(*version),
            Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Maximum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(version) | Self::Override(version) => version.fmt(f),
            Self::Unknown(reason) => f.write_str(reason),
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// No NVIDIA driver: nothing to do.
    NoDriver,
    /// A driver, but the image has no toolkit.
    NoToolkit,
    /// Nothing changes, for the reason in [`Plan::failure`].
    Keep,
    /// The newest toolkit, with its own libcuda before the driver's.
    ForwardCompat(CudaVersion),
    /// The newest toolkit that the driver supports.
    Native(CudaVersion),
    /// A toolkit newer than the driver but of its major version: it runs, with limits.
    MinorVersion(CudaVersion),
}

impl Choice {
    /// The toolkit that is to be used.
    #[must_use]
    pub fn toolkit(self) -> Option<CudaVersion> {
        match self {
            Self::ForwardCompat(version) | Self::Native(version) | Self::MinorVersion(version) => Some(version),
            Self::NoDriver | Self::NoToolkit | Self::Keep => None,
        }
    }
}

/// One change to the file system, in the container's paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The file gets this text.
    Write {
        /// The file.
        path: PathBuf,
        /// All of its text.
        content: String,
    },
    /// The file goes.
    Remove {
        /// The file.
        path: PathBuf,
    },
    /// The path becomes a symbolic link.
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The toolkit and how it is used.
    pub choice: Choice,
    /// In the order in which they are made, or none of them.
    pub changes: Vec<Change>,
    /// The loader's cache has to be made anew.
    pub ldconfig: bool,
    /// The directory that has to stand first in `LD_LIBRARY_PATH`: that of the forward-compatibility libraries, where a directory there has the
    /// driver's, which programs would get instead.
    pub search_first: Option<PathBuf>,
    /// What [`FAILED_MARKER`](super::FAILED_MARKER) is to say; None: it goes.
    pub failure: Option<String>,
    /// What the user should know.
    pub messages: Vec<String>,
}

impl Facts {
    /// The forward-compatibility libraries to try before planning: those of the newest toolkit, if it is newer than the driver and nothing
    /// speaks against it.
    #[must_use]
    pub fn compat_candidate(&self) -> Option<&Compat> {
        self.compat().ok().flatten()
    }

    /// As [`compat_candidate`](Self::compat_candidate); `Err` says what speaks against libraries that would be called for.
    fn compat(&self) -> Result<Option<&Compat>, String> {
        let (Some(driver), Some(newest)) = (&self.driver, self.toolkits.last()) else { return Ok(None) };
        let Some(maximum) = driver.maximum.version().filter(|&maximum| newest.version > maximum) else {
            return Ok(None);
        };
        let Some(compat) = &newest.compat else {
            return Err(format!(
                "CUDA {} has no forward-compatibility libraries for a driver of {maximum}",
                newest.version
            ));
        };
        if self.compat_disabled {
            return Err("forward compatibility is disabled".to_owned());
        }
        // An older library on a newer kernel driver does not start, or worse, starts.
        match (compat.driver, driver.version) {
            (Some(library), Some(kernel)) if library < kernel => {
                Err(format!("the forward-compatibility libraries of {library} are older than the driver, {kernel}"))
            }
            _ => Ok(Some(compat)),
        }
    }
}

/// Decides. `proof` is how the [candidate](Facts::compat_candidate) did when it was tried.
#[must_use]
pub fn plan(facts: &Facts, proof: Option<&Result<(), String>>) -> Plan {
    let mut plan = Plan {
        choice: Choice::NoDriver,
        changes: Vec::new(),
        ldconfig: false,
        search_first: None,
        failure: None,
        messages: facts.notes.clone(),
    };
    let Some(driver) = &facts.driver else { return plan };
    let maximum = match &driver.maximum {
        Maximum::Unknown(reason) => {
            plan.choice = Choice::Keep;
            plan.failure = Some(format!("the newest CUDA version that the driver supports is unknown: {reason}"));
            return plan;
        }
        Maximum::Driver(version) | Maximum::Override(version) => *version,
    };
    choose(facts, maximum, proof, &mut plan);
    plan.changes = changes(facts, plan.choice);
    plan.search_first =
        compat_in_use(facts, plan.choice).filter(|_| facts.search_path_has_libcuda).map(|compat| compat.path.clone());
    plan.ldconfig = facts.pending || !plan.changes.is_empty();
    plan
}

fn choose(facts: &Facts, maximum: CudaVersion, proof: Option<&Result<(), String>>, plan: &mut Plan) {
    let versions: Vec<CudaVersion> = facts.toolkits.iter().map(|toolkit| toolkit.version).collect();
    let Some(&newest) = versions.last() else {
        plan.choice = Choice::NoToolkit;
        return;
    };
    let without_compat = match (facts.compat(), proof) {
        (Ok(Some(_)), Some(Ok(()))) => {
            plan.choice = Choice::ForwardCompat(newest);
            return;
        }
        (Ok(Some(_)), Some(Err(reason))) => Some(format!("forward compatibility with CUDA {newest} failed: {reason}")),
        (Ok(Some(_)), None) => Some(format!("forward compatibility with CUDA {newest} was not tried")),
        (Ok(None), _) => None,
        (Err(reason), _) => Some(reason),
    };
    plan.messages.extend(without_compat.clone());

    let supported = versions.iter().rev().find(|&&version| version <= maximum);
    let same_major = versions.iter().find(|version| version.major == maximum.major);
    plan.choice = match (supported, same_major) {
        (Some(&version), _) => Choice::Native(version),
        (None, Some(&version)) => {
            plan.messages.push(minor_version_warning(version, maximum));
            Choice::MinorVersion(version)
        }
        (None, None) => {
            let all: Vec<String> = versions.iter().map(ToString::to_string).collect();
            plan.failure = Some(format!("no toolkit ({}) runs on a driver of CUDA {maximum}", all.join(", ")));
            Choice::Keep
        }
    };

    // Not where the user asked for it, and not where the driver has become new enough.
    let lost = facts.established.filter(|_| !facts.compat_disabled && newest > maximum);
    let used = plan.choice.toolkit().or(facts.current);
    if let Some(established) = lost.filter(|&established| used != Some(established)) {
        let reason = without_compat.unwrap_or_default();
        let instead = used.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let lost = format!(
            "an earlier boot used CUDA {established} through forward compatibility, this one uses {instead}: {reason}"
        );
        plan.failure = Some(plan.failure.take().map_or(lost.clone(), |failure| format!("{failure}; {lost}")));
    }
}

fn minor_version_warning(toolkit: CudaVersion, maximum: CudaVersion) -> String {
    let driver = tables::minimum_driver(toolkit).map_or_else(String::new, |driver| format!(" ({driver} or newer)"));
    format!(
        "CUDA {toolkit} is newer than the driver's {maximum}: it runs by minor-version compatibility, without new features and \
         without compiling PTX; a driver made for it{driver} would run all of it"
    )
}

/// The libraries that come before the driver's.
fn compat_in_use(facts: &Facts, choice: Choice) -> Option<&Compat> {
    let Choice::ForwardCompat(version) = choice else { return None };
    facts.toolkits.iter().find(|toolkit| toolkit.version == version)?.compat.as_ref()
}

fn changes(facts: &Facts, choice: Choice) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(version) = choice.toolkit() {
        if facts.current != Some(version) {
            let target = PathBuf::from(toolkit::TOOLKITS).join(format!("cuda-{version}"));
            changes.push(Change::Link { path: toolkit::CURRENT.into(), target });
        }
        for (path, content) in loader::wanted(&facts.loader_files, compat_in_use(facts, choice)) {
            changes.push(match content {
                Some(content) => Change::Write { path, content },
                None => Change::Remove { path },
            });
        }
    }
    if let Some(directory) = &facts.lacks_library_link {
        changes.push(Change::Link { path: directory.join("libcuda.so"), target: "libcuda.so.1".into() });
    }
    // Last: it tells later boots that all of the above was done.
    let newest = facts.toolkits.last().map(|toolkit| toolkit.version);
    let marker = PathBuf::from(COMPAT_MARKER);
    match choice {
        Choice::ForwardCompat(version) if facts.established != Some(version) => {
            changes.push(Change::Write { path: marker, content: format!("{version}\n") });
        }
        // The driver runs everything by itself: nothing is missed from now on.
        Choice::Native(version) if facts.established.is_some() && Some(version) == newest => {
            changes.push(Change::Remove { path: marker });
        }
        _ => {}
    }
    changes
}

/// The files that belong to this set-up; every other file of the loader only loses its lines for CUDA.
pub(super) const OWN_FILES: [&str; 2] = [COMPAT_CONF, CUDA_CONF];
