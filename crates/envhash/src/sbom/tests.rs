use jsonschema::Registry;
use serde_json::{Value, json};

use super::*;
use crate::inventory::{Apt, Distribution, Interpreter, Package, System, Venv};

const CYCLONEDX: &str = include_str!("../../tests/schemas/bom-1.6.schema.json");
const CYCLONEDX_LICENCES: &str = include_str!("../../tests/schemas/spdx.schema.json");
const CYCLONEDX_SIGNATURES: &str = include_str!("../../tests/schemas/jsf-0.82.schema.json");
const SPDX: &str = include_str!("../../tests/schemas/spdx-2.3.schema.json");

/// What the published schema has against a document.
fn violations(format: Format, document: &Value) -> Vec<String> {
    let parse = |text| serde_json::from_str::<Value>(text).unwrap();
    let schema = parse(match format {
        Format::CycloneDx => CYCLONEDX,
        Format::Spdx => SPDX,
    });
    let registry = Registry::new()
        .add("http://cyclonedx.org/schema/spdx.schema.json", parse(CYCLONEDX_LICENCES))
        .and_then(|registry| {
            registry.add("http://cyclonedx.org/schema/jsf-0.82.schema.json", parse(CYCLONEDX_SIGNATURES))
        })
        .and_then(jsonschema::RegistryBuilder::prepare)
        .unwrap();
    let validator =
        jsonschema::options().with_registry(&registry).should_validate_formats(true).build(&schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn created() -> Timestamp {
    "2026-02-03T04:05:06Z".parse().unwrap()
}

fn document(inventory: &Inventory, format: Format) -> Value {
    serde_json::from_str(&render(inventory, format, created())).unwrap()
}

/// Everything that the metadata of real images has surprised readers with, at once.
fn inventory() -> Inventory {
    let mut system = System::new("linux-x86_64".into(), "x86_64".into(), vec!["VERSION_ID=\"12\"".into()]);
    system.distribution = Some("debian".into());
    let package = |name: &str, version: &str| Package { name: name.into(), version: version.into() };
    let apt = Apt::new(vec![package("libc6:amd64", "2.36-9+deb12u10"), package("cuda-toolkit-12-8", "1:12.8.1-1")]);
    let dist = |name: Option<&str>, version: Option<&str>| Distribution {
        name: name.map(str::to_owned),
        version: version.map(str::to_owned),
    };
    let python = Interpreter { path: "/usr/bin/python3.12".into(), version: "3.12.1".into(), stated_by: "x".into() };
    let packages = vec![
        dist(Some("torch"), Some("2.9.1+cu128")),
        dist(Some("twice"), Some("1")),
        dist(Some("twice"), Some("1")),
        dist(Some("été"), None),
        dist(Some("folded\n  name"), Some("1\n 2")),
        dist(None, None),
        dist(Some(""), Some("")),
    ];
    let venvs = vec![
        Venv::new("main".into(), Some(python.clone()), packages.clone()),
        Venv::new("main\n2".into(), Some(python), packages),
        Venv::new("off".into(), None, vec![]),
    ];
    Inventory::new(system, apt, venvs, vec![])
}

fn empty() -> Inventory {
    Inventory::new(System::new("linux-aarch64".into(), "aarch64".into(), vec![]), Apt::new(vec![]), vec![], vec![])
}

#[test]
fn documents_are_valid_against_the_published_schemas() {
    for format in [Format::CycloneDx, Format::Spdx] {
        for inventory in [inventory(), empty()] {
            assert_eq!(violations(format, &document(&inventory, format)), [""; 0], "{format:?}");
        }
    }
}

#[test]
fn the_schemas_refuse_what_is_wrong() {
    for (format, field) in [(Format::CycloneDx, "serialNumber"), (Format::Spdx, "documentNamespace")] {
        let mut wrong = document(&inventory(), format);
        wrong[field] = json!(1);
        assert_ne!(violations(format, &wrong), [""; 0], "{format:?}");
    }
    let mut wrong = document(&inventory(), Format::CycloneDx);
    wrong["components"][0]["type"] = json!("nonsense");
    assert_ne!(violations(Format::CycloneDx, &wrong), [""; 0]);
}

/// What no schema can say: identifiers are unique, and every reference leads somewhere.
#[test]
fn every_reference_leads_to_one_component() {
    let inventory = inventory();
    let texts = |values: &Value, key: &str| -> Vec<String> {
        values.as_array().unwrap().iter().map(|value| value[key].as_str().unwrap().to_owned()).collect()
    };
    let cyclonedx = document(&inventory, Format::CycloneDx);
    let mut known = texts(&cyclonedx["components"], "bom-ref");
    known.push("environment".into());
    let mut used: Vec<String> = texts(&cyclonedx["dependencies"], "ref");
    for dependency in cyclonedx["dependencies"].as_array().unwrap() {
        used.extend(dependency["dependsOn"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    assert_closed(&known, &used);

    let spdx = document(&inventory, Format::Spdx);
    let mut known = texts(&spdx["packages"], "SPDXID");
    known.push("SPDXRef-DOCUMENT".into());
    let contained = texts(&spdx["relationships"], "relatedSpdxElement");
    assert_closed(&known, &contained);
    // Everything but the document is in something, once.
    assert_eq!(contained.len(), known.len() - 1);
}

fn assert_closed(known: &[String], used: &[String]) {
    let mut unique = known.to_vec();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), known.len(), "{known:?}");
    for id in used {
        assert!(known.contains(id), "{id}");
    }
}

#[test]
fn every_package_is_named_by_its_package_url() {
    let cyclonedx = document(&inventory(), Format::CycloneDx);
    let components = cyclonedx["components"].as_array().unwrap();
    // The system, two Debian packages, and of each of two environments the interpreter and seven distributions.
    assert_eq!(components.len(), 1 + 2 + 2 * 8);
    assert_eq!(components[0]["name"], "debian");
    assert_eq!(components[1]["purl"], "pkg:deb/debian/cuda-toolkit-12-8@1:12.8.1-1?distro=debian-12");
    let torch = components.iter().find(|component| component["name"] == "torch").unwrap();
    assert_eq!(torch["purl"], "pkg:pypi/torch@2.9.1%2Bcu128");
    assert_eq!(torch["properties"][0], json!({ "name": "vast:venv", "value": "main" }));
}

#[test]
fn the_same_inventory_gives_the_same_document_and_another_one_another_identifier() {
    let (one, other) = (inventory(), empty());
    for (format, field) in [(Format::CycloneDx, "serialNumber"), (Format::Spdx, "documentNamespace")] {
        assert_eq!(render(&one, format, created()), render(&one, format, created()));
        assert_ne!(document(&one, format)[field], document(&other, format)[field]);
    }
    let later = created() + jiff::SignedDuration::from_secs(1);
    assert_ne!(uuid(&one, created()), uuid(&one, later));
}
