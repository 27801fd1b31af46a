//! What differs between the packages of two images: Debian's, and Python distributions by the place where they are.
//!
//! The environment of an image is recorded as far as it counts for the environment hash: environments under `/venv` and
//! libraries. Beside it are all Debian packages, where whoever recorded it knew them. Where not, the path indexes tell which
//! there are, and, by the digests of their lists of files, whether they are the same. Of distributions in other places the
//! names of their metadata directories tell all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use vast_envhash::{Change, Distribution, Inventory, Need, Package, Venv, may_read, normalised};

use super::Kind;
use super::files::{FileChange, Files};
use crate::layer::{ContentDigest, NodeKind};

/// Where dpkg keeps what belongs to each package.
const DPKG_INFO: &str = "var/lib/dpkg/info";

/// The packages of two images, compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Packages {
    /// Those that differ, place by place: the system, apt, environments, other places.
    pub changes: Vec<PackageChange>,
    /// What could not be compared, in words.
    pub notes: Vec<String>,
}

/// One package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// `system`, `apt`, the name of an environment (`main`), `venv` for an environment as a whole, or the directory that
    /// Python distributions are in.
    pub place: String,
    /// The package; `python` for the interpreter of an environment.
    pub name: String,
    /// How its name is spelled afterwards, where that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
    /// Whether it came, went or is another.
    pub kind: Kind,
    /// Its version before, where it was there and its version is known.
    pub before: Option<String>,
    /// Its version after, with the same rule.
    pub after: Option<String>,
}

/// What is known about the packages of one image.
#[derive(Default)]
pub(super) struct Known {
    /// Its environment: as recorded, or from its layers.
    pub(super) inventory: Option<Inventory>,
    /// All its Debian packages, where they are recorded or its layers were read.
    pub(super) debian: Option<Vec<Package>>,
}

/// Whether these changes of files may have changed a package.
pub(super) fn may_differ(changes: &[FileChange]) -> bool {
    changes.iter().any(|change| {
        let path = &change.path;
        may_read(path) != Need::No
            || path.parent() == Some(Path::new("venv"))
            || is_metadata(path)
            || [&change.before, &change.after].into_iter().flatten().any(|state| {
                // A link may lead to an interpreter, a library or an environment under any name.
                state.file_type == "symlink"
                    && (path.starts_with("venv") || path.starts_with("usr") || path.starts_with("opt"))
            })
    })
}

/// Compares the packages of two images.
pub(super) fn compare((before, one): (&Files, &Known), (after, other): (&Files, &Known)) -> Packages {
    let mut packages = Packages::default();
    let known = one.inventory.as_ref().zip(other.inventory.as_ref());
    if let Some((was, is)) = known {
        packages
            .changes
            .extend(vast_envhash::diff(was, is).into_iter().filter(|change| change.place == "system").map(from));
    }
    packages.changes.extend(debian(&Debian::of(before, one), &Debian::of(after, other)));
    if let Some((was, is)) = known {
        packages.changes.extend(environments(was, is));
    }
    let (was, is) = (distributions(before, known.is_some()), distributions(after, known.is_some()));
    let places: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for place in places {
        let list = |side: &BTreeMap<String, Vec<Distribution>>| side.get(place).cloned().unwrap_or_default();
        packages.changes.extend(vast_envhash::diff_distributions(place, &list(&was), &list(&is)).into_iter().map(from));
    }
    packages
}

fn from(change: Change) -> PackageChange {
    let kind = match change.kind() {
        vast_envhash::ChangeKind::Changed => Kind::Changed,
        vast_envhash::ChangeKind::Added => Kind::Added,
        vast_envhash::ChangeKind::Removed => Kind::Removed,
    };
    let Change { place, what, before, after, renamed } = change;
    PackageChange { place, name: what, renamed, kind, before, after }
}

