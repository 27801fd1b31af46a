//! `vast-boot doctor`: what is wrong with a running instance, and what to do about it.
//!
//! Each area has a module: what it looks at (`gather`), and what follows from that (`diagnose`, which sees the facts of all areas and
//! nothing else). Looking changes nothing and waits for nothing longer than [`Look::patience`].
//!
//! ```text
//! Look ──gather──▶ Facts ──diagnose──▶ Vec<Finding> ──▶ Report ──render──▶ text
//!                                                           └──bundle──▶ .tar.gz
//! ```
//!
//! Whatever is quoted (a log, a message, a path) passes the [`Redactor`] on its way into the [`Report`].
//!
//! # Example
//!
//! ```
//! use vast_boot::doctor::{Area, Facts, diagnose, disk::{Space, Volume}};
//!
//! let full = Space { total_bytes: 100 << 30, free_bytes: 0, inodes: 0, free_inodes: 0, read_only: false };
//! let disk = vec![Volume { places: vec!["/workspace".to_owned()], space: Ok(full) }];
//! let findings = diagnose(&Facts { disk, ..Facts::healthy("2026-01-02T03:04:05Z".parse()?) });
//! assert_eq!((findings.len(), findings[0].area), (1, Area::Disk));
//! assert!(findings[0].remedy.contains("du "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod boot;
pub mod bundle;
pub mod certificate;
pub mod disk;
pub mod gpu;
pub mod limits;
mod look;
pub mod ports;
mod quoted;
mod render;
pub mod supervisor;
pub mod sync;

use jiff::Timestamp;
use serde::Serialize;

use crate::redact::Redactor;

pub use look::{Look, redactor};
pub use render::{Paint, render};

/// A part of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The boot's stages and markers.
    Boot,
    /// Supervisor and its programs.
    Supervisor,
    /// The applications' ports, inside and outside.
    Ports,
    /// The TLS pair.
    Certificate,
    /// Room, inodes, and whether it can be written.
    Disk,
    /// The driver, the devices and the CUDA set-up.
    Gpu,
    /// What the image brings for the workspace.
    Sync,
    /// Memory and processes.
    Limits,
}

impl Area {
    /// Every area, in the order of a report.
    pub const ALL: [Self; 8] =
        [Self::Boot, Self::Supervisor, Self::Ports, Self::Certificate, Self::Disk, Self::Gpu, Self::Sync, Self::Limits];

    /// The word for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Supervisor => "supervisor",
            Self::Ports => "ports",
            Self::Certificate => "certificate",
            Self::Disk => "disk",
            Self::Gpu => "gpu",
            Self::Sync => "sync",
            Self::Limits => "limits",
        }
    }
}

/// How bad something is, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// Nothing is wrong, but good to know.
    Note,
    /// It could not be looked at.
    Unknown,
    /// It works, but not as it should, or not for long.
    Warning,
    /// It does not work.
    Problem,
}

impl Severity {
    /// The word for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something to tell about an area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub area: Area,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What shows it: lines of a log, messages.
    pub evidence: Vec<String>,
    /// The next command or setting.
    pub remedy: String,
}

impl Finding {
    fn new(area: Area, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, severity, what: what.into(), evidence: Vec::new(), remedy: remedy.into() }
    }

    fn because(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence.into_iter().filter(|line| !line.trim().is_empty()));
        self
    }
}

/// Everything that [`diagnose`] decides from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// When it was looked.
    pub now: Timestamp,
    /// See [`boot`].
    pub boot: boot::Facts,
    /// See [`supervisor`].
    pub supervisor: supervisor::Facts,
    /// See [`ports`].
    pub ports: ports::Facts,
    /// See [`certificate`].
    pub certificate: certificate::Facts,
    /// See [`disk`].
    pub disk: Vec<disk::Volume>,
    /// See [`gpu`].
    pub gpu: gpu::Facts,
    /// See [`sync`].
    pub sync: sync::Facts,
    /// See [`limits`].
    pub limits: limits::Facts,
}

