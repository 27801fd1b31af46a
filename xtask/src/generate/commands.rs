//! `docs/reference/commands.md`: what every binary and every subcommand says of itself under `--help`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::dist::{self, Scope};
use crate::workspace::Workspace;

/// The width that help is wrapped at, whatever terminal this runs in.
const COLUMNS: &str = "100";

/// The page.
pub(super) fn page(workspace: &Workspace, scope: Scope) -> Result<String> {
    let mut page = super::header("Commands", "the binaries' `--help`");
    for binary in dist::build_dev(workspace, scope)? {
        section(&binary, &mut Vec::new(), &mut page)?;
    }
    Ok(page)
}

/// Adds the help of `binary path…` and, below it, that of its subcommands.
fn section(binary: &Path, path: &mut Vec<String>, page: &mut String) -> Result<()> {
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    let line = std::iter::once(name.as_ref()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let help = help(binary, path).with_context(|| format!("cannot document `{line}`"))?;
    let level = "#".repeat(2 + path.len());
    if !page.ends_with("\n\n") {
        page.push('\n');
    }
    // Writing to a `String` cannot fail.
    let _ = write!(page, "{level} `{line}`\n\n```text\n{}\n```\n", tidy(&help));
    for subcommand in subcommands(&help) {
        path.push(subcommand);
        section(binary, path, page)?;
        path.pop();
    }
    Ok(())
}

/// Asks for help with nothing of this machine's environment, so that the answer is the same on all of them.
fn help(binary: &Path, path: &[String]) -> Result<String> {
    let output = Command::new(binary)
        .args(path)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", COLUMNS)
        .stdin(Stdio::null())
        .output()
        .context("cannot run it")?;
    if !output.status.success() {
        bail!("`--help` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("its help is not UTF-8")
}

/// Without the spaces that wrapped lines may end with.
fn tidy(help: &str) -> String {
    help.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The names under the heading `Commands:`; `help` itself tells nothing new.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        // A description that was wrapped is indented further than a name.
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_the_names_under_their_heading() {
        let help = "Does things\n\nUsage: vast-x <COMMAND>\n\nCommands:\n  run   Run it\n        and wait\n  env-print\n  \
                    help  Print this message\n\nOptions:\n  -h, --help  Print help\n";
        assert_eq!(subcommands(help), ["run", "env-print"]);
        assert_eq!(subcommands("Usage: vast-x [OPTIONS]\n"), Vec::<String>::new());
    }

    #[test]
    fn a_binary_that_has_no_help_is_an_error() {
        let error = help(Path::new("/bin/false"), &[]).unwrap_err();
        assert!(error.to_string().starts_with("`--help` ended with exit status: 1"), "{error}");
    }
}
