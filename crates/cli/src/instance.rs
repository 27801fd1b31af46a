//! The instance that a command is about: a root and an environment.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

/// Where the instance's files are.
#[derive(Debug, clap::Args)]
pub(crate) struct Root {
    /// Directory that stands for `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}

/// The environment of this process. Bytes that are not UTF-8 are replaced: what is read here is text.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}
