//! The parts of an inventory as both formats list them.

use std::collections::BTreeSet;

use super::purl;
use crate::inventory::{Inventory, Venv};

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    OperatingSystem,
    Debian,
    Interpreter,
    Python,
}

/// One entry of a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Unique in the document; letters, digits, `.` and `-`, as SPDX wants its identifiers.
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) purl: Option<String>,
    /// The environment it belongs to, by its index among [`Inventory::venvs`].
    pub(super) venv: Option<usize>,
}

/// All parts, in the order of the inventory.
pub(super) fn of(inventory: &Inventory) -> Vec<Part> {
    let mut ids = Ids::default();
    let system = &inventory.system;
    let release = system.release_value("VERSION_ID");
    let mut parts = Vec::new();
    if let Some(id) = &system.distribution {
        parts.push(Part {
            id: ids.unique("os", id),
            kind: Kind::OperatingSystem,
            name: id.clone(),
            version: release.map(str::to_owned),
            purl: None,
            venv: None,
        });
    }
    let distribution = system.distribution.as_deref().map(|id| (id, release));
    parts.extend(inventory.apt.packages.iter().map(|package| {
        let (name, architecture) = match package.name.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture)),
            None => (&*package.name, None),
        };
        Part {
            id: ids.unique("deb", &package.name),
            kind: Kind::Debian,
            name: name.to_owned(),
            version: Some(package.version.clone()),
            purl: Some(purl::debian(name, architecture, &package.version, distribution)),
            venv: None,
        }
    }));
    for (index, venv) in inventory.venvs.iter().enumerate() {
        of_venv(index, venv, &mut ids, &mut parts);
    }
    parts
}

fn of_venv(index: usize, venv: &Venv, ids: &mut Ids, parts: &mut Vec<Part>) {
    let Some(python) = &venv.interpreter else { return };
    parts.push(Part {
        id: ids.unique("venv", &venv.name),
        kind: Kind::Interpreter,
        name: "python".into(),
        version: Some(python.version.clone()),
        purl: Some(purl::interpreter(&python.version)),
        venv: Some(index),
    });
    parts.extend(venv.packages.iter().map(|package| {
        // Both formats demand a name. A distribution without one is nothing that an index could have.
        let name = package.name.as_deref().filter(|name| !name.trim().is_empty());
        Part {
            id: ids.unique(&format!("pypi-{}", venv.name), name.unwrap_or("unnamed")),
            kind: Kind::Python,
            name: name.unwrap_or("unnamed").to_owned(),
            version: package.version.clone(),
            purl: name.map(|name| purl::python(name, package.version.as_deref())),
            venv: Some(index),
        }
    }));
}

/// Identifiers that were given.
#[derive(Default)]
struct Ids(BTreeSet<String>);

impl Ids {
    fn unique(&mut self, family: &str, name: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let id: String = family.chars().chain(['-']).chain(name.chars()).map(plain).collect();
        let numbered = |number: usize| if number == 1 { id.clone() } else { format!("{id}-{number}") };
        let mut number = 1;
        while !self.0.insert(numbered(number)) {
            number += 1;
        }
        numbered(number)
    }
}