impl Facts {
    /// The facts of an instance that is up, has no applications, and lacks nothing.
    #[must_use]
    pub fn healthy(now: Timestamp) -> Self {
        Self {
            now,
            boot: boot::Facts::healthy(now),
            supervisor: supervisor::Facts::default(),
            ports: ports::Facts::default(),
            certificate: certificate::Facts::default(),
            disk: Vec::new(),
            gpu: gpu::Facts::default(),
            sync: sync::Facts::default(),
            limits: limits::Facts::default(),
        }
    }

    /// Looks at everything.
    #[must_use]
    pub fn gather(look: &Look<'_>) -> Self {
        Self {
            now: look.now,
            boot: boot::gather(look),
            supervisor: supervisor::gather(look),
            ports: ports::gather(look),
            certificate: certificate::gather(look),
            disk: disk::gather(look),
            gpu: gpu::gather(look),
            sync: sync::gather(look),
            limits: limits::gather(look),
        }
    }

    fn summary(&self, area: Area) -> String {
        match area {
            Area::Boot => self.boot.summary(),
            Area::Supervisor => self.supervisor.summary(),
            Area::Ports => self.ports.summary(),
            Area::Certificate => self.certificate.summary(),
            Area::Disk => disk::summary(&self.disk),
            Area::Gpu => self.gpu.summary(),
            Area::Sync => self.sync.summary(),
            Area::Limits => self.limits.summary(),
        }
    }
}

/// What there is to tell, area by area, the worst of each first.
#[must_use]
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [
        boot::diagnose(facts),
        supervisor::diagnose(facts),
        ports::diagnose(facts),
        certificate::diagnose(facts),
        disk::diagnose(facts),
        gpu::diagnose(facts),
        sync::diagnose(facts),
        limits::diagnose(facts),
    ]
    .concat();
    findings.sort_by_key(|finding| (finding.area, std::cmp::Reverse(finding.severity)));
    findings
}

/// `1 port`, `2 ports`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What all of it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing to do.
    Healthy,
    /// Something to do: a problem, or a warning.
    Problems,
    /// Nothing was found, but not everything could be looked at.
    CouldNotLook,
}

/// One area in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AreaState {
    /// Which.
    pub area: Area,
    /// The worst of its findings.
    pub state: Severity,
    /// What is there, in a few words.
    pub summary: String,
}

/// The answer, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The instance, `C.<id>`, as far as a boot recorded it.
    pub instance: Option<String>,
    /// When it was looked (RFC 3339, UTC).
    pub at: Timestamp,
    /// What all of it comes to.
    pub verdict: Verdict,
    /// Every area, in the order of [`Area::ALL`].
    pub areas: Vec<AreaState>,
    /// What there is to tell.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Diagnoses, and takes the secrets out of every word.
    #[must_use]
    pub fn new(facts: &Facts, redactor: &Redactor) -> Self {
        let clean = |text: &str| redactor.scrub(&quoted::plain(text));
        let mut findings = diagnose(facts);
        for finding in &mut findings {
            finding.what = clean(&finding.what);
            finding.remedy = clean(&finding.remedy);
            // All lines at once: a private key has many.
            finding.evidence = clean(&finding.evidence.join("\n")).lines().map(str::to_owned).collect();
        }
        let worst = |area: Option<Area>| {
            let of_area = findings.iter().filter(|finding| area.is_none_or(|area| finding.area == area));
            of_area.map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
        };
        let areas =
            Area::ALL.map(|area| AreaState { area, state: worst(Some(area)), summary: clean(&facts.summary(area)) });
        let verdict = match worst(None) {
            Severity::Ok | Severity::Note => Verdict::Healthy,
            Severity::Unknown => Verdict::CouldNotLook,
            Severity::Warning | Severity::Problem => Verdict::Problems,
        };
        let instance = facts.boot.record.as_ref().ok().and_then(|record| Some(record.as_ref()?.instance.clone()));
        Self { instance, at: facts.now, verdict, areas: areas.into(), findings }
    }
}

#[cfg(test)]
mod tests;
