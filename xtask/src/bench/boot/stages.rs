//! What each stage takes, from the records of many boots.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{median, milliseconds};

/// The stage that waits for Supervisor: its time is Supervisor's.
const WAIT_STAGE: &str = "95-supervisor-wait.sh";

/// The durations of each stage, one of each boot, and what its last message was.
#[derive(Debug, Default)]
pub(super) struct Stages(BTreeMap<String, (Vec<Duration>, String)>);

impl Stages {
    /// Takes the record of one boot in; an error unless every stage ended well.
    pub(super) fn add(&mut self, record: &Value) -> Result<()> {
        let stages = record["stages"].as_array().context("a record without stages")?;
        for stage in stages {
            let text = |name: &str| stage[name].as_str().unwrap_or_default().to_owned();
            let (name, outcome) = (text("stage"), text("outcome"));
            if !["done", "skipped"].contains(&outcome.as_str()) {
                bail!("{name} {outcome}: {}", text("message"));
            }
            let took = stage["duration_ms"].as_f64().context("a stage without a duration")?;
            let entry = self.0.entry(name).or_default();
            entry.0.push(Duration::from_secs_f64(took / 1e3));
            format!("{outcome} {}", text("message")).trim().clone_into(&mut entry.1);
        }
        Ok(())
    }

    /// The sum of the medians, the wait for Supervisor aside.
    pub(super) fn sum(&self) -> Duration {
        let measured = self.0.iter().filter(|(name, _)| *name != WAIT_STAGE);
        measured.map(|(_, (times, _))| median(&mut times.clone())).sum()
    }

    pub(super) fn print(&self) {
        println!("| stage | median | longest | |");
        println!("|---|--:|--:|---|");
        for (name, (times, last)) in &self.0 {
            let longest = times.iter().max().copied().unwrap_or_default();
            println!("| {name} | {} | {} | {last} |", milliseconds(median(&mut times.clone())), milliseconds(longest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(took: f64, outcome: &str) -> Value {
        let stage = |name: &str| serde_json::json!({"stage": name, "duration_ms": took, "outcome": outcome});
        serde_json::json!({"stages": [stage("10-prep-env.sh"), stage("11-log-dirs.sh"), stage(WAIT_STAGE)]})
    }

    #[test]
    fn the_medians_of_the_stages_are_summed_without_the_wait() {
        let mut stages = Stages::default();
        for took in [3.0, 1.0, 2.0] {
            stages.add(&record(took, "done")).unwrap();
        }
        assert_eq!(stages.sum(), Duration::from_millis(4));
    }

    #[test]
    fn a_stage_that_failed_is_no_boot_to_measure() {
        assert!(Stages::default().add(&record(1.0, "failed")).is_err());
        assert!(Stages::default().add(&serde_json::json!({})).is_err());
    }
}
