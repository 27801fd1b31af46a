//! The last boot: its stages, the reasons that they gave, and the markers that tell where it stands.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;

use super::{Area, Finding, Look, Severity, counted, quoted};
use crate::journal::{self, BootRecord, Outcome, Phase, StageRecord};
use crate::replacement;
use crate::stages::{PROVISIONING, PROVISIONING_FAILED, PROVISIONING_LOG};
use crate::status_page;

/// A stage that runs longer than this deserves a look.
const LONG: Duration = Duration::from_mins(30);

/// The stage that runs the user's script.
const PROVISIONING_STAGE: &str = "75-provisioning-script.sh";

/// What is read of the record of all boots: far more than one boot.
const LOG_BYTES: u64 = 256 * 1024;

/// Lines of a log that tell why.
const EVIDENCE_LINES: usize = 5;

/// What is known of the last boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Its record, or why that cannot be read.
    pub record: Result<Option<BootRecord>, String>,
    /// Whether the process that runs the stages is there; nothing without `/proc`.
    pub runs: Option<bool>,
    /// What runs in place of the sequence.
    pub replaced_by: Option<String>,
    /// Lines of `/var/log/vast_boot_failures` that are no older than the boot.
    pub failures: Vec<String>,
    /// `/.provisioning` is there: applications wait.
    pub provisioning: bool,
    /// `/.provisioning_failed` is there.
    pub provisioning_failed: bool,
    /// The last lines of the provisioning script.
    pub provisioning_log: Vec<String>,
}

impl Facts {
    pub(super) fn healthy(now: Timestamp) -> Self {
        let record = BootRecord {
            boot: now,
            instance: "C.".to_owned(),
            pid: 1,
            phase: Phase::Up,
            stages: Vec::new(),
            exit_code: None,
        };
        Self {
            record: Ok(Some(record)),
            runs: Some(true),
            replaced_by: None,
            failures: Vec::new(),
            provisioning: false,
            provisioning_failed: false,
            provisioning_log: Vec::new(),
        }
    }

    /// The stage that runs while the boot is not up yet. Later, what runs is what waits for the instance's end.
    #[must_use]
    pub fn running(&self) -> Option<&StageRecord> {
        let record = self.record.as_ref().ok()?.as_ref()?;
        let last = record.stages.last().filter(|last| last.outcome == Outcome::Running)?;
        (record.phase == Phase::Booting && self.runs != Some(false)).then_some(last)
    }

    /// Whether the applications have no reason to be up yet.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.running().is_some()
    }

    pub(super) fn summary(&self) -> String {
        match &self.record {
            Ok(Some(record)) => {
                let phase = match record.phase {
                    Phase::Booting => "booting",
                    Phase::Up => "up",
                    Phase::Ended => "ended",
                };
                format!("{}, {phase}, started at {}", counted(record.stages.len(), "stage"), record.boot)
            }
            Ok(None) => "not recorded".to_owned(),
            Err(_) => "not readable".to_owned(),
        }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let root = look.root;
    let log = quoted::tail(&root.join(journal::LOG), LOG_BYTES).map(|tail| tail.text).unwrap_or_default();
    let record =
        journal::read(root).map(|record| record.map(|record| mended(record, &log))).map_err(|error| error.chain());
    let boot = record.as_ref().ok().and_then(Option::as_ref);
    let proc = root.join("/proc");
    let runs = boot.filter(|_| proc.join("self").exists()).map(|boot| proc.join(boot.pid.to_string()).exists());
    let written = fs::metadata(root.join(journal::FAILURES)).and_then(|file| file.modified());
    let written = written.ok().and_then(|time| Timestamp::try_from(time).ok());
    let fresh = boot.is_some_and(|boot| written.is_some_and(|written| written >= boot.boot));
    Facts {
        runs,
        replaced_by: replacement::named(root, look.env).map(str::to_owned),
        failures: if fresh { quoted::last_lines(&root.join(journal::FAILURES), 20, look.redactor) } else { Vec::new() },
        provisioning: root.join(PROVISIONING).exists(),
        provisioning_failed: root.join(PROVISIONING_FAILED).exists(),
        provisioning_log: quoted::last_lines(&root.join(PROVISIONING_LOG), EVIDENCE_LINES, look.redactor),
        record,
    }
}

/// The record with what was run by hand since: the remedy for a failed stage is to mend it and run it again.
fn mended(mut record: BootRecord, log: &str) -> BootRecord {
    for later in journal::logged(log).filter(|later| later.boot > record.boot) {
        if let Some(stage) = record.stages.iter_mut().find(|stage| stage.stage == later.record.stage) {
            *stage = later.record;
        }
    }
    record
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.boot;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Boot, severity, what, remedy);
    let mut findings = Vec::new();
    let record = match &facts.record {
        Err(reason) => {
            let remedy = "run this as root; a record that is damaged is written anew at the next boot";
            findings.push(
                tell(Severity::Unknown, "the boot's record cannot be read".to_owned(), remedy)
                    .because([reason.clone()]),
            );
            None
        }
        Ok(None) => {
            let what = "no boot is recorded: this container was not started by vast-boot".to_owned();
            let remedy = "make /opt/instance-tools/bin/entrypoint.sh the ENTRYPOINT of the image (in SSH and Jupyter mode, call it in the on-start script), and restart the instance";
            findings.push(tell(Severity::Problem, what, remedy));
            None
        }
        Ok(Some(record)) => Some(record),
    };
    if let Some(name) = &facts.replaced_by {
        let remedy =
            "nothing, if that is wanted; else unset BOOT_SCRIPT or remove /opt/instance-tools/bin/boot_custom.sh";
        findings.push(tell(Severity::Note, format!("{name} runs in place of the built-in sequence"), remedy));
    }
    if let Some(record) = record {
        findings.extend(phase(facts, record, all.now));
        findings.extend(record.stages.iter().filter_map(|stage| bad_stage(all, stage)));
        findings.extend(told_by_others(facts, record));
    }
    findings.extend(markers(facts, record));
    findings
}

