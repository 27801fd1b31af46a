//! The distributions in a venv, from their metadata alone: the interpreter of an environment that no image uses any more
//! may not start.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use vast_sync::Error;

use super::names;

/// An installed distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) name: String,
    pub(super) version: String,
    /// Where it came from, if not from an index (PEP 610).
    origin: Option<Origin>,
}

/// `direct_url.json`, as the packaging specification "Recording the Direct URL Origin" has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Origin {
    url: String,
    vcs_info: Option<VcsInfo>,
    dir_info: Option<DirInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct VcsInfo {
    vcs: String,
    commit_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct DirInfo {
    #[serde(default)]
    editable: bool,
}

impl Installed {
    /// The name as names are compared (PEP 503): lower case, runs of `-`, `_` and `.` are one `-`.
    pub(super) fn key(&self) -> String {
        let lower = self.name.to_lowercase();
        lower.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    }

    /// As a line of a requirements file.
    pub(super) fn requirement(&self) -> String {
        self.arguments().join(" ")
    }

    /// As arguments of `uv pip install`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let name = &self.name;
        let Some(Origin { url, vcs_info, dir_info }) = &self.origin else {
            return vec![format!("{name}=={}", self.version)];
        };
        match (vcs_info, dir_info) {
            (Some(VcsInfo { vcs, commit_id }), _) => vec![format!("{name} @ {vcs}+{url}@{commit_id}")],
            (None, Some(DirInfo { editable: true })) => {
                vec!["--editable".to_owned(), url.strip_prefix("file://").unwrap_or(url).to_owned()]
            }
            _ => vec![format!("{name} @ {url}")],
        }
    }
}

/// Reads the distributions in a venv, in the order of their names.
pub(super) fn read(venv: &Path) -> Result<Vec<Installed>, Error> {
    let lib = venv.join("lib");
    let mut found = Vec::new();
    for python in names(&lib)?.into_iter().filter(|name| name.starts_with("python")) {
        let packages = lib.join(python).join("site-packages");
        for name in names(&packages)?.into_iter().filter(|name| name.ends_with(".dist-info")) {
            let directory = packages.join(name);
            let Ok(metadata) = fs::read(directory.join("METADATA")) else { continue };
            let origin = fs::read(directory.join("direct_url.json")).ok();
            let origin = origin.and_then(|text| serde_json::from_slice(&text).ok());
            found.extend(parse(&String::from_utf8_lossy(&metadata)).map(|mut package| {
                package.origin = origin;
                package
            }));
        }
    }
    found.sort_by_key(Installed::key);
    found.dedup_by_key(|package| package.key());
    Ok(found)
}

/// Reads name and version from the head of the metadata.
fn parse(metadata: &str) -> Option<Installed> {
    let head = metadata.lines().take_while(|line| !line.trim().is_empty());
    let (mut name, mut version) = (None, None);
    for (field, value) in head.filter_map(|line| line.split_once(':')) {
        match field {
            "Name" => name = Some(value.trim().to_owned()),
            "Version" => version = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(Installed { name: name.filter(|name| !name.is_empty())?, version: version?, origin: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_name_and_version_and_its_body_does_not() {
        let parsed = parse("Metadata-Version: 2.1\nName: Some_Package\nVersion: 1.0\n\nName: other\n").unwrap();
        assert_eq!((parsed.key().as_str(), parsed.requirement().as_str()), ("some-package", "Some_Package==1.0"));
        assert_eq!(parse("Version: 1\n\nName: x\n"), None);
    }

    #[test]
    fn where_a_package_came_from_is_part_of_what_is_installed_again() {
        let package = |origin: &str| Installed {
            name: "x".to_owned(),
            version: "1".to_owned(),
            origin: Some(serde_json::from_str(origin).unwrap()),
        };
        for (origin, requirement) in [
            (
                r#"{"url": "https://host/x", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}}"#,
                "x @ git+https://host/x@0a1b",
            ),
            (r#"{"url": "https://host/x.whl", "archive_info": {}}"#, "x @ https://host/x.whl"),
            (r#"{"url": "file:///workspace/x", "dir_info": {"editable": true}}"#, "--editable /workspace/x"),
            (r#"{"url": "file:///workspace/x", "dir_info": {}}"#, "x @ file:///workspace/x"),
        ] {
            assert_eq!(package(origin).requirement(), requirement);
        }
    }
}
