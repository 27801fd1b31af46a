//! `vast-boot status`.

use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use vast_boot::journal::{self, BootRecord, Outcome, Phase, StageRecord};
use vast_boot::root::Root;

use crate::report::Exit;

/// The longest bar, in columns.
const BAR: usize = 24;

/// A bar that is not full ends in one of these eighths of a column.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The stage whose duration is the instance's life, not the boot's.
const WAIT_STAGE: &str = "95-supervisor-wait.sh";

pub(super) fn print(root: &Root, json: bool) -> ExitCode {
    match journal::read(root) {
        Err(error) => super::fail(&error),
        Ok(None) => {
            eprintln!("{}: no boot is recorded in {}", super::PROGRAM, root.join(journal::CURRENT).display());
            Exit::No.into()
        }
        Ok(Some(record)) if json => super::print_json(&record),
        Ok(Some(record)) => {
            anstream::print!("{}", table(&record, Timestamp::now()));
            Exit::Success.into()
        }
    }
}

fn table(record: &BootRecord, now: Timestamp) -> String {
    let mut text = format!("boot of {} at {}: {}\n", record.instance, record.boot, phase(record));
    let took: Vec<Option<Duration>> = record.stages.iter().map(|stage| duration(stage, now)).collect();
    let longest = took.iter().flatten().max().copied().unwrap_or_default();
    let width = record.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    for (stage, took) in record.stages.iter().zip(took) {
        let style = style(stage.outcome);
        let time = took.map(time).unwrap_or_default();
        let bar = took.map(|took| bar(took, longest)).unwrap_or_default();
        let message = stage.message.as_deref().unwrap_or_default().replace('\n', " ");
        let source = if stage.source == "built-in" { "" } else { stage.source.as_str() };
        let rest =
            [bar.as_str(), source, &message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        let outcome = stage.outcome.as_str();
        let line = format!(
            "{:width$}  {style}{outcome}{style:#}{:pad$}  {time:>9}  {rest}",
            stage.stage,
            "",
            pad = 9 - outcome.len()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn phase(record: &BootRecord) -> String {
    match (record.phase, record.exit_code) {
        (Phase::Booting, _) => "booting".to_owned(),
        (Phase::Up, _) => "up".to_owned(),
        (Phase::Ended, Some(code)) => format!("ended with {code}"),
        (Phase::Ended, None) => "ended".to_owned(),
    }
}

/// How long a stage took, or runs so far; nothing for one that did not run or whose time says nothing.
fn duration(stage: &StageRecord, now: Timestamp) -> Option<Duration> {
    match stage.outcome {
        _ if stage.stage == WAIT_STAGE => None,
        Outcome::Masked => None,
        Outcome::Running => Some(Duration::try_from(now.duration_since(stage.start)).unwrap_or_default()),
        _ => Some(Duration::try_from_secs_f64(stage.duration_ms / 1e3).unwrap_or_default()),
    }
}

fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}

fn bar(took: Duration, longest: Duration) -> String {
    let share = took.as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the bar's eighths")]
    let eighths = (share * (BAR * 8) as f64).round() as usize;
    let rest = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    "█".repeat(eighths / 8) + rest
}

fn style(outcome: Outcome) -> Style {
    let color = match outcome {
        Outcome::Done => AnsiColor::Green,
        Outcome::Running => AnsiColor::Cyan,
        Outcome::Skipped | Outcome::Masked => return Style::new().dimmed(),
        Outcome::Cancelled | Outcome::GaveUp | Outcome::TimedOut => AnsiColor::Yellow,
        Outcome::Failed | Outcome::Panicked => AnsiColor::Red,
    };
    color.on_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, source: &str, duration_ms: f64, outcome: Outcome, message: Option<&str>) -> StageRecord {
        StageRecord {
            stage: name.to_owned(),
            source: source.to_owned(),
            start: "2026-01-02T03:04:05Z".parse().unwrap(),
            duration_ms,
            outcome,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn the_table_shows_outcomes_durations_and_bars() {
        let record = BootRecord {
            boot: "2026-01-02T03:04:05Z".parse().unwrap(),
            instance: "C.7".to_owned(),
            pid: 7,
            phase: Phase::Up,
            stages: vec![
                stage("05-app-env.sh", "/etc/vast_boot.d/05-app-env.sh", 125.0, Outcome::Failed, Some("exited with 3")),
                stage("10-prep-env.sh", "built-in", 2000.0, Outcome::Done, None),
                stage("15-hotfix.sh", "built-in", 0.01, Outcome::Skipped, Some("no HOTFIX_SCRIPT")),
                stage("36-sync-workspace.sh", "built-in", 0.0, Outcome::Masked, None),
                stage("75-provisioning-script.sh", "built-in", 0.0, Outcome::Running, None),
                stage("95-supervisor-wait.sh", "built-in", 0.0, Outcome::Running, None),
            ],
            exit_code: None,
        };
        let text = table(&record, "2026-01-02T03:04:09Z".parse().unwrap());
        insta::assert_snapshot!(anstream::adapter::strip_str(&text), @r"
        boot of C.7 at 2026-01-02T03:04:05Z: up
        05-app-env.sh              failed      125.0 ms  ▊  /etc/vast_boot.d/05-app-env.sh  exited with 3
        10-prep-env.sh             done           2.0 s  ████████████
        15-hotfix.sh               skipped       0.0 ms  no HOTFIX_SCRIPT
        36-sync-workspace.sh       masked
        75-provisioning-script.sh  running        4.0 s  ████████████████████████
        95-supervisor-wait.sh      running
        ");
    }
}
