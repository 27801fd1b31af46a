//! The inventory of an image that a reference names.
//!
//! `vast-imagegen` reads images. It is asked as a program: this one is in every container and stays without a registry
//! client.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use vast_envhash::Inventory;

const IMAGEGEN: &str = "vast-imagegen";

/// Why an image's inventory could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("cannot run `{IMAGEGEN}`, which reads images such as `{reference}`")]
    Run { reference: String, source: io::Error },
    #[error("`{IMAGEGEN}` did not read `{reference}` ({status}): {said}")]
    Failed { reference: String, status: ExitStatus, said: String },
    #[error("what `{IMAGEGEN}` says of `{reference}` is no inventory")]
    Answer { reference: String, source: serde_json::Error },
}

impl ImageError {
    pub(super) fn hint(&self) -> Option<String> {
        matches!(self, Self::Run { .. })
            .then(|| format!("put `{IMAGEGEN}` beside this program or into PATH, or give a file or a directory"))
    }
}

/// Asks the `vast-imagegen` beside the program `me`, else the one in `PATH`.
pub(super) fn inventory(reference: &str, me: Option<&Path>) -> Result<Inventory, ImageError> {
    let failed = |source| ImageError::Run { reference: reference.to_owned(), source };
    let output = Command::new(program(me))
        .args(["environment", "--"])
        .arg(OsStr::new(reference))
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches(IMAGEGEN).trim_start_matches(": ").to_owned();
        return Err(ImageError::Failed { reference: reference.to_owned(), status: output.status, said });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|source| ImageError::Answer { reference: reference.to_owned(), source })
}

fn program(me: Option<&Path>) -> PathBuf {
    let beside = me.and_then(Path::parent).map(|directory| directory.join(IMAGEGEN));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| IMAGEGEN.into())
}
