//! `tests/vectors.json`, checked by this crate and by the second implementation beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::dpkg::{self, Database};
use crate::inventory::{Apt, Distribution, Interpreter, Inventory, Package, System, Venv};
use crate::{EnvHash, venv};

#[derive(Deserialize)]
struct Vectors {
    environments: Vec<Environment>,
    metadata: Vec<Metadata>,
    packages: Vec<Packages>,
}

#[derive(Deserialize)]
struct Environment {
    name: String,
    platform: String,
    machine: String,
    release: Vec<String>,
    apt: Vec<(String, String)>,
    venvs: Vec<VenvFacts>,
    hashes: Hashes,
    hash: EnvHash,
}

#[derive(Deserialize)]
struct VenvFacts {
    name: String,
    python: Option<String>,
    packages: Vec<Fields>,
}

#[derive(Deserialize)]
struct Hashes {
    system: EnvHash,
    apt: EnvHash,
    venvs: Vec<EnvHash>,
}

/// `Name` and `Version`.
type Fields = (Option<String>, Option<String>);

#[derive(Deserialize)]
struct Metadata {
    text: String,
    no: Fields,
    always: Fields,
    eight: Fields,
}

#[derive(Deserialize)]
struct Packages {
    status: String,
    lines: Vec<String>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn vectors() -> Vectors {
    serde_json::from_str(&std::fs::read_to_string(file("vectors.json")).unwrap()).unwrap()
}

#[test]
fn environments_have_the_hashes_of_the_vectors() {
    for vector in vectors().environments {
        let packages = vector.apt.into_iter().map(|(name, version)| Package { name, version });
        let venvs = vector.venvs.into_iter().map(|venv| {
            let interpreter =
                venv.python.map(|version| Interpreter { path: "/p".into(), version, stated_by: "x".into() });
            let packages = venv.packages.into_iter().map(|(name, version)| Distribution { name, version });
            Venv::new(venv.name, interpreter, packages.collect())
        });
        let system = System::new(vector.platform, vector.machine, vector.release);
        let inventory = Inventory::new(system, Apt::new(packages.collect()), venvs.collect(), vec![]);
        assert_eq!(inventory.system.hash, vector.hashes.system, "{}", vector.name);
        assert_eq!(inventory.apt.hash, vector.hashes.apt, "{}", vector.name);
        let hashes: Vec<_> = inventory.venvs.iter().map(|venv| venv.hash).collect();
        assert_eq!(hashes, vector.hashes.venvs, "{}", vector.name);
        assert_eq!(inventory.hash, vector.hash, "{}", vector.name);
    }
}

#[test]
fn metadata_reads_as_the_vectors_say() {
    for vector in vectors().metadata {
        let expected = [vector.no, vector.always, vector.eight];
        assert_eq!(venv::fuzzing::readings(&vector.text), expected, "{:?}", vector.text);
    }
}

#[test]
fn packages_are_listed_as_the_vectors_say() {
    for vector in vectors().packages {
        let mut database = Database::default();
        database.add_status(Path::new("/status"), vector.status.as_bytes()).unwrap();
        let packages = database.installed("amd64").into_iter().filter(dpkg::counts).collect();
        let lines: Vec<_> = Apt::new(packages).packages.iter().map(Package::line).collect();
        assert_eq!(lines, vector.lines, "{}", vector.status);
    }
}

#[test]
fn a_second_implementation_agrees_with_every_vector() {
    let vectors = vectors();
    let output = Command::new("python3").args([file("vectors.py"), file("vectors.json")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let count = vectors.environments.len() + vectors.metadata.len() + vectors.packages.len();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{count}\n"));
}
