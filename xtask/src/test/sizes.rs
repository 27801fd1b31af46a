//! No source file grows past what can be reviewed.

use std::fs;

use anyhow::{Context as _, Result};
use walkdir::WalkDir;

use crate::workspace::Workspace;

/// The lines at which a file must be split.
const MOST: usize = 800;

/// What a person writes and reads line by line.
const EXTENSIONS: &[&str] = &["rs", "sh", "py", "js", "css", "html"];

/// Prints the source files that are too long and says whether there are none.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let mut fine = true;
    for folder in ["crates", "tests", "xtask", "fuzz", "images"] {
        let start = workspace.path(folder);
        if !start.exists() {
            continue;
        }
        for entry in WalkDir::new(&start).sort_by_file_name().into_iter().filter_entry(|e| e.file_name() != "target") {
            let entry = entry.with_context(|| format!("cannot list `{folder}`"))?;
            let extension = entry.path().extension().and_then(|extension| extension.to_str());
            if !entry.file_type().is_file() || !extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
                continue;
            }
            let text = fs::read(entry.path()).with_context(|| format!("cannot read `{}`", entry.path().display()))?;
            let lines = String::from_utf8_lossy(&text).lines().count();
            if too_long(lines) {
                eprintln!("{}: {lines} lines; split it at {MOST}", workspace.show(entry.path()));
                fine = false;
            }
        }
    }
    Ok(fine)
}

fn too_long(lines: usize) -> bool {
    lines > MOST
}
