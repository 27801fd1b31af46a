//! What a boot did, stage by stage.
//!
//! | file | holds |
//! |---|---|
//! | `/var/log/vast_boot.jsonl` | one [`StageRecord`] a line, with the boot it belongs to; every boot appends |
//! | `/run/vast/boot.json` | this boot as a [`BootRecord`], rewritten whenever something changes |
//! | `/var/log/vast_boot_failures` | `<stage>: <reason>`, one line for each stage that deliberately gave up |

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;
use crate::root::Root;
use crate::status_page::Board;

/// The record of all boots.
pub const LOG: &str = "/var/log/vast_boot.jsonl";

/// The record of this boot.
pub const CURRENT: &str = "/run/vast/boot.json";

/// The stages that gave up.
pub const FAILURES: &str = "/var/log/vast_boot_failures";

/// A log above this size is cut to its last half at the start of a boot: an instance that restarts for months must not fill its disk.
const LOG_LIMIT_BYTES: u64 = 1024 * 1024;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs.
    Running,
    /// It did its work.
    Done,
    /// There was nothing for it to do.
    Skipped,
    /// It chose not to do its work, for a reason that the user should know.
    GaveUp,
    /// It failed.
    Failed,
    /// It is a defect of this program; the sequence went on.
    Panicked,
    /// It took longer than `VAST_BOOT_STAGE_TIMEOUT`.
    TimedOut,
    /// A stop ended it.
    Cancelled,
    /// A symlink to `/dev/null` took it out.
    Masked,
}

impl Outcome {
    /// The word for a table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::GaveUp => "gave up",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Masked => "masked",
        }
    }

    /// Whether the user should look at it.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::GaveUp | Self::Failed | Self::Panicked | Self::TimedOut)
    }
}

/// One stage of one boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its name, with the extension.
    pub stage: String,
    /// `built-in`, or the path of the file.
    pub source: String,
    /// When it started (RFC 3339, UTC, to the millisecond).
    pub start: Timestamp,
    /// How long it took, in milliseconds, to the microsecond.
    pub duration_ms: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// What it has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its stages run.
    Booting,
    /// They are through, and Supervisor runs.
    Up,
    /// It ended.
    Ended,
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootRecord {
    /// When it started (RFC 3339, UTC, to the millisecond); its name in [`LOG`].
    pub boot: Timestamp,
    /// The instance, `C.<id>`.
    pub instance: String,
    /// The process that runs the stages.
    pub pid: u32,
    /// Where it is.
    pub phase: Phase,
    /// Its stages so far, in order; the last one may be running.
    pub stages: Vec<StageRecord>,
    /// The exit code it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

#[derive(Serialize)]
struct Line<'a> {
    boot: Timestamp,
    #[serde(flatten)]
    record: &'a StageRecord,
}

/// A line of [`LOG`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Logged {
    /// The boot that the stage belongs to; a part of the sequence that is run by hand is a boot of its own.
    pub boot: Timestamp,
    /// The stage.
    #[serde(flatten)]
    pub record: StageRecord,
}

/// The lines of a [`LOG`]; what is no such line is passed over.
pub fn logged(text: &str) -> impl Iterator<Item = Logged> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Writes the record of a boot. A disk that cannot be written costs the record, never the boot.
#[derive(Debug)]
pub struct Journal {
    log: PathBuf,
    /// Nothing when it belongs to another boot.
    current: Option<PathBuf>,
    failures: PathBuf,
    record: BootRecord,
    running: Option<Instant>,
    complaint: Option<Error>,
    board: Board,
}

impl Journal {
    /// Starts the record of a boot of `root`. A part of the sequence that is run by hand (not `whole`) leaves [`CURRENT`] to the boot
    /// that is running, if there is one.
    #[must_use]
    pub fn start(root: &Root, instance: &str, whole: bool) -> Self {
        let record = BootRecord {
            boot: now(),
            instance: format!("C.{instance}"),
            pid: std::process::id(),
            phase: Phase::Booting,
            stages: Vec::new(),
            exit_code: None,
        };
        let mut journal = Self {
            log: root.join(LOG),
            current: (whole || !is_running(root)).then(|| root.join(CURRENT)),
            failures: root.join(FAILURES),
            record,
            running: None,
            complaint: None,
            board: Board::default(),
        };
        let prepared = std::iter::once(&journal.log)
            .chain(&journal.current)
            .try_for_each(|file| file.parent().map_or(Ok(()), files::directory));
        let trimmed = [&journal.log, &journal.failures].into_iter().try_for_each(|file| trim(file));
        journal.note(prepared.and(trimmed));
        journal.publish();
        journal
    }

    /// Also tells `board` of every change.
    pub fn watch(&mut self, board: Board) {
        self.board = board;
        self.board.record(&self.record);
    }

    /// The record so far.
    #[must_use]
    pub fn record(&self) -> &BootRecord {
        &self.record
    }

    /// The first thing that could not be written, once.
    pub fn take_complaint(&mut self) -> Option<Error> {
        self.complaint.take()
    }

    /// A stage starts.
    pub fn begin(&mut self, stage: &str, source: &str) {
        self.record.stages.push(StageRecord {
            stage: stage.to_owned(),
            source: source.to_owned(),
            start: now(),
            duration_ms: 0.0,
            outcome: Outcome::Running,
            message: None,
        });
        self.running = Some(Instant::now());
        self.publish();
    }

