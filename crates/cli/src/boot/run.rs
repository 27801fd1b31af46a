//! Booting: the first process, and the sequence below it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use rustix::fs::Mode;
use vast_boot::cancel::Cancel;
use vast_boot::console::{Console, SharedConsole};
use vast_boot::error::Error;
use vast_boot::flags::Flags;
use vast_boot::journal::Journal;
use vast_boot::plan;
use vast_boot::process::SystemRunner;
use vast_boot::replacement;
use vast_boot::sequence;
use vast_boot::stage::Boot;
use vast_boot::stages::BUILT_IN;
use vast_boot::status_page::{self, Board, Heard, StatusPage};
use vast_boot::{environment::Environment, init, root::Root};

use super::args::Order;
use super::console::Stdout;

/// The first process: starts the sequence and looks after what it leaves.
pub(super) fn supervise(arguments: &[OsString]) -> ExitCode {
    let own = std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").to_owned());
    let arguments = match arguments.first() {
        Some(first) if first == "run" => arguments.get(1..).unwrap_or_default(),
        _ => arguments,
    };
    let mut command = Command::new(own);
    command.arg0(super::PROGRAM).arg("sequence").args(arguments);
    match init::supervise(&mut command) {
        Ok(code) => ExitCode::from(code),
        Err(source) => super::fail(&Error::Run { program: "the boot sequence".to_owned(), source }),
    }
}

/// The sequence itself.
pub(super) fn sequence(order: Order) -> ExitCode {
    // `user` (1001:0) shares the root group: what stages and Supervisor's programs create is the group's too.
    rustix::process::umask(Mode::WOTH);
    quiet_panics();
    let cancel = Cancel::new();
    if let Err(source) = init::listen(cancel.clone()) {
        return super::fail(&Error::Run { program: "the boot sequence".to_owned(), source });
    }
    let board = Board::default();
    let console: SharedConsole = Arc::new(Heard::new(Arc::new(Stdout), board.clone()));
    let runner = SystemRunner::new(cancel.clone(), console.clone());
    let env: Environment = std::env::vars_os().collect();
    let Order { root, selection, flags } = order;
    let root = Root::from(root);

    let mut boot = Boot::new(root.clone(), env, &runner, cancel, console);
    boot.page = StatusPage::new(board);
    let parsed = Flags::parse(flags.iter().map(|flag| flag.to_string_lossy()));
    boot.flags = parsed.flags;
    boot.flags.apply_serverless(&boot.env);
    for (name, value) in parsed.variables {
        boot.env.set(name, value);
    }
    let mut journal = Journal::start(&root, boot.env.instance(), selection.is_everything());
    if selection.is_everything()
        && let Some(code) = replacement::run(&boot, &flags, &mut journal)
    {
        return ExitCode::from(code);
    }
    say_unknown(&boot, &parsed.unknown);
    let plan = plan::read(&root, BUILT_IN.iter().map(|stage| stage.name)).unwrap_or_else(|error| {
        boot.say(&format!("{}; going on with the built-in stages alone", error.chain()));
        plan::plan(BUILT_IN.iter().map(|stage| stage.name), [], Path::new(plan::DIRECTORY))
    });
    ExitCode::from(sequence::run(&mut boot, &plan, BUILT_IN, &selection, &mut journal))
}

/// A flag is named without its value, and other words are only counted: a template may pass a secret there.
fn say_unknown(boot: &Boot<'_>, unknown: &[String]) {
    let (flags, words): (Vec<&String>, Vec<&String>) = unknown.iter().partition(|argument| argument.starts_with('-'));
    for flag in flags {
        boot.say(&format!("ignoring the unknown flag `{}`", flag.split('=').next().unwrap_or(flag)));
    }
    if !words.is_empty() {
        boot.say(&format!("ignoring {} arguments: this entrypoint runs no command", words.len()));
    }
}

/// A panic's message may hold anything, so the log gets only its place; the journal gets the message with secrets masked.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let is_page = std::thread::current().name() == Some(status_page::NAME);
        let what = if is_page { "the status page" } else { "a built-in stage" };
        Stdout.line(&format!("{what} panicked at {place}; this is a defect, please report it"));
    }));
}