/// Where the boot stands.
fn phase(facts: &Facts, record: &BootRecord, now: Timestamp) -> Option<Finding> {
    let tell = |severity, what: String, remedy: &str| Some(Finding::new(Area::Boot, severity, what, remedy));
    if record.phase == Phase::Ended {
        let code = record.exit_code.map_or_else(String::new, |code| format!(" with {code}"));
        let remedy = "restart the instance; `vast-boot status` shows what its stages said";
        return tell(Severity::Problem, format!("the boot has ended{code}"), remedy);
    }
    if facts.runs == Some(false) {
        let remedy = "restart the instance; if that happens again, attach `vast-boot doctor --bundle FILE` to a report";
        return tell(Severity::Problem, format!("the boot's process ({}) is gone", record.pid), remedy);
    }
    let stage = facts.running()?;
    let took = Duration::try_from(now.duration_since(stage.start)).unwrap_or_default();
    let what = format!("{} has been running for {} s", stage.stage, took.as_secs());
    if took >= LONG {
        let remedy = "look what it waits for with `ps axf`; VAST_BOOT_STAGE_TIMEOUT=<seconds> in the template ends a shell stage that hangs";
        return tell(Severity::Warning, what, remedy);
    }
    tell(Severity::Note, what, "wait; `vast-boot status` shows how far the boot is")
}

/// A stage that did not do its work. Where another area tells more of the same, it is left to that.
fn bad_stage(all: &super::Facts, stage: &StageRecord) -> Option<Finding> {
    let number = stage.stage.get(..2).unwrap_or_default();
    let built_in = stage.source == "built-in";
    let told_elsewhere = (stage.stage == PROVISIONING_STAGE && all.boot.provisioning_failed)
        || (number == "05" && built_in && all.gpu.failure.is_some());
    if !stage.outcome.is_bad() || told_elsewhere {
        return None;
    }
    let severity = if stage.outcome == Outcome::GaveUp { Severity::Warning } else { Severity::Problem };
    let again = format!("`vast-boot run --only {}`", stage.stage);
    let remedy = match (stage.outcome, number) {
        _ if stage.stage == status_page::NAME => "nothing for this boot, it only had no page to look at; but Caddy needs the port too: have the program that has it listen elsewhere".to_owned(),
        (Outcome::Panicked, _) => {
            "this is a defect of vast-boot: report it with the archive of `vast-boot doctor --bundle FILE`".to_owned()
        }
        (Outcome::TimedOut, _) => format!("raise VAST_BOOT_STAGE_TIMEOUT in the template or mend {}, then {again}", stage.source),
        _ if !built_in => format!("mend {}, then {again}", stage.source),
        (_, "15") => format!("check HOTFIX_SCRIPT and /var/log/hotfix.log, then {again}"),
        (_, "25") => format!("mend the script in /etc/vast_boot.d/first_boot, then {again}"),
        (_, "36") => format!("`vast-sync status` shows what is missing; {again}"),
        (_, "55") => format!("{again} asks for a certificate again; then `supervisorctl restart caddy`"),
        (_, "65") => "check /etc/supervisor/supervisord.conf with `supervisord -n -c /etc/supervisor/supervisord.conf`, then restart the instance".to_owned(),
        _ => format!("act on the reason, then {again}"),
    };
    let what = format!("{} {}", stage.stage, outcome(stage.outcome));
    Some(Finding::new(Area::Boot, severity, what, remedy).because(stage.message.clone()))
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::GaveUp => "gave up",
        Outcome::Panicked => "crashed",
        Outcome::TimedOut => "took longer than allowed",
        _ => "failed",
    }
}

/// Reasons that stages of deployed images wrote themselves.
fn told_by_others(facts: &Facts, record: &BootRecord) -> Option<Finding> {
    let ours = |line: &str| {
        let stage = line.split_once(':').map_or(line, |(stage, _)| stage);
        record.stages.iter().any(|known| known.stage.strip_suffix(".sh").unwrap_or(&known.stage) == stage)
    };
    let others: Vec<String> = facts.failures.iter().filter(|line| !ours(line)).cloned().collect();
    let remedy = "act on the reasons, remove the file, and restart the instance";
    let finding = Finding::new(
        Area::Boot,
        Severity::Warning,
        format!("{} has reasons of other stages", journal::FAILURES),
        remedy,
    );
    (!others.is_empty()).then(|| finding.because(others))
}

/// The markers of provisioning.
fn markers(facts: &Facts, record: Option<&BootRecord>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.provisioning_failed {
        let stage = record.and_then(|record| record.stages.iter().find(|stage| stage.stage == PROVISIONING_STAGE));
        let remedy =
            format!("read {PROVISIONING_LOG}, mend the script or PROVISIONING_SCRIPT, then `vast-boot run --only 75`");
        let finding = Finding::new(Area::Boot, Severity::Problem, "provisioning failed", remedy);
        findings.push(
            finding.because(stage.and_then(|stage| stage.message.clone())).because(facts.provisioning_log.clone()),
        );
    }
    if facts.provisioning && !facts.is_under_way() {
        let what = format!("applications wait for {PROVISIONING} to go, and no stage will remove it");
        findings.push(Finding::new(Area::Boot, Severity::Problem, what, format!("`rm {PROVISIONING}`")));
    }
    findings
}