    /// The stage that runs ends.
    pub fn end(&mut self, outcome: Outcome, message: Option<String>) {
        let took = self.running.take().map_or(Duration::ZERO, |start| start.elapsed());
        let Some(record) = self.record.stages.last_mut() else { return };
        record.duration_ms = milliseconds(took);
        record.outcome = outcome;
        record.message = message;
        let line = serde_json::to_string(&Line { boot: self.record.boot, record });
        let reason = (outcome == Outcome::GaveUp).then(|| {
            let reason = record.message.as_deref().unwrap_or("no reason given").replace(['\n', '\r'], " ");
            format!("{}: {reason}", record.stage.strip_suffix(".sh").unwrap_or(&record.stage))
        });
        if let Ok(line) = line {
            let appended = append(&self.log, &line);
            self.note(appended);
        }
        if let Some(reason) = reason {
            let appended = append(&self.failures, &reason);
            self.note(appended);
        }
        self.publish();
    }

    /// A stage of which there is only an outcome to record.
    pub fn note_stage(&mut self, stage: &str, source: &str, outcome: Outcome, message: Option<String>) {
        self.begin(stage, source);
        self.running = None;
        self.end(outcome, message);
    }

    /// The boot is in another phase.
    pub fn phase(&mut self, phase: Phase) {
        self.record.phase = phase;
        self.publish();
    }

    /// The boot ended.
    pub fn finish(&mut self, exit_code: u8) {
        self.record.exit_code = Some(exit_code);
        self.phase(Phase::Ended);
    }

    fn publish(&mut self) {
        self.board.record(&self.record);
        if let (Some(current), Ok(text)) = (&self.current, serde_json::to_vec(&self.record)) {
            let published = files::publish(current, &text, 0o644);
            self.note(published);
        }
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.complaint.get_or_insert(error);
        }
    }
}

/// Reads the record of the last boot of `root`; nothing when there is none.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read(root: &Root) -> Result<Option<BootRecord>, Error> {
    let path = root.join(CURRENT);
    let Some(text) = files::read_optional(&path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::Record { path, source })
}

/// Whether the boot on record still runs.
fn is_running(root: &Root) -> bool {
    let Ok(Some(record)) = read(root) else { return false };
    let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw);
    record.phase != Phase::Ended && pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now)
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// One write a line: two boots that overlap on a shared disk do not mix theirs.
fn append(path: &Path, line: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
}

fn trim(path: &Path) -> Result<(), Error> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT_BYTES) {
        let text = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let half = text.get(text.len() / 2..).unwrap_or_default();
        let start = half.iter().position(|&byte| byte == b'\n').map_or(half.len(), |end| end + 1);
        files::publish(path, half.get(start..).unwrap_or_default(), 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Root, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let journal = Journal::start(&root, "12", true);
        (directory, root, journal)
    }

    #[test]
    fn a_running_stage_is_seen_at_once_and_its_end_is_appended() {
        let (_guard, root, mut journal) = journal();
        journal.begin("10-prep-env.sh", "built-in");
        let seen = read(&root).unwrap().unwrap();
        assert_eq!(
            (seen.instance.as_str(), seen.phase, seen.stages[0].outcome),
            ("C.12", Phase::Booting, Outcome::Running)
        );
        assert!(!root.join(LOG).exists());
        journal.end(Outcome::Failed, Some("no".to_owned()));
        let log = fs::read_to_string(root.join(LOG)).unwrap();
        let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["boot", "stage", "source", "start", "duration_ms", "outcome", "message"]);
        assert_eq!((&line["outcome"], &line["message"]), (&"failed".into(), &"no".into()));
        journal.finish(143);
        let seen = read(&root).unwrap().unwrap();
        assert_eq!(
            (seen.phase, seen.exit_code, seen.stages),
            (Phase::Ended, Some(143), journal.record().stages.clone())
        );
        assert!(!root.join(FAILURES).exists());
    }

    #[test]
    fn giving_up_adds_one_line_and_boots_append() {
        let (_guard, root, mut first) = journal();
        first.note_stage("55-tls-cert-gen.sh", "built-in", Outcome::GaveUp, Some("two\nlines".to_owned()));
        let mut second = Journal::start(&root, "12", true);
        second.note_stage("05-configure-cuda.sh", "built-in", Outcome::GaveUp, Some("no driver".to_owned()));
        assert_eq!(
            fs::read_to_string(root.join(FAILURES)).unwrap(),
            "55-tls-cert-gen: two lines\n05-configure-cuda: no driver\n"
        );
        assert_eq!(fs::read_to_string(root.join(LOG)).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_one_complaint() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("var"), "a file where a directory belongs").unwrap();
        let mut journal = Journal::start(&Root::new(directory.path()), "", true);
        journal.note_stage("10-prep-env.sh", "built-in", Outcome::Done, None);
        assert!(journal.take_complaint().is_some());
        assert!(journal.take_complaint().is_none());
    }

    #[test]
    fn a_log_that_grew_is_cut_at_a_line() {
        let (_guard, root, _) = journal();
        let line = format!("{}\n", "x".repeat(1023));
        fs::write(root.join(LOG), line.repeat(1025)).unwrap();
        let _ = Journal::start(&root, "", true);
        let text = fs::read_to_string(root.join(LOG)).unwrap();
        assert_eq!(text, line.repeat(512));
    }
}
