//! `vast-boot doctor`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use vast_boot::cancel::Cancel;
use vast_boot::console::Silent;
use vast_boot::doctor::{self, Facts, Look, Report, Severity, Verdict, bundle};
use vast_boot::environment::Environment;
use vast_boot::process::SystemRunner;
use vast_boot::root::Root;

use crate::report::{self, Exit};

/// Longer than anything takes that answers at all; a driver that wakes its devices needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn run(root: &Root, json: bool, bundle: Option<&Path>) -> ExitCode {
    if let Err(error) = std::fs::read_dir(root.path()) {
        let error = vast_boot::error::Error::Read { path: root.path().to_owned(), source: error };
        return super::fail(&error);
    }
    let asker: Environment = std::env::vars_os().collect();
    let env = Look::environment(root, &asker, PATIENCE);
    let redactor = doctor::redactor(root, &env, PATIENCE);
    let look = Look {
        root,
        env: &env,
        redactor: &redactor,
        runner: &SystemRunner::new(Cancel::new(), Arc::new(Silent)),
        vast_gpu: std::env::current_exe().unwrap_or_default().with_file_name("vast-gpu"),
        now: Timestamp::now(),
        time_zone: TimeZone::system(),
        patience: PATIENCE,
    };
    let report = Report::new(&Facts::gather(&look), &redactor);
    if json {
        super::print_json(&report);
    } else {
        // A reader that has gone has seen enough.
        let _ = anstream::stdout().write_all(doctor::render(&report, paint).as_bytes());
    }
    if let Some(file) = bundle {
        let written = std::path::absolute(file)
            .map_err(|source| vast_boot::error::Error::Write { path: file.to_owned(), source })
            .and_then(|file| bundle::write(&file, &bundle::members(&look, &report), look.now));
        if let Err(error) = written {
            return super::fail(&error);
        }
        eprintln!("{}: wrote {}", super::PROGRAM, file.display());
    }
    exit(report.verdict).into()
}

fn exit(verdict: Verdict) -> report::Exit {
    match verdict {
        Verdict::Healthy => Exit::Success,
        Verdict::Problems => Exit::No,
        Verdict::CouldNotLook => Exit::CouldNot,
    }
}

fn paint(severity: Severity, word: &str) -> String {
    let style = match severity {
        Severity::Ok => AnsiColor::Green.on_default(),
        Severity::Note => Style::new().dimmed(),
        Severity::Unknown | Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Problem => AnsiColor::Red.on_default(),
    };
    format!("{style}{word}{style:#}")
}
