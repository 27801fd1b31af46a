//! `vast-logtee`, installed as `log-tee` too: the logs of a supervised application.

use std::ffi::OsString;
use std::io::{stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use vast_portal::env_vars;
use vast_portal::logtee::{Destinations, tee};

use crate::report::{self, Exit};

const PROGRAM: &str = "vast-logtee";

/// Copies standard input to a log that keeps every byte, and as clean text to a plain log and to standard output.
///
/// The previous logs become `.old`; logs over 5 MB are trimmed. Ends when its input ends, and ignores the signals that
/// end the application, so that nothing of its last words is lost.
#[derive(Debug, Parser)]
#[command(name = "vast-logtee", version)]
struct Args {
    /// The application's name [default: `$PROC_NAME`]
    #[arg(long, value_name = "NAME")]
    name: Option<OsString>,
    /// The log of clean text [default: /var/log/NAME.log]
    #[arg(long, value_name = "FILE")]
    plain: Option<PathBuf>,
    /// The log that keeps every byte [default: /var/log/portal/NAME.log]
    file: Option<PathBuf>,
}

impl Args {
    fn destinations(self, proc_name: Option<OsString>) -> Destinations {
        // A name is one component of a path.
        let name = self.name.or(proc_name).map(|name| name.to_string_lossy().replace('/', "_"));
        let name = name.filter(|name| !name.is_empty() && name != "." && name != "..");
        let in_directory = |directory: &str| name.as_ref().map(|name| Path::new(directory).join(format!("{name}.log")));
        Destinations {
            raw: self.file.or_else(|| in_directory("/var/log/portal")),
            clean: self.plain.or_else(|| in_directory("/var/log")),
            name: name.clone(),
        }
    }
}

/// Runs `vast-logtee`.
#[must_use]
pub fn run() -> ExitCode {
    let args = match report::parse_args::<Args>() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        // A flag that nobody reads: the signal is taken, and the copying goes on. It fails for no signal of these.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let to = args.destinations(std::env::var_os(env_vars::PROC_NAME));
    let mut warn = |message: String| eprintln!("{PROGRAM}: {message}");
    match tee(&mut stdin().lock(), &mut stdout().lock(), &to, &mut warn) {
        Ok(()) => Exit::Success.into(),
        Err(error) => report::fail(PROGRAM, &error, None).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(arguments: &[&str], proc_name: Option<&str>) -> Destinations {
        let args = Args::try_parse_from([&["vast-logtee"], arguments].concat()).unwrap();
        args.destinations(proc_name.map(OsString::from))
    }

    /// Arguments and `$PROC_NAME`; the raw log and the plain log.
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, Option<&'a str>);

    #[test]
    fn the_name_decides_the_logs_and_paths_override_them() {
        let table: [Case<'_>; 6] = [
            (&[], Some("app"), Some("/var/log/portal/app.log"), Some("/var/log/app.log")),
            (&["--name", "other"], Some("app"), Some("/var/log/portal/other.log"), Some("/var/log/other.log")),
            (&["/tmp/x"], Some("app"), Some("/tmp/x"), Some("/var/log/app.log")),
            (&["/tmp/x", "--plain", "/tmp/y"], None, Some("/tmp/x"), Some("/tmp/y")),
            (&[], Some("../../etc/x"), Some("/var/log/portal/.._.._etc_x.log"), Some("/var/log/.._.._etc_x.log")),
            (&[], None, None, None),
        ];
        for (arguments, proc_name, raw, clean) in table {
            let found = destinations(arguments, proc_name);
            assert_eq!(found.raw, raw.map(PathBuf::from), "{arguments:?}");
            assert_eq!(found.clean, clean.map(PathBuf::from), "{arguments:?}");
        }
    }
}
