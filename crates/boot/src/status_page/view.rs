//! What the page shows, at one moment; also what `/status.json` holds.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::board::{Board, Copied};
use super::output::shown;
use crate::journal::{Outcome, Phase};

/// A boot at one moment, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The instance, `C.<id>`.
    pub instance: String,
    /// When the boot started.
    pub boot: Timestamp,
    /// The moment.
    pub now: Timestamp,
    /// Where the boot is.
    pub phase: Phase,
    /// The stage that runs.
    pub stage: Option<String>,
    /// All stages in order, those to come too.
    pub stages: Vec<Stage>,
    /// What is being copied.
    pub copy: Option<Copy>,
    /// Supervisor does not run: the portal will not come.
    pub supervisor_failed: bool,
    /// The last lines of output.
    pub output: Vec<String>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Its name, with the extension.
    pub stage: String,
    /// How it ended, or that it runs; nothing while it is to come.
    pub outcome: Option<Outcome>,
    /// How long it took, or runs so far, in milliseconds.
    pub duration_ms: Option<f64>,
    /// What it had to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A copy under way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copy {
    /// The stage that copies.
    pub stage: String,
    /// Content copied so far, in bytes.
    pub bytes: u64,
    /// All content, in bytes.
    pub total_bytes: u64,
    /// Entries copied so far.
    pub files: u64,
    /// All entries.
    pub total_files: u64,
    /// How fast it is now.
    pub bytes_per_second: u64,
    /// How long it will take at that rate.
    pub seconds_left: Option<u64>,
}

impl View {
    /// What the board tells.
    #[must_use]
    pub fn of(board: &Board, now: Timestamp, clock: Instant) -> Self {
        // Masking takes its time; whoever has something to tell does not wait for it.
        let (record, plan, copying, output, redactor, supervisor_failed) = {
            let told = board.told();
            let output = told.output.text();
            let (record, plan) = (told.record.clone(), told.plan.clone());
            (record, plan, told.copying.clone(), output, told.redactor.clone(), told.supervisor_failed)
        };
        let scrub = |text: &String| redactor.scrub(text);
        let record = record.as_ref();
        let ran = record.map(|record| record.stages.as_slice()).unwrap_or_default();
        let mut stages: Vec<Stage> = ran
            .iter()
            .map(|stage| Stage {
                stage: stage.stage.clone(),
                outcome: Some(stage.outcome),
                duration_ms: Some(if stage.outcome == Outcome::Running {
                    elapsed(stage.start, now).as_millis() as f64
                } else {
                    stage.duration_ms
                }),
                message: stage.message.as_ref().map(scrub),
            })
            .collect();
        let to_come = plan.iter().filter(|name| !ran.iter().any(|stage| stage.stage == **name));
        stages.extend(to_come.map(|name| Stage {
            stage: name.clone(),
            outcome: None,
            duration_ms: None,
            message: None,
        }));
        Self {
            instance: record.map(|record| record.instance.clone()).unwrap_or_default(),
            boot: record.map_or(now, |record| record.boot),
            now,
            phase: record.map_or(Phase::Booting, |record| record.phase),
            stage: ran.last().filter(|stage| stage.outcome == Outcome::Running).map(|stage| stage.stage.clone()),
            stages,
            copy: copying.map(|(stage, copying)| copy(stage, copying.at(clock))),
            supervisor_failed,
            output: shown(&output, &redactor),
        }
    }
}

fn copy(stage: &str, at: Copied) -> Copy {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is finite and not negative")]
    let bytes_per_second = at.bytes_per_second as u64;
    Copy {
        stage: stage.to_owned(),
        // A file that grew while it was copied must not make it more than all.
        bytes: at.bytes.min(at.total_bytes),
        total_bytes: at.total_bytes,
        files: at.files.min(at.total_files),
        total_files: at.total_files,
        bytes_per_second,
        seconds_left: at.left.map(|left| left.as_secs()),
    }
}

/// The time between two moments of a clock that may have been set back.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::board::Copying;
    use super::*;
    use crate::environment::Environment;
    use crate::journal::Journal;
    use crate::root::Root;

    #[test]
    fn stages_that_ran_run_and_are_to_come_are_told_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let board = Board::default();
        board.open(["05-a.sh", "10-b.sh", "36-c.sh", "75-d.sh"].map(str::to_owned).to_vec());
        let mut journal = Journal::start(&Root::new(directory.path()), "7", true);
        journal.watch(board.clone());
        board.hide(&[("MY_TOKEN", "hush-hush")].into_iter().collect::<Environment>());
        journal.note_stage("05-a.sh", "built-in", Outcome::Failed, Some("no hush-hush".to_owned()));
        journal.note_stage("10-b.sh", "built-in", Outcome::Done, None);
        journal.begin("36-c.sh", "built-in");
        let copying = Arc::new(Copying::default());
        let start = Instant::now();
        copying.start(100, 2, start);
        copying.advance(50, 1, start + Duration::from_secs(1));
        board.copying("36-c.sh", &copying);
        let now = journal.record().stages[2].start + Duration::from_secs(3);
        let view = View::of(&board, now, start + Duration::from_secs(1));
        let outcomes: Vec<_> = view.stages.iter().map(|stage| (stage.stage.as_str(), stage.outcome)).collect();
        assert_eq!(
            outcomes,
            [
                ("05-a.sh", Some(Outcome::Failed)),
                ("10-b.sh", Some(Outcome::Done)),
                ("36-c.sh", Some(Outcome::Running)),
                ("75-d.sh", None)
            ]
        );
        assert_eq!(view.stages[0].message.as_deref(), Some("no ***"));
        assert_eq!((view.stage.as_deref(), view.stages[2].duration_ms), (Some("36-c.sh"), Some(3000.0)));
        let copy = view.copy.unwrap();
        assert_eq!((copy.bytes, copy.total_bytes, copy.bytes_per_second, copy.seconds_left), (50, 100, 50, Some(1)));
    }
}
