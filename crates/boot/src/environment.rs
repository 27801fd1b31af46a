//! The environment that travels through the sequence, as bytes: a value need not be UTF-8.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::env_vars;

/// The search path of a Debian root login, for a container whose environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The workspace of an instance whose template names none.
const DEFAULT_WORKSPACE: &str = "/workspace";

/// Variable names and values, ordered by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// An environment without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `name`, when it is set and UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_os(name).and_then(OsStr::to_str)
    }

    /// The value of `name` as bytes.
    #[must_use]
    pub fn get_os(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of `name` without surrounding white space, when something is left: templates leave variables empty for "not set".
    #[must_use]
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Whether `name` says `true`, in any case.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(says_true)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Sets `name` unless it has a non-empty value.
    pub fn set_default(&mut self, name: &str, value: impl Into<OsString>) {
        if self.get_os(name).is_none_or(OsStr::is_empty) {
            self.set(name, value);
        }
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(OsStr::new(name));
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// What is UTF-8 of it, for the crates that read their settings from a map of strings.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))).collect()
    }

    /// Sets what every program expects and a bare container runtime may leave out.
    pub fn complete(&mut self) {
        self.set_default(env_vars::PATH, DEFAULT_PATH);
        self.set_default(env_vars::HOME, "/root");
    }

    /// `$WORKSPACE`, absolute; `/workspace` when it is not set.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        match self.get_os(env_vars::WORKSPACE) {
            Some(value) if !value.is_empty() => PathBuf::from("/").join(value),
            _ => PathBuf::from(DEFAULT_WORKSPACE),
        }
    }

    /// The number of the instance (`1234` of `C.1234`), empty when the platform named none.
    #[must_use]
    pub fn instance(&self) -> &str {
        let name = self.non_empty(env_vars::CONTAINER_ID).or_else(|| self.non_empty(env_vars::VAST_CONTAINERLABEL));
        let mut name = name.unwrap_or_default();
        while let Some(rest) = name.strip_prefix("C.") {
            name = rest;
        }
        name
    }

    /// Parses `NAME=value` records separated by NUL, as `env -0` prints them; a record without `=` is left out.
    #[must_use]
    pub fn from_nul_separated(records: &[u8]) -> Self {
        let pairs = records.split(|&byte| byte == 0).filter_map(|record| {
            // A name is never empty, so the first byte cannot be the separator.
            let cut = 1 + record.get(1..)?.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (record.get(..cut)?, record.get(cut + 1..)?);
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        });
        Self(pairs.collect())
    }
}

/// Whether a value says `true`, in any case.
#[must_use]
pub fn says_true(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        pairs.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }
}

/// Names only: values hold tokens and keys.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Environment")?;
        formatter.debug_list().entries(self.0.keys()).finish()
    }
}

/// Whether a POSIX shell can hold a variable of this name.
#[must_use]
pub fn is_identifier(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_separated_records_keep_newlines_equals_signs_and_bytes() {
        let env = Environment::from_nul_separated(b"A=1\n2=3\0B=\0=odd\0C\0D=\xff\0");
        let pairs: Vec<_> = env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(pairs, [(&b"A"[..], &b"1\n2=3"[..]), (b"B", b""), (b"D", b"\xff")]);
    }

    #[test]
    fn the_instance_is_named_without_its_prefix() {
        for (variables, expected) in [
            (&[][..], ""),
            (&[("CONTAINER_ID", "12")], "12"),
            (&[("VAST_CONTAINERLABEL", "C.12")], "12"),
            (&[("CONTAINER_ID", " "), ("VAST_CONTAINERLABEL", "C.7")], "7"),
            (&[("CONTAINER_ID", "12"), ("VAST_CONTAINERLABEL", "C.7")], "12"),
        ] {
            let env: Environment = variables.iter().copied().collect();
            assert_eq!(env.instance(), expected, "{variables:?}");
        }
    }

    #[test]
    fn the_workspace_is_absolute() {
        for (value, expected) in [("", "/workspace"), ("/data/", "/data/"), ("data", "/data")] {
            let env: Environment = [("WORKSPACE", value)].into_iter().collect();
            assert_eq!(env.workspace(), PathBuf::from(expected));
        }
    }

    #[test]
    fn debug_output_shows_no_value() {
        let env: Environment = [("OPEN_BUTTON_TOKEN", "hunter2")].into_iter().collect();
        assert_eq!(format!("{env:?}"), r#"Environment["OPEN_BUTTON_TOKEN"]"#);
    }
}
