//! The table at the end.

use std::fmt::Write as _;
use std::time::Duration;

use super::counts::Counts;

/// The outcome of one step.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) step: &'static str,
    pub(crate) counts: Counts,
    pub(crate) duration: Duration,
}

/// One line a step, then the sum: `N passed, N failed` alone on the last line.
pub(crate) fn render(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.step.len()).max().unwrap_or(0);
    let mut table = String::new();
    for line in lines {
        let Counts { passed, failed } = line.counts;
        let result = if failed == 0 { "ok" } else { "FAILED" };
        let seconds = line.duration.as_secs_f64();
        // Writing to a `String` cannot fail.
        let _ = write!(table, "{:<width$}  {result:<6}  {seconds:>7.1} s", line.step);
        let _ = match (passed, failed) {
            (0 | 1, 0) | (0, 1) => writeln!(table),
            (_, 0) => writeln!(table, "  {passed} tests"),
            _ => writeln!(table, "  {failed} of {} tests", passed + failed),
        };
    }
    let total = lines.iter().fold(Counts::default(), |sum, line| sum.and(line.counts));
    let _ = writeln!(table, "\n{} passed, {} failed", total.passed, total.failed);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_with_the_counts_alone_on_a_line() {
        let line = |step, passed, failed, seconds| Line {
            step,
            counts: Counts { passed, failed },
            duration: Duration::from_secs(seconds),
        };
        let lines = [line("format", 1, 0, 1), line("tests", 40, 2, 125), line("doctests", 7, 0, 9)];
        assert_eq!(
            render(&lines),
            "format    ok          1.0 s\n\
             tests     FAILED    125.0 s  2 of 42 tests\n\
             doctests  ok          9.0 s  7 tests\n\
             \n\
             48 passed, 2 failed\n"
        );
    }
}
