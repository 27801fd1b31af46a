//! A report for a person: a line for each area, and below it what there is to do.

use std::fmt::Write as _;

use super::{Report, Severity, Verdict, counted};

/// How a word of this severity is shown; a terminal adds a colour.
pub type Paint = fn(Severity, &str) -> String;

/// The report as text.
#[must_use]
pub fn render(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    let name = report.instance.as_deref().unwrap_or("this instance");
    for area in &report.areas {
        let word = area.state.as_str();
        let gap = " ".repeat("problem".len() - word.len());
        // Writing into a string does not fail.
        let _ = writeln!(text, "{:<11}  {}{gap}  {}", area.area.as_str(), paint(area.state, word), area.summary);
    }
    for finding in &report.findings {
        let head = format!("{}: {}", finding.area.as_str(), finding.severity.as_str());
        let _ = writeln!(text, "\n{}: {}", paint(finding.severity, &head), finding.what);
        for line in &finding.evidence {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "  → {}", finding.remedy);
    }
    let count = report.findings.iter().filter(|finding| finding.severity >= Severity::Warning).count();
    let verdict = match (report.verdict, count) {
        (Verdict::Healthy, _) => format!("{name} is healthy"),
        (Verdict::CouldNotLook, _) => {
            format!("nothing wrong was found with {name}, but not everything could be looked at")
        }
        (Verdict::Problems, count) => format!("{} to do for {name}", counted(count, "thing")),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}
