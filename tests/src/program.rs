//! Running programs: an error names the command line and shows the end of what it printed.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// How much of a failed program's output an error shows, in bytes.
const SHOWN_BYTES: usize = 4000;

/// Runs `command` to its end and returns its standard output, with the trailing newline removed.
///
/// # Errors
/// When the program cannot be started or does not succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {line}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    bail!("{line} ended with {}:\n{}", output.status, end_of(&said));
}

/// Runs `command` to its end for its effect alone.
///
/// # Errors
/// As [`output`].
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The last part of `text`, cut at a line.
#[must_use]
pub fn end_of(text: &str) -> &str {
    let Some(from) = text.len().checked_sub(SHOWN_BYTES) else { return text };
    let from = (from..text.len()).find(|&index| text.is_char_boundary(index)).unwrap_or(text.len());
    text[from..].split_once('\n').map_or(&text[from..], |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_what_it_printed() {
        let error = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        for part in ["exit status: 3", "out", "err", "\"sh\""] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn long_output_keeps_its_end_from_a_line_start() {
        let text = (0..2000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        let end = end_of(&text);
        assert!(end.len() <= SHOWN_BYTES && end.starts_with("line ") && end.ends_with("line 1999"));
    }
}
