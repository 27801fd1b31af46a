//! SPDX 2.3.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::parts::{self, Kind, Part};
use super::{SCOPE, TOOL, TOOL_VERSION, time, uuid};
use crate::inventory::Inventory;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const ENVIRONMENT: &str = "SPDXRef-environment";

pub(super) fn document(inventory: &Inventory, created: Timestamp) -> Value {
    let parts = parts::of(inventory);
    let hash = inventory.hash.to_string();
    let environment = json!({
        "SPDXID": ENVIRONMENT,
        "name": "environment",
        "versionInfo": hash,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "comment": format!("Environment hash {hash}, scheme {}, {}. {SCOPE}", inventory.scheme, inventory.system.platform),
    });
    let packages: Vec<Value> =
        std::iter::once(environment).chain(parts.iter().map(|part| package(inventory, part))).collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": format!("environment-{hash}"),
        "documentNamespace": format!("https://vast.ai/spdx/environment-{hash}-{}", uuid(inventory, created)),
        "creationInfo": {
            "created": time(created),
            "creators": [format!("Tool: {TOOL}-{TOOL_VERSION}")],
        },
        "packages": packages,
        "relationships": relationships(&parts),
    })
}

fn reference(part: &Part) -> String {
    format!("SPDXRef-{}", part.id)
}

fn package(inventory: &Inventory, part: &Part) -> Value {
    let purpose = match part.kind {
        Kind::OperatingSystem => "OPERATING_SYSTEM",
        Kind::Interpreter => "APPLICATION",
        Kind::Debian | Kind::Python => "LIBRARY",
    };
    let mut package = json!({
        "SPDXID": reference(part),
        "name": part.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": purpose,
    });
    if let Some(version) = &part.version {
        package["versionInfo"] = json!(version);
    }
    if let Some(purl) = &part.purl {
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }]);
    }
    if let Some(venv) = part.venv.map(|index| &inventory.venvs[index]) {
        package["comment"] = json!(format!("Of the environment `{}`.", venv.name));
    }
    package
}

/// The document describes the environment, which contains its system and interpreters; these contain what is installed into them.
fn relationships(parts: &[Part]) -> Value {
    let relation = |from: &str, kind: &str, to: &str| json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    let mut relations = vec![relation(DOCUMENT, "DESCRIBES", ENVIRONMENT)];
    let interpreter = |venv: Option<usize>| {
        parts.iter().find(|part| part.kind == Kind::Interpreter && part.venv == venv).map(reference)
    };
    relations.extend(parts.iter().map(|part| {
        let container = if part.kind == Kind::Python { interpreter(part.venv) } else { None };
        relation(container.as_deref().unwrap_or(ENVIRONMENT), "CONTAINS", &reference(part))
    }));
    json!(relations)
}
