//! `shellcheck` over everything that ships as a shell script.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use walkdir::WalkDir;

use crate::process;
use crate::workspace::Workspace;

/// Where scripts that say `. "${utils}/NAME.sh"` find it.
const UTILITIES: &str = "images/base/ROOT/opt/supervisor-scripts/utils";

/// Runs `shellcheck` and says whether it has nothing to object to.
///
/// Sourced files are followed, so that a variable which one file sets for another is known: the utilities of the base
/// image, whatever folder a script finds them in. What only exists inside an image (SC1091) cannot be.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let mut scripts = vec![workspace.path(".ci/run")];
    for entry in WalkDir::new(workspace.path("images")).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_shell(entry.path())? => scripts.push(entry.into_path()),
            Ok(_) => {}
            Err(error) if error.depth() == 0 => break,
            Err(error) => return Err(error).context("cannot list `images`"),
        }
    }
    process::succeeds(
        Command::new("shellcheck")
            .current_dir(workspace.root())
            .args(["--external-sources", "--source-path=SCRIPTDIR", "--source-path", UTILITIES])
            .args(["--exclude=SC1091", "--"])
            .args(scripts.iter().map(|script| relative(workspace, script))),
    )
}

fn relative(workspace: &Workspace, script: &Path) -> PathBuf {
    script.strip_prefix(workspace.root()).unwrap_or(script).to_owned()
}

/// A shell script by its name, or, without one, by its first line.
fn is_shell(path: &Path) -> Result<bool> {
    if let Some(extension) = path.extension() {
        return Ok(extension == "sh");
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(is_shell_shebang(&start))
}

/// `#!/bin/bash`, `#!/bin/sh -e`, `#!/usr/bin/env bash`.
fn is_shell_shebang(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(line) = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("#!")) else { return false };
    let mut words = line.split_whitespace();
    let interpreter = words.next().and_then(|path| path.rsplit('/').next());
    let shell = if interpreter == Some("env") { words.next() } else { interpreter };
    matches!(shell, Some("sh" | "bash" | "dash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_their_first_line() {
        for (start, shell) in [
            (&b"#!/bin/bash\nset -e"[..], true),
            (b"#!/bin/sh -e\n", true),
            (b"#! /usr/bin/env bash\n", true),
            (b"#!/usr/bin/env python3\n", false),
            (b"#!/usr/bin/python3 bash\n", false),
            (b"bash\n", false),
            (b"\x7fELF\xff\xfe", false),
            (b"", false),
        ] {
            assert_eq!(is_shell_shebang(start), shell, "{}", String::from_utf8_lossy(start));
        }
    }
}
