//! The demo's steps, announced as they start and summed up with their durations.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    done: Vec<(&'static str, Duration)>,
    /// How many of them prepared the machine and the binaries, and so are not part of the main job.
    preparing: usize,
}

impl Steps {
    /// Runs one step and notes how long it took.
    pub(super) fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let value = work().with_context(|| format!("the step `{name}` failed"))?;
        self.done.push((name, start.elapsed()));
        Ok(value)
    }

    /// Says that what was done so far prepared the main job.
    pub(super) fn mark_ready(&mut self) {
        self.preparing = self.done.len();
    }

    /// Prints each step with its duration and a bar, and the sums.
    pub(super) fn print_summary(&self) {
        println!("\n{}", self.summary());
    }

    fn summary(&self) -> String {
        let (preparing, job) = self.done.split_at(self.preparing);
        let total = |steps: &[(&str, Duration)]| steps.iter().map(|(_, took)| *took).sum::<Duration>();
        let longest = job.iter().map(|(_, took)| *took).max().unwrap_or_default().max(Duration::from_millis(1));
        let mut lines = Vec::new();
        for (name, took) in job {
            // 30 columns for the longest step.
            let columns = (took.as_secs_f64() / longest.as_secs_f64() * 30.0).round();
            let bar: String = (0..30).map(|column| if f64::from(column) < columns { '━' } else { ' ' }).collect();
            lines.push(format!("  {name:<46} {bar} {:>6.1} s", took.as_secs_f64()));
        }
        lines.push(format!("  {:<46} {:30} {:>6.1} s", "in all", "", total(job).as_secs_f64()));
        lines.push(format!(
            "  {:<46} {:30} {:>6.1} s",
            "before that, tools and compiling",
            "",
            total(preparing).as_secs_f64()
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_keeps_preparation_apart_from_the_main_job() {
        let steps = Steps {
            done: vec![
                ("tools", Duration::from_secs(9)),
                ("build", Duration::from_secs(2)),
                ("boot", Duration::from_secs(1)),
            ],
            preparing: 1,
        };
        let summary = steps.summary();
        let lines: Vec<&str> = summary.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains("in all") && lines[2].ends_with("3.0 s"), "{summary}");
        assert!(lines[3].ends_with("9.0 s"), "{summary}");
        assert_eq!(lines[0].matches('━').count(), 2 * lines[1].matches('━').count());
    }
}
