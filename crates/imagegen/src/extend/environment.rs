//! The environment of an image with an overlay, from its recorded inventory and the overlay alone.
//!
//! That is possible where the overlay only installs distributions: new `*.dist-info` directories in the site directory of a
//! known environment. Whatever else the hash reads (a `.pth` file, a package database, an interpreter, metadata that
//! replaces other metadata) needs files that are in the layers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use vast_envhash::{Distribution, Inventory, Venv};

use crate::layer::{NodeKind, Tree};

/// The inventory `before`, changed by the overlay, which is layer number `layer` of `tree` and changes the environment in
/// the paths `touched`; `None` where more is needed.
pub(super) fn with_overlay(
    before: &Inventory,
    touched: &[PathBuf],
    tree: &Tree,
    layer: usize,
    overlay: &Path,
) -> Option<Inventory> {
    let of_overlay = |kind: &NodeKind| matches!(kind, NodeKind::File { content, .. } if content.layer == layer);
    let mut added: BTreeMap<String, Vec<Distribution>> = BTreeMap::new();
    for path in touched {
        if tree.is_directory(path) && touched.contains(&path.join("METADATA")) {
            continue;
        }
        let (venv, python) = new_distribution(path)?;
        // Everything of the distribution is the overlay's, so nothing is replaced.
        let mut files = tree.below(path.parent()?);
        if !files.all(|(_, node)| node.kind == NodeKind::Directory || of_overlay(&node.kind)) {
            return None;
        }
        let known = before.venvs.iter().find(|known| known.name == venv)?;
        if !known.interpreter.as_ref()?.version.starts_with(&format!("{python}.")) {
            return None;
        }
        let text = std::fs::read_to_string(overlay.join(path)).ok()?;
        added.entry(venv).or_default().push(distribution(&text)?);
    }
    if added.is_empty() {
        return None;
    }
    let venvs = before.venvs.iter().map(|venv| {
        let mut packages = venv.packages.clone();
        packages.extend(added.get(&venv.name).into_iter().flatten().cloned());
        Venv::new(venv.name.clone(), venv.interpreter.clone(), packages)
    });
    Some(Inventory::new(before.system.clone(), before.apt.clone(), venvs.collect(), before.notes.clone()))
}

/// The environment and the Python version of `venv/NAME/lib/pythonX.Y/site-packages/*.dist-info/METADATA`.
fn new_distribution(path: &Path) -> Option<(String, String)> {
    let parts: Vec<&str> = path.iter().map(OsStr::to_str).collect::<Option<_>>()?;
    let ["venv", venv, "lib", python, "site-packages", directory, "METADATA"] = parts.as_slice() else { return None };
    directory.strip_suffix(".dist-info")?;
    Some(((*venv).to_owned(), python.strip_prefix("python")?.to_owned()))
}

/// Name and version from metadata in its usual form. What is folded, stated twice or not plain is left to the whole reader.
fn distribution(text: &str) -> Option<Distribution> {
    let header: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    let usual = |line: &&str| line.contains(": ") || line.starts_with([' ', '\t']) || line.ends_with(':');
    if !header.iter().all(usual) || text.contains('\r') || !header.iter().all(|line| line.is_ascii()) {
        return None;
    }
    let field = |name: &str| {
        let mut found = header
            .iter()
            .enumerate()
            .filter(|(_, line)| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)));
        let (number, line) = found.next()?;
        let folded = header.get(number + 1).is_some_and(|next| next.starts_with([' ', '\t']));
        let value = line.split_once(": ")?.1;
        (found.next().is_none() && !folded && value == value.trim() && !value.is_empty()).then(|| value.to_owned())
    };
    Some(Distribution { name: Some(field("Name")?), version: Some(field("Version")?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_in_its_usual_form_is_read_and_every_other_left_alone() {
        let usual = "Metadata-Version: 2.1\nName: my-pkg\nVersion: 1.0\nSummary: x\n more\n\nName: body\n";
        let found = distribution(usual).unwrap();
        assert_eq!((found.name.as_deref(), found.version.as_deref()), (Some("my-pkg"), Some("1.0")));
        for unusual in [
            "Name: a\nName: b\nVersion: 1\n\n",
            "Name: a\n folded\nVersion: 1\n\n",
            "Version: 1\n\n",
            "Name: a\r\nVersion: 1\r\n\r\n",
            "Name: é\nVersion: 1\n\n",
            "Name:  a\nVersion: 1\n\n",
            "nonsense\nName: a\nVersion: 1\n\n",
        ] {
            assert_eq!(distribution(unusual), None, "{unusual:?}");
        }
    }

    #[test]
    fn only_the_site_directory_of_an_environment_is_known() {
        let site = Path::new("venv/main/lib/python3.12/site-packages");
        let (venv, python) = new_distribution(&site.join("a-1.dist-info/METADATA")).unwrap();
        assert_eq!((venv.as_str(), python.as_str()), ("main", "3.12"));
        for path in ["venv/main/a.pth", "opt/lib/python3.12/site-packages/a-1.dist-info/METADATA"] {
            assert!(new_distribution(Path::new(path)).is_none(), "{path}");
        }
        assert!(new_distribution(&site.join("a.egg-info/PKG-INFO")).is_none());
    }
}
