//! Scripts that the user names: fetched, mended, kept where the user can read them, and run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fetch::{Client, Location, Place};
use crate::files;
use crate::process::{self, Output, Wait};
use crate::shell;
use crate::stage::Boot;

/// A script that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file, on this machine.
    pub path: PathBuf,
    /// Where it came from, as it may be shown.
    pub shown: String,
}

/// Fetches the script at `address` and keeps it at `kept`, an absolute path in the tree. A local one that can run as it is stays where
/// it is.
///
/// # Errors
/// When it cannot be had, is no script, or cannot be kept.
pub fn obtain(boot: &Boot<'_>, address: &str, kept: &str) -> Result<Script, Error> {
    let fetch_failed = |shown: &str, source| Error::Fetch { url: shown.to_owned(), source };
    let location = Location::parse(address).map_err(|source| fetch_failed(&crate::redact::url(address), source))?;
    let shown = location.shown();
    if let Some(warning) = location.warning() {
        boot.say(&format!("warning: {warning}"));
    }
    let client = Client::new(address, &boot.env, boot.retry, boot.cancel.clone());
    let (root, from) = (boot.root.clone(), location.clone());
    let fetched = boot.interruptible(move || from.fetch(&root, &client))?.map_err(|source| match source {
        crate::fetch::FetchError::Cancelled => Error::Cancelled,
        source => fetch_failed(&shown, source),
    })?;
    if let Some(warning) = fetched.warning {
        boot.say(&format!("warning: {warning}"));
    }
    let content = fetched.content;
    let mended = mend(&content);
    let path = match &location.place {
        Place::Path(path) if mended.is_none() && is_executable(&boot.root.join(path)) => boot.root.join(path),
        _ => {
            let path = boot.root.join(kept);
            files::publish_exact(&path, mended.as_deref().unwrap_or(&content), 0o700)?;
            path
        }
    };
    Ok(Script { path, shown })
}

/// Runs a script by its first line, in the boot's environment, with its output also in `log`.
///
/// # Errors
/// When it cannot be started, or ended otherwise than with success.
pub fn run(boot: &Boot<'_>, script: &Script, log: Option<&str>) -> Result<(), Error> {
    let mut invocation = shell::script(&script.path, &boot.env)?.directory(&boot.directory);
    invocation.output = log.map_or(Output::Heard, |log| Output::Log(boot.root.join(log)));
    match boot.runner.run(&invocation)? {
        Wait::Ended(status) if status.success() => Ok(()),
        Wait::Ended(status) => Err(Error::Ended { program: script.shown.clone(), ended: process::describe(status) }),
        Wait::Cancelled | Wait::TimedOut => Err(Error::Cancelled),
    }
}

/// Unix line ends, and no byte order mark before the first line's `#!`; nothing when there is nothing to mend, or it is a binary.
fn mend(content: &[u8]) -> Option<Vec<u8>> {
    if content.contains(&0) {
        return None;
    }
    let without_mark = content.strip_prefix(b"\xef\xbb\xbf");
    let text = without_mark.unwrap_or(content);
    files::mend_line_ends(text).or_else(|| without_mark.map(<[u8]>::to_vec))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_are_mended_and_binaries_left_alone() {
        for (content, expected) in [
            (&b"\xef\xbb\xbf#!/bin/sh\r\n"[..], Some(&b"#!/bin/sh\n"[..])),
            (b"\xef\xbb\xbf#!/bin/sh\n", Some(b"#!/bin/sh\n")),
            (b"a\r\n", Some(b"a\n")),
            (b"a\n", None),
            (b"\x7fELF\0\r\n", None),
        ] {
            assert_eq!(mend(content).as_deref(), expected);
        }
    }
}