/// The environments under `/venv`. Of one that came or went all distributions did too.
fn environments(was: &Inventory, is: &Inventory) -> Vec<PackageChange> {
    let find = |inventory: &'_ Inventory, name: &str| -> Option<Venv> {
        inventory.venvs.iter().find(|venv| venv.name == name).cloned()
    };
    let mut changes = Vec::new();
    for change in vast_envhash::diff(was, is) {
        if matches!(&*change.place, "system" | "apt") {
            continue;
        }
        if change.place != "venv" {
            changes.push(from(change));
            continue;
        }
        let mut whole = from(change);
        let name = whole.name.clone();
        let (old, new) = (find(was, &name), find(is, &name));
        let python = |venv: &Option<Venv>| venv.as_ref()?.interpreter.as_ref().map(|python| python.version.clone());
        (whole.before, whole.after) = (python(&old), python(&new));
        changes.push(whole);
        let list = |venv: Option<Venv>| venv.map(|venv| venv.packages).unwrap_or_default();
        let place = if matches!(&*name, "system" | "apt" | "venv") { format!("venv/{name}") } else { name };
        changes.extend(vast_envhash::diff_distributions(&place, &list(old), &list(new)).into_iter().map(from));
    }
    changes
}

/// The Debian packages of an image by the names that `dpkg -l` prints.
struct Debian {
    packages: BTreeMap<String, DebianPackage>,
    /// Whether these are all.
    complete: bool,
    /// Whether all that count for the environment hash are among them.
    counted: bool,
}

#[derive(Default)]
struct DebianPackage {
    version: Option<String>,
    /// Whether there is a list of its files and their digests. A few packages have none.
    listed: bool,
    /// The digest of that list.
    files: Option<ContentDigest>,
    /// Whether it counts for the environment hash.
    counts: bool,
}

impl Debian {
    fn of(files: &Files, known: &Known) -> Self {
        let mut packages: BTreeMap<String, DebianPackage> = BTreeMap::new();
        for (path, node) in files.tree.below(Path::new(DPKG_INFO)) {
            // dpkg writes one for every package that it unpacks, and leaves none of those whose configuration alone is left.
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".md5sums"));
            if let (Some(name), NodeKind::File { .. }) = (name, &node.kind) {
                let package = DebianPackage { listed: true, files: files.digest(node), ..DebianPackage::default() };
                packages.insert(name.to_owned(), package);
            }
        }
        let counted = known.inventory.as_ref().map(|inventory| inventory.apt.packages.as_slice());
        let versions = match &known.debian {
            Some(all) => {
                // What is unpacked and not installed does not count as installed.
                let names: BTreeSet<&str> =
                    all.iter().flat_map(|package| [&*package.name, bare(&package.name)]).collect();
                packages.retain(|name, _| names.contains(name.as_str()));
                all.as_slice()
            }
            None => counted.unwrap_or_default(),
        };
        for Package { name, version } in versions {
            // Files of a package of a foreign architecture that no other may stand beside have no architecture in their names.
            let found = packages.remove(name).or_else(|| packages.remove(bare(name)));
            packages
                .insert(name.clone(), DebianPackage { version: Some(version.clone()), ..found.unwrap_or_default() });
        }
        for Package { name, .. } in counted.unwrap_or_default() {
            if let Some(package) = packages.get_mut(name) {
                package.counts = true;
            }
        }
        Self { packages, complete: known.debian.is_some(), counted: counted.is_some() }
    }

    /// Whether this package, which another image has, would be known if this one had it.
    fn would_have(&self, package: &DebianPackage) -> bool {
        self.complete || package.listed || (package.counts && self.counted)
    }
}

fn bare(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

fn debian(before: &Debian, after: &Debian) -> Vec<PackageChange> {
    let names: BTreeSet<&String> = before.packages.keys().chain(after.packages.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (was, is) = (before.packages.get(name), after.packages.get(name));
            let kind = match (was, is) {
                (None, None) => return None,
                (None, Some(is)) => before.would_have(is).then_some(Kind::Added)?,
                (Some(was), None) => after.would_have(was).then_some(Kind::Removed)?,
                (Some(was), Some(is)) => {
                    let versions = was.version.as_ref().zip(is.version.as_ref()).map(|(was, is)| was != is);
                    let files = was.files.as_ref().zip(is.files.as_ref()).map(|(was, is)| was != is);
                    versions.or(files).filter(|differ| *differ).map(|_| Kind::Changed)?
                }
            };
            let version = |package: Option<&DebianPackage>| package?.version.clone();
            let (before, after) = (version(was), version(is));
            Some(PackageChange { place: "apt".to_owned(), name: name.clone(), renamed: None, kind, before, after })
        })
        .collect()
}

