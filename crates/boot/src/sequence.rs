//! Running the stages of a plan, one after the other, whatever becomes of each.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::process::Pid;

use crate::error::Error;
use crate::journal::{Journal, Outcome, Phase};
use crate::plan::{self, Entry, Plan, Source, Why};
use crate::process::{self, Output, Wait};
use crate::redact::Redactor;
use crate::shell::{self, Request};
use crate::stage::{Boot, BuiltIn, Verdict};
use crate::status_page;
use crate::supervisor::{End, Supervisor};

/// The exit code of a boot that a signal ended before Supervisor ran: that of SIGTERM in a shell.
pub const STOPPED: u8 = 143;

/// The exit code of a boot whose Supervisor had to be killed.
pub const KILLED: u8 = 137;

/// The stage that waits for Supervisor: the boot is up when it starts.
const WAIT_STAGE: &str = "95-supervisor-wait.sh";

/// The first name of a stage that may start Supervisor.
const SUPERVISOR_STAGES: &str = "65-";

/// The variable by which a shell stage tells which process Supervisor is.
const SUPERVISOR_PID: &str = "supervisord_pid";

/// Which stages of the plan to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these, when there are any.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
}

impl Selection {
    /// Whether the stage runs.
    #[must_use]
    pub fn includes(&self, stage: &str) -> bool {
        let named = |wanted: &[String]| wanted.iter().any(|wanted| plan::names(wanted, stage));
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// Whether it is the whole sequence.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.only.is_empty() && self.skip.is_empty()
    }
}

/// Runs the plan; gives the exit code of the boot.
pub fn run(boot: &mut Boot<'_>, plan: &Plan, built_in: &[BuiltIn], selection: &Selection, journal: &mut Journal) -> u8 {
    for ignored in &plan.ignored {
        boot.say(&format!("ignoring {}/{}: {}", plan::DIRECTORY, ignored.name, ignored.reason));
    }
    if selection.is_everything() {
        open_page(boot, plan, journal);
    }
    for entry in plan.stages.iter().filter(|entry| selection.includes(&entry.name)) {
        if boot.cancel.is_fired() {
            break;
        }
        if entry.why == Why::Masked {
            journal.note_stage(&entry.name, &entry.source.to_string(), Outcome::Masked, None);
        } else {
            run_entry(boot, entry, built_in, journal);
            let followed = boot.page.follow(&boot.env);
            note_page(boot, followed, journal);
            boot.page.heed(&boot.supervisor);
        }
        if let Some(complaint) = journal.take_complaint() {
            boot.say(&format!("the boot is not recorded: {}", complaint.chain()));
        }
    }
    let code = end(boot, selection);
    journal.finish(code);
    code
}

/// Serves the status page from now on.
fn open_page(boot: &mut Boot<'_>, plan: &Plan, journal: &mut Journal) {
    let stages = plan.stages.iter().map(|entry| entry.name.clone()).collect();
    let (root, env, console) = (boot.root.clone(), boot.env.clone(), boot.console.clone());
    let opened = boot.page.open(&root, &env, stages, &console);
    note_page(boot, opened, journal);
    journal.watch(boot.page.board().clone());
}

/// A page that cannot be served costs the page; it is said once, and recorded.
fn note_page(boot: &Boot<'_>, page: Result<(), Error>, journal: &mut Journal) {
    if let Err(error) = page {
        let reason = error.chain();
        boot.say(&reason);
        journal.note_stage(status_page::NAME, "built-in", Outcome::GaveUp, Some(reason));
    }
}

/// Waits for a Supervisor that no stage waited for (its stage was replaced or masked), and finds the exit code.
fn end(boot: &mut Boot<'_>, selection: &Selection) -> u8 {
    let whole = selection.is_everything() || boot.cancel.is_fired();
    let end = match &boot.supervisor {
        Supervisor::Child(..) | Supervisor::Foreign(_) if whole => boot.supervisor.wait(&boot.cancel),
        Supervisor::Ended(status) => End::Itself(*status),
        _ => End::Stopped,
    };
    match end {
        End::Itself(status) => status.map_or(0, process::exit_code),
        End::Overdue => KILLED,
        End::Stopped if boot.cancel.is_fired() => STOPPED,
        End::Stopped => 0,
    }
}

