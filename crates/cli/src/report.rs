//! How every binary ends: one exit code table and one way to print an error chain.

use std::error::Error;
use std::process::ExitCode;

/// The exit codes of all binaries (DESIGN rule 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The work was done, or the answer is yes.
    Success = 0,
    /// The answer is no: a difference, a failed check, an unlisted application.
    No = 1,
    /// The work could not be done.
    CouldNot = 2,
    /// The command line was wrong (`EX_USAGE`).
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error and its causes on one line. A cause whose text the error above it already ends with is not said twice.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// Renders an error [with its causes](with_causes), and the hint, if there is one, on the next line.
#[must_use]
pub fn render_error(program: &str, error: &dyn Error, hint: Option<&str>) -> String {
    let text = with_causes(error);
    match hint {
        Some(hint) => format!("{program}: {text}\n  hint: {hint}"),
        None => format!("{program}: {text}"),
    }
}

/// Prints the error chain once to standard error and gives the exit code for work that could not be done.
pub fn fail(program: &str, error: &dyn Error, hint: Option<&str>) -> Exit {
    eprintln!("{}", render_error(program, error, hint));
    Exit::CouldNot
}

/// Parses arguments with clap; a wrong command line ends with [`Exit::Usage`], `--help` and `--version` with success.
///
/// # Errors
/// The exit code to return from `main`.
pub fn parse_args<T: clap::Parser>() -> Result<T, Exit> {
    T::try_parse().map_err(|error| {
        // A closed standard output or error leaves nobody to tell.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot publish `/workspace/app`")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_one_line_with_its_causes_and_a_hint() {
        let error = Outer(std::io::Error::other("no space left on device"));
        assert_eq!(
            render_error("vast-sync", &error, Some("free 3 GB")),
            "vast-sync: cannot publish `/workspace/app`: no space left on device\n  hint: free 3 GB"
        );
    }
}
