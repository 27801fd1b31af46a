//! What an environment hash stands for, in full: the inventory, and the exact text of each component.

use serde::{Deserialize, Serialize};

use crate::hash::EnvHash;

/// The number of the default scheme, described in the crate's documentation.
pub const SCHEME: u32 = 1;

/// Everything that the hash of a root was made from.
///
/// It is complete: [`Inventory::recompute`] gives the hash from the inventory alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The scheme that combined the components.
    pub scheme: u32,
    /// The environment hash.
    pub hash: EnvHash,
    /// The platform and the distribution release.
    pub system: System,
    /// The Debian packages that count.
    pub apt: Apt,
    /// The Python environments under `/venv`, in the order in which they count.
    pub venvs: Vec<Venv>,
    /// What could not be decided from the files alone, in words. Empty on almost every system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The platform and the distribution release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// The component's hash.
    pub hash: EnvHash,
    /// Python's `sysconfig.get_platform()`, such as `linux-x86_64`.
    pub platform: String,
    /// Python's `platform.machine()`, such as `x86_64`.
    pub machine: String,
    /// The `VERSION_ID=` and `VERSION_CODENAME=` lines of `/etc/os-release`, sorted.
    pub release: Vec<String>,
    /// The `ID` of `/etc/os-release`, such as `ubuntu`. No part of the hash; it names the vendor in a bill of materials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
}

/// The installed Debian packages that count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apt {
    /// The component's hash.
    pub hash: EnvHash,
    /// The packages, sorted by the bytes of `name=version`.
    pub packages: Vec<Package>,
}

/// A Debian package as `dpkg -l` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The name, with `:arch` where dpkg prints it.
    pub name: String,
    /// The version as dpkg prints it: without an epoch of zero.
    pub version: String,
}

/// One Python environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Venv {
    /// The directory's name under `/venv`.
    pub name: String,
    /// The component's hash.
    pub hash: EnvHash,
    /// The interpreter; `None` where there is no executable `bin/python`.
    pub interpreter: Option<Interpreter>,
    /// The distributions, sorted by the code points of `Name==Version`; duplicates count.
    pub packages: Vec<Distribution>,
}

/// The interpreter of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// What `bin/python` really is: the path inside the root, symbolic links resolved.
    pub path: String,
    /// `major.minor.micro`.
    pub version: String,
    /// What stated the version, such as the binary itself or a package database.
    pub stated_by: String,
}

/// An installed Python distribution, by its metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Distribution {
    /// The `Name` field; `None` where the metadata has none, which Python prints as `None`.
    pub name: Option<String>,
    /// The `Version` field, with the same rule.
    pub version: Option<String>,
}

impl System {
    /// The component of these facts; `release` is sorted here. The distribution is not known.
    #[must_use]
    pub fn new(platform: String, machine: String, mut release: Vec<String>) -> Self {
        release.sort_unstable();
        let mut system = Self { hash: EnvHash::of(b""), platform, machine, release, distribution: None };
        system.hash = EnvHash::of(system.text().as_bytes());
        system
    }

    /// The text whose hash is the component.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.platform, self.machine, self.release.join("\n"))
    }

    /// The value of a release line without its quotes: `12` of `VERSION_ID="12"`.
    #[must_use]
    pub fn release_value(&self, key: &str) -> Option<&str> {
        let value = self.release.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(unquoted(value)).filter(|value| !value.is_empty())
    }
}

