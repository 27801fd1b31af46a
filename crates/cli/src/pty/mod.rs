//! `vast-pty CMD…`: runs a command on a pseudo-terminal, so that it shows its progress bars and colours.

use std::ffi::OsString;
use std::io::{stdin, stdout};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use clap::Parser;
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use vast_portal::env_vars;
use vast_portal::pty::{Session, Size};

use crate::report;

const PROGRAM: &str = "vast-pty";

/// What a shell gives for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Runs a command on a pseudo-terminal and ends as it ends: with its exit code, or 128 and the number of its signal.
#[derive(Debug, Parser)]
#[command(name = "vast-pty", version)]
struct Args {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs `vast-pty`.
#[must_use]
pub fn run() -> ExitCode {
    let args = match report::parse_args::<Args>() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    let [program, arguments @ ..] = args.command.as_slice() else { return NOT_FOUND.into() };
    let mut command = Command::new(program);
    command.args(arguments);
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        // Under Supervisor there is no terminal to inherit the type from.
        command.env("TERM", "xterm-256color");
    }
    let session = match Session::start(command, size()) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("{PROGRAM}: cannot run `{}`: {error}", program.to_string_lossy());
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return if missing { NOT_FOUND } else { NOT_RUN }.into();
        }
    };
    forward_signals(&session);
    match session.run(&mut stdin().lock(), &mut stdout().lock()) {
        Ok(status) => code(status.code(), status.signal()).into(),
        Err(error) => report::fail(PROGRAM, &error, None).into(),
    }
}

/// The exit code that tells how a command ended.
fn code(code: Option<i32>, signal: Option<i32>) -> u8 {
    let number = code.or_else(|| signal.map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

/// Passes the signals that end or poke an application on to the command, which has its own session and so gets none meant
/// for the process group of this program.
fn forward_signals(session: &Session) {
    let Some(group) = i32::try_from(session.id()).ok().and_then(Pid::from_raw) else { return };
    let Ok(mut signals) = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]) else { return };
    std::thread::spawn(move || {
        for signal in &mut signals {
            if let Some(signal) = Signal::from_named_raw(signal) {
                // The command may be gone already.
                let _ = rustix::process::kill_process_group(group, signal);
            }
        }
    });
}

/// The size of the terminal that the output goes to, if it goes to one; otherwise what the environment says.
fn size() -> Size {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        && size.ws_col > 0
    {
        return Size { rows: size.ws_row, columns: size.ws_col };
    }
    let number = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0);
    Size { rows: number(env_vars::LINES).unwrap_or(30), columns: number(env_vars::COLUMNS).unwrap_or(120) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        for (status, signal, expected) in [(Some(0), None, 0), (Some(3), None, 3), (None, Some(15), 143)] {
            assert_eq!(code(status, signal), expected);
        }
    }
}
