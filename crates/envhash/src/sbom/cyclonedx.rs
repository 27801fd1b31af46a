//! `CycloneDX` 1.6.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::parts::{self, Kind, Part};
use super::{SCOPE, TOOL, TOOL_VERSION, time, uuid};
use crate::inventory::Inventory;

/// The reference of the environment as a whole.
const ENVIRONMENT: &str = "environment";

pub(super) fn document(inventory: &Inventory, created: Timestamp) -> Value {
    let parts = parts::of(inventory);
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(inventory, created)),
        "version": 1,
        "metadata": {
            "timestamp": time(created),
            "tools": { "components": [{ "type": "application", "name": TOOL, "version": TOOL_VERSION }] },
            "component": {
                "bom-ref": ENVIRONMENT,
                "type": "container",
                "name": ENVIRONMENT,
                "version": inventory.hash.to_string(),
                "description": SCOPE,
                "properties": [
                    property("vast:env-hash", &inventory.hash.to_string()),
                    property("vast:env-hash:scheme", &inventory.scheme.to_string()),
                    property("vast:platform", &inventory.system.platform),
                ],
            },
        },
        "components": parts.iter().map(|part| component(inventory, part)).collect::<Vec<_>>(),
        "dependencies": dependencies(&parts),
        "compositions": [{ "aggregate": "incomplete", "assemblies": [ENVIRONMENT] }],
    })
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn component(inventory: &Inventory, part: &Part) -> Value {
    let kind = match part.kind {
        Kind::OperatingSystem => "operating-system",
        Kind::Interpreter => "platform",
        Kind::Debian | Kind::Python => "library",
    };
    let mut component = json!({ "bom-ref": part.id, "type": kind, "name": part.name });
    if let Some(version) = &part.version {
        component["version"] = json!(version);
    }
    if let Some(purl) = &part.purl {
        component["purl"] = json!(purl);
    }
    if let Some(venv) = part.venv.map(|index| &inventory.venvs[index]) {
        let mut properties = vec![property("vast:venv", &venv.name)];
        if let (Kind::Interpreter, Some(python)) = (part.kind, &venv.interpreter) {
            properties.push(property("vast:venv:hash", &venv.hash.to_string()));
            properties.push(property("vast:interpreter:path", &python.path));
        }
        component["properties"] = json!(properties);
    }
    component
}

/// The environment depends on its system and interpreters, an interpreter on what is installed into it.
fn dependencies(parts: &[Part]) -> Value {
    let ids = |wanted: &dyn Fn(&Part) -> bool| -> Vec<&str> {
        parts.iter().filter(|part| wanted(part)).map(|part| &*part.id).collect()
    };
    let mut dependencies = vec![json!({ "ref": ENVIRONMENT, "dependsOn": ids(&|part| part.kind != Kind::Python) })];
    dependencies.extend(parts.iter().filter(|part| part.kind == Kind::Interpreter).map(|interpreter| {
        let installed = ids(&|part| part.kind == Kind::Python && part.venv == interpreter.venv);
        json!({ "ref": interpreter.id, "dependsOn": installed })
    }));
    json!(dependencies)
}
