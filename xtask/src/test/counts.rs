//! How many checks passed and failed, read from what the test runners report.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

use crate::process;

/// Checks that passed and failed. A step that is not a run of tests counts as one check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    /// One check.
    pub(crate) fn gate(passed: bool) -> Self {
        Self { passed: usize::from(passed), failed: usize::from(!passed) }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// The counts of a runner that ended with `success`: if it failed without naming a failed test, for instance
    /// because nothing compiled, that is the failure.
    fn of_run(self, success: bool) -> Self {
        if success || self.failed > 0 { self } else { self.and(Self::gate(false)) }
    }
}

/// Runs `cargo nextest` and reads its counts from the JUnit file that the runner's configuration names.
pub(crate) fn nextest(command: &mut Command, junit: &Path) -> Result<Counts> {
    match fs::remove_file(junit) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove `{}`", junit.display()));
        }
        _ => {}
    }
    let success = process::succeeds(command)?;
    let counts = match fs::read_to_string(junit) {
        Ok(text) => junit_counts(&text).with_context(|| format!("no counts in `{}`", junit.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Counts::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", junit.display())),
    };
    Ok(counts.of_run(success))
}

/// The counts of `<testsuites name="…" tests="12" failures="1" errors="0" …>`.
fn junit_counts(text: &str) -> Option<Counts> {
    let start = text.find("<testsuites ")?;
    let tag = &text[start..start + text[start..].find('>')?];
    let number = |name: &str| {
        let value = tag.split_once(&format!(" {name}=\""))?.1;
        value.split_once('"')?.0.parse::<usize>().ok()
    };
    let failed = number("failures")? + number("errors")?;
    Some(Counts { passed: number("tests")?.checked_sub(failed)?, failed })
}

/// Runs `cargo test`, passing its output on, and adds up the results that it prints.
pub(crate) fn cargo_test(command: &mut Command) -> Result<Counts> {
    let line = process::describe(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{line}`"))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for text in BufReader::new(output).split(b'\n') {
            let text = text.with_context(|| format!("cannot read what `{line}` prints"))?;
            let text = String::from_utf8_lossy(&text);
            writeln!(io::stdout(), "{text}").context("cannot print")?;
            counts = counts.and(result_line(&text).unwrap_or_default());
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(counts.of_run(status.success()))
}

/// The counts of `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| rest.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Counts { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_from_the_junit_root() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="12" failures="2" errors="1" uuid="1" timestamp="t" time="1.0">
    <testsuite name="a" tests="99" failures="0" errors="0">"#;
        assert_eq!(junit_counts(text), Some(Counts { passed: 9, failed: 3 }));
        assert_eq!(junit_counts("<testsuites name=\"x\">"), None);
        assert_eq!(junit_counts(""), None);
    }

    #[test]
    fn counts_come_from_result_lines() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.0s";
        assert_eq!(result_line(line), Some(Counts { passed: 3, failed: 1 }));
        assert_eq!(result_line("test a ... ok"), None);
    }

    #[test]
    fn a_runner_that_fails_without_a_failed_test_counts_as_one_failure() {
        assert_eq!(Counts::default().of_run(false), Counts { passed: 0, failed: 1 });
        assert_eq!(Counts { passed: 4, failed: 0 }.of_run(false), Counts { passed: 4, failed: 1 });
        assert_eq!(Counts { passed: 4, failed: 2 }.of_run(false), Counts { passed: 4, failed: 2 });
        assert_eq!(Counts { passed: 4, failed: 0 }.of_run(true), Counts { passed: 4, failed: 0 });
    }
}