/// A value of an `os-release` file without the quotes around it.
pub(crate) fn unquoted(value: &str) -> &str {
    let value = value.trim_end();
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

impl Apt {
    /// The component of these packages, which are sorted here. The caller has chosen those that count.
    #[must_use]
    pub fn new(mut packages: Vec<Package>) -> Self {
        packages.sort_by_cached_key(Package::line);
        let mut apt = Self { hash: EnvHash::of(b""), packages };
        apt.hash = EnvHash::of(apt.text().as_bytes());
        apt
    }

    /// The text whose hash is the component.
    #[must_use]
    pub fn text(&self) -> String {
        self.packages.iter().map(|package| package.line() + "\n").collect()
    }
}

impl Package {
    /// `name=version`.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

impl Venv {
    /// The component of an environment; the distributions are sorted here.
    #[must_use]
    pub fn new(name: String, interpreter: Option<Interpreter>, mut packages: Vec<Distribution>) -> Self {
        packages.sort_by_cached_key(Distribution::line);
        let mut venv = Self { name, hash: EnvHash::of(b""), interpreter, packages };
        venv.hash = EnvHash::of(venv.text().as_bytes());
        venv
    }

    /// The text whose hash is the component: nothing, where there is no interpreter.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(interpreter) = &self.interpreter else { return String::new() };
        let lines: Vec<String> = self.packages.iter().map(Distribution::line).collect();
        format!("{}\n{}\n", interpreter.version, lines.join("\n"))
    }
}

impl Distribution {
    /// `Name==Version`, with `None` for what the metadata lacks.
    #[must_use]
    pub fn line(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "None".into());
        format!("{}=={}", text(&self.name), text(&self.version))
    }
}

impl Inventory {
    /// The inventory of these components, under the default scheme.
    #[must_use]
    pub fn new(system: System, apt: Apt, venvs: Vec<Venv>, notes: Vec<String>) -> Self {
        let mut inventory = Self { scheme: SCHEME, hash: EnvHash::of(b""), system, apt, venvs, notes };
        inventory.hash = EnvHash::of(inventory.text().as_bytes());
        inventory
    }

    /// The text whose hash is the environment hash: the hashes of the components, and a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}{}", self.system.hash, self.apt.hash);
        text.extend(self.venvs.iter().map(|venv| venv.hash.to_string()));
        text.push('\n');
        text
    }

    /// The hash that the contents of this inventory give, whatever hashes it carries: equal to
    /// [`Inventory::hash`] unless somebody edited a stored inventory.
    #[must_use]
    pub fn recompute(&self) -> EnvHash {
        let mut text = EnvHash::of(self.system.text().as_bytes()).to_string();
        text += &EnvHash::of(self.apt.text().as_bytes()).to_string();
        text.extend(self.venvs.iter().map(|venv| EnvHash::of(venv.text().as_bytes()).to_string()));
        text.push('\n');
        EnvHash::of(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dist(name: &str, version: &str) -> Distribution {
        Distribution { name: Some(name.into()), version: Some(version.into()) }
    }

    #[test]
    fn component_texts_are_those_of_the_specification() {
        let bare = System::new("linux-x86_64".into(), "x86_64".into(), vec![]);
        assert_eq!(bare.text(), "linux-x86_64\nx86_64\n\n");
        let release = vec!["VERSION_ID=\"12\"".into(), "VERSION_CODENAME=bookworm".into()];
        let system = System::new("linux-x86_64".into(), "x86_64".into(), release);
        assert_eq!(system.text(), "linux-x86_64\nx86_64\nVERSION_CODENAME=bookworm\nVERSION_ID=\"12\"\n");
        assert_eq!(Apt::new(vec![]).hash, EnvHash::of(b""));
        let python = Interpreter { path: "/p".into(), version: "3.12.1".into(), stated_by: String::new() };
        let venv = Venv::new("main".into(), Some(python), vec![dist("b", "1"), dist("B", "2"), dist("a", "1")]);
        assert_eq!(venv.text(), "3.12.1\nB==2\na==1\nb==1\n");
        assert_eq!(Venv::new("x".into(), None, vec![]).text(), "");
    }

    #[test]
    fn an_edited_inventory_is_found_out() {
        let system = System::new("linux-x86_64".into(), "x86_64".into(), vec![]);
        let mut inventory = Inventory::new(system, Apt::new(vec![]), vec![], vec![]);
        assert_eq!(inventory.recompute(), inventory.hash);
        inventory.system.machine = "aarch64".into();
        assert_ne!(inventory.recompute(), inventory.hash);
    }
}
