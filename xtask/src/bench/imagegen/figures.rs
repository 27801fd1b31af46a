//! The figures, as a table and as what falls short of the promises.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::contender::{Contender, Task};

/// How long an image in a registry may take, whatever its size.
const REGISTRY_SIDE: Duration = Duration::from_millis(500);

/// How much longer a large image may take than a small one: the noise of so short a time.
const LARGE_OVER_SMALL: f64 = 1.5;

/// How much larger a layer may be than that of the tool it is as fast as.
const SIZE_RATIO: f64 = 1.02;

/// The bound of memory, in bytes.
const MEMORY_BYTES: u64 = 100_000_000;

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) took: Duration,
    pub(crate) peak_resident_bytes: u64,
    /// The size of the layer that came of it, where one was to be made.
    pub(crate) bytes: Option<u64>,
}

/// Every run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    runs: BTreeMap<(Task, Contender), Vec<Run>>,
}

impl Figures {
    pub(crate) fn add(&mut self, task: Task, contender: Contender, run: Run) {
        self.runs.entry((task, contender)).or_default().push(run);
    }

    fn of(&self, task: Task, contender: Contender) -> &[Run] {
        self.runs.get(&(task, contender)).map_or(&[], Vec::as_slice)
    }

    /// The run in the middle by time; of an even number the later one.
    fn median(&self, task: Task, contender: Contender) -> Option<Run> {
        let mut runs = self.of(task, contender).to_vec();
        runs.sort_by_key(|run| run.took);
        runs.get(runs.len() / 2).copied()
    }

    /// Where the figures fall short of what is promised, a sentence each.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let mut found = Vec::new();
        for task in Task::ALL {
            let Some(ours) = self.median(task, Contender::Imagegen) else { continue };
            let peak = self.of(task, Contender::Imagegen).iter().map(|run| run.peak_resident_bytes).max();
            if peak.is_some_and(|peak| peak >= MEMORY_BYTES) {
                found.push(format!("{task}: {:.0} MB resident", peak.unwrap_or_default() as f64 / 1e6));
            }
            for contender in task.contenders().iter().filter(|one| **one != Contender::Imagegen) {
                let Some(theirs) = self.median(task, *contender) else { continue };
                if theirs.took < ours.took {
                    let ratio = seconds(theirs) / seconds(ours);
                    found.push(format!("{task}: {ratio:.2} times as fast as {contender}"));
                }
                if let (Contender::Parallel, Some(our_bytes), Some(bytes)) = (*contender, ours.bytes, theirs.bytes)
                    && our_bytes as f64 > bytes as f64 * SIZE_RATIO
                {
                    found.push(format!("{task}: {our_bytes} bytes, {contender} makes {bytes}"));
                }
            }
            if matches!(task, Task::Extend | Task::Rebase) && ours.took > REGISTRY_SIDE {
                found.push(format!("{task}: {:.2} s, {:.1} promised", seconds(ours), REGISTRY_SIDE.as_secs_f64()));
            }
        }
        for (large, small) in [(Task::Extend, Task::ExtendSmall), (Task::Rebase, Task::RebaseSmall)] {
            if let [Some(of_large), Some(of_small)] = [large, small].map(|task| self.median(task, Contender::Imagegen))
                && seconds(of_large) > seconds(of_small) * LARGE_OVER_SMALL
            {
                found.push(format!("{large}: {:.2} times as long as {small}", seconds(of_large) / seconds(of_small)));
            }
        }
        found
    }
}

fn seconds(run: Run) -> f64 {
    run.took.as_secs_f64()
}

impl fmt::Display for Figures {
    /// Medians, how many times longer than ours, what came of it, and how much memory it took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| task | program | runs | median | times ours | layer | peak resident |")?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|")?;
        for task in Task::ALL {
            for contender in task.contenders() {
                let Some(run) = self.median(task, *contender) else { continue };
                let ratio = match self.median(task, Contender::Imagegen) {
                    Some(ours) if *contender != Contender::Imagegen => format!("{:.2}", seconds(run) / seconds(ours)),
                    _ => String::new(),
                };
                let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
                let runs = self.of(task, *contender);
                let peak = runs.iter().map(|run| run.peak_resident_bytes).max().unwrap_or_default();
                writeln!(
                    f,
                    "| {task} | {contender} | {} | {:.2} s | {ratio} | {} | {} |",
                    runs.len(),
                    seconds(run),
                    run.bytes.map_or_else(String::new, megabytes),
                    megabytes(peak),
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(milliseconds: u64, bytes: Option<u64>) -> Run {
        Run { took: Duration::from_millis(milliseconds), peak_resident_bytes: 30_000_000, bytes }
    }

    fn figures(runs: &[(Task, Contender, Run)]) -> Figures {
        let mut figures = Figures::default();
        for (task, contender, run) in runs {
            figures.add(*task, *contender, *run);
        }
        figures
    }

    #[test]
    fn a_table_has_medians_and_ratios() {
        let figures = figures(&[
            (Task::Gzip, Contender::Imagegen, run(2000, Some(100_000_000))),
            (Task::Gzip, Contender::Imagegen, run(9000, Some(100_000_000))),
            (Task::Gzip, Contender::Imagegen, run(1000, Some(100_000_000))),
            (Task::Gzip, Contender::Parallel, run(3000, Some(101_000_000))),
        ]);
        let lines: Vec<String> = figures.to_string().lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "| build a layer, gzip | `vast-imagegen` | 3 | 2.00 s |  | 100.0 MB | 30.0 MB |",
                "| build a layer, gzip | `tar` to `pigz` or `zstd -T0` | 1 | 3.00 s | 1.50 | 101.0 MB | 30.0 MB |",
            ]
        );
        assert_eq!(figures.shortfalls(), [""; 0]);
    }

    #[test]
    fn what_is_slower_or_larger_than_promised_is_said() {
        let of = |ours, theirs| {
            figures(&[(Task::Zstd, Contender::Imagegen, ours), (Task::Zstd, Contender::Parallel, theirs)]).shortfalls()
        };
        assert_eq!(of(run(1000, Some(102)), run(1000, Some(100))), [""; 0]);
        assert_eq!(of(run(2000, Some(100)), run(1000, Some(100))).len(), 1);
        assert_eq!(of(run(1000, Some(103)), run(1000, Some(100))).len(), 1);
        let large = |milliseconds| {
            figures(&[
                (Task::Extend, Contender::Imagegen, run(milliseconds, None)),
                (Task::ExtendSmall, Contender::Imagegen, run(200, None)),
            ])
            .shortfalls()
        };
        assert_eq!(large(300), [""; 0]);
        assert_eq!(large(400), ["extend, in a registry: 2.00 times as long as extend, a small image"]);
        assert_eq!(large(600).len(), 2);
        let greedy = Run { peak_resident_bytes: 100_000_000, ..run(1, None) };
        assert_eq!(figures(&[(Task::Copy, Contender::Imagegen, greedy)]).shortfalls().len(), 1);
    }
}