/// Distributions by the directory that they are in, from the names of their metadata. Those under `/venv` are left out where
/// their environment is known better, and those of Debian packages where dpkg knows them.
fn distributions(files: &Files, venvs_known: bool) -> BTreeMap<String, Vec<Distribution>> {
    let has_dpkg = files.tree.get(Path::new("var/lib/dpkg/status")).is_some();
    let mut found: BTreeMap<String, Vec<Distribution>> = BTreeMap::new();
    for (path, _) in files.tree.iter() {
        let known = (venvs_known && path.starts_with("venv"))
            || (has_dpkg && path.starts_with("usr/lib/python3/dist-packages"));
        if known || !is_metadata(&path) {
            continue;
        }
        let (Some(place), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            continue;
        };
        let stem = name.strip_suffix(".dist-info").or_else(|| name.strip_suffix(".egg-info")).unwrap_or(name);
        // `torch-2.9.1.dist-info`, `PyYAML-6.0.1-py3.12.egg-info`, `wheel.egg-info`.
        let (name, version) = stem.split_once('-').map_or((stem, None), |(name, rest)| {
            (name, Some(rest.split_once("-py").map_or(rest, |(version, _)| version).to_owned()))
        });
        let distribution =
            Distribution { name: Some(name.to_owned()), version: version.or_else(|| Some(String::new())) };
        found.entry(format!("/{}", place.display())).or_default().push(distribution);
    }
    found
}

/// Whether a path is the metadata of a distribution.
fn is_metadata(path: &Path) -> bool {
    let is_site =
        path.parent().and_then(Path::file_name).is_some_and(|name| name == "site-packages" || name == "dist-packages");
    is_site && path.extension().is_some_and(|extension| extension == "dist-info" || extension == "egg-info")
}

/// Which package that differs a path surely belongs to.
pub(super) struct Owners {
    /// By place, and by the name of the distribution as indexes compare it.
    distributions: BTreeMap<(String, String), usize>,
    debian: BTreeSet<String>,
}

/// Whose a path is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The distribution of this change.
    Distribution(usize),
    /// dpkg's records, and the documentation of Debian packages that differ.
    DebianRecords,
}

impl Owners {
    pub(super) fn of(changes: &[PackageChange]) -> Self {
        let mut owners = Self { distributions: BTreeMap::new(), debian: BTreeSet::new() };
        for (number, change) in changes.iter().enumerate() {
            if change.place == "apt" {
                owners.debian.insert(bare(&change.name).to_owned());
            } else if !matches!(&*change.place, "system" | "venv") {
                let names = [Some(&change.name), change.renamed.as_ref()];
                for name in names.into_iter().flatten() {
                    owners.distributions.insert((change.place.clone(), normalised(name)), number);
                }
            }
        }
        owners
    }

    pub(super) fn owner(&self, path: &Path) -> Option<Owner> {
        let text = path.to_str()?;
        if !self.debian.is_empty() {
            let documented = text.strip_prefix("usr/share/doc/").and_then(|rest| rest.split('/').next());
            if text.starts_with("var/lib/dpkg/") || documented.is_some_and(|name| self.debian.contains(name)) {
                return Some(Owner::DebianRecords);
            }
        }
        let site = ["/site-packages/", "/dist-packages/"].into_iter().find_map(|site| {
            let at = text.find(site)?;
            Some((&text[..at + site.len() - 1], &text[at + site.len()..]))
        });
        let (site, rest) = site?;
        let top = rest.split('/').next()?;
        // The package that is called like its distribution, its metadata and its libraries; who else owns what is not recorded.
        let stem = [".dist-info", ".egg-info"].into_iter().find_map(|suffix| top.strip_suffix(suffix));
        let name = stem.map(|stem| stem.split_once('-').map_or(stem, |(name, _)| name));
        let name = normalised(name.or_else(|| top.strip_suffix(".libs")).unwrap_or(top));
        let venv = site.strip_prefix("venv/").and_then(|rest| rest.split('/').next());
        [venv.map(str::to_owned), venv.map(|name| format!("venv/{name}")), Some(format!("/{site}"))]
            .into_iter()
            .flatten()
            .find_map(|place| self.distributions.get(&(place, name.clone())).copied())
            .map(Owner::Distribution)
    }
}