/// Runs one stage and records it.
fn run_entry(boot: &mut Boot<'_>, entry: &Entry, built_in: &[BuiltIn], journal: &mut Journal) {
    journal.begin(&entry.name, &entry.source.to_string());
    if entry.name == WAIT_STAGE {
        journal.phase(Phase::Up);
    }
    let (outcome, message) = match &entry.source {
        Source::BuiltIn => run_built_in(boot, &entry.name, built_in),
        // What starts Supervisor, and what comes after, has the container's log for as long as the instance lives.
        Source::File(path) if entry.name.as_str() < SUPERVISOR_STAGES => run_file(boot, path, Output::Heard),
        Source::File(path) => run_file(boot, path, Output::Console),
    };
    let message = message.map(|message| Redactor::new(&boot.env).redact(&message));
    if outcome.is_bad() {
        let told = message.as_deref().unwrap_or("no reason given");
        boot.say(&format!("{}: {}: {told}", entry.name, outcome.as_str()));
    }
    journal.end(outcome, message);
}

fn run_built_in(boot: &mut Boot<'_>, name: &str, built_in: &[BuiltIn]) -> (Outcome, Option<String>) {
    let Some(stage) = built_in.iter().find(|stage| stage.name == name) else {
        return (Outcome::Failed, Some("this version has no such stage".to_owned()));
    };
    // What a stage was changing when it panicked is an environment map and a few flags: each change is whole by itself.
    match catch_unwind(AssertUnwindSafe(|| (stage.run)(boot))) {
        Ok(Ok(Verdict::Done(message))) => (Outcome::Done, message),
        Ok(Ok(Verdict::Skipped(reason))) => (Outcome::Skipped, Some(reason)),
        Ok(Ok(Verdict::GaveUp(reason))) => (Outcome::GaveUp, Some(reason)),
        Ok(Err(error)) => failed(&error),
        Err(panic) => (Outcome::Panicked, Some(panic_message(panic.as_ref()))),
    }
}

/// A panic's text may hold anything, so it passes the same mask as every message.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

fn failed(error: &Error) -> (Outcome, Option<String>) {
    let outcome = if matches!(error, Error::Cancelled) { Outcome::Cancelled } else { Outcome::Failed };
    let message = match error.hint() {
        Some(hint) => format!("{} ({hint})", error.chain()),
        None => error.chain(),
    };
    (outcome, Some(message))
}

/// Sources a shell stage, without recording it.
pub(crate) fn run_file(boot: &mut Boot<'_>, path: &Path, output: Output) -> (Outcome, Option<String>) {
    source(boot, path, output).unwrap_or_else(|error| failed(&error))
}

/// Sources a shell stage and takes over what it left.
fn source(boot: &mut Boot<'_>, path: &Path, output: Output) -> Result<(Outcome, Option<String>), Error> {
    let mut notes = Vec::new();
    let limit = boot.stage_limit().unwrap_or_else(|error| {
        notes.push(error.to_string());
        None
    });
    let mut variables: Vec<(&'static str, String)> =
        boot.flags.shell_variables().iter().map(|(name, value)| (*name, value.to_string())).collect();
    let supervisor = boot.supervisor.pid().map(|pid| pid.as_raw_pid().to_string()).unwrap_or_default();
    variables.push((SUPERVISOR_PID, supervisor.clone()));
    let file = boot.root.join(path);
    let (directory, scratch) = (boot.directory.clone(), boot.scratch());
    let request = Request {
        file: &file,
        env: &boot.env,
        variables: &variables,
        directory: &directory,
        scratch: &scratch,
        limit,
        output,
    };
    let sourced = shell::source(&request, boot.runner)?;
    match sourced.left {
        Some(left) => {
            boot.env = left.env;
            for (name, value) in &left.variables {
                boot.flags.set_shell_variable(name, value);
                if name == SUPERVISOR_PID && *value != supervisor {
                    adopt(boot, value);
                }
            }
        }
        None => notes.push("its shell was replaced or killed, so what it exported is not known".to_owned()),
    }
    let outcome = match sourced.ended {
        Wait::Ended(status) if status.success() => Outcome::Done,
        Wait::Ended(status) => {
            notes.insert(0, process::describe(status));
            Outcome::Failed
        }
        Wait::TimedOut => {
            notes.insert(0, format!("took longer than {} s", limit.unwrap_or_default().as_secs_f64()));
            Outcome::TimedOut
        }
        Wait::Cancelled => Outcome::Cancelled,
    };
    Ok((outcome, (!notes.is_empty()).then(|| notes.join("; "))))
}

/// A replaced stage 65 started Supervisor by itself.
fn adopt(boot: &mut Boot<'_>, pid: &str) {
    if let Some(pid) = pid.parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) {
        boot.supervisor = Supervisor::foreign(pid, &boot.cancel);
    }
}

#[cfg(test)]
mod tests;
