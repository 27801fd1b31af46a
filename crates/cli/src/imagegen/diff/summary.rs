//! The summary of a difference: a paragraph that a reviewer can paste.

use std::fmt::Write as _;

use vast_imagegen::diff::{Difference, FileChange, Kind, PackageChange, PlatformDifference, Setting};

use super::paint::{counts, delta, platforms as listed};
use super::sections::{name, told_once, versions};
use crate::imagegen::text::size;

/// Packages and settings that are named.
const NAMED: usize = 3;

/// What is said about a platform; nothing about what was not compared.
type Part = fn(&PlatformDifference) -> Option<String>;

/// The lines of the summary: what they are about, and what they say about a platform.
pub(super) const PARTS: [(&str, Part); 4] =
    [("packages", packages), ("configuration", configuration), ("files", files), ("layers", layers)];

/// Which platforms there are and what is told about them.
pub(super) fn platforms(difference: &Difference) -> String {
    let of = |same: bool| {
        let chosen = difference.platforms.iter().filter(move |platform| (platform.before == platform.after) == same);
        chosen.map(|platform| &platform.platform).collect::<Vec<_>>()
    };
    let mut text = String::new();
    for (what, list) in [
        ("compared", of(false)),
        ("the same image", of(true)),
        ("only in the first image", difference.only_before.iter().collect()),
        ("only in the second image", difference.only_after.iter().collect()),
    ] {
        if !list.is_empty() {
            let _ = writeln!(text, "{}: {what}", listed(&list));
        }
    }
    text
}

fn layers(platform: &PlatformDifference) -> Option<String> {
    let layers = platform.layers.as_ref()?;
    if layers.is_same() {
        return Some("the same".to_owned());
    }
    let mut tally = counts(layers.only_after.len(), layers.only_before.len(), layers.recompressed.len());
    if layers.reordered {
        tally = if tally.is_empty() { "reordered".to_owned() } else { format!("{tally}, reordered") };
    }
    let (before, after) = (layers.before_bytes, layers.after_bytes);
    let sizes = format!("{} → {} ({})", size(before), size(after), delta(before, after));
    Some(format!("{tally}, {} shared, {sizes}", layers.shared))
}

fn files(platform: &PlatformDifference) -> Option<String> {
    let files = platform.files.as_ref()?;
    if files.is_empty() {
        return Some("the same".to_owned());
    }
    // Directories come and go with what is in them.
    let count = |kind| {
        files.iter().filter(|change| change.kind == kind && (kind == Kind::Changed || !change.is_directory())).count()
    };
    let (before, after) = files
        .iter()
        .map(FileChange::bytes)
        .fold((0_u64, 0_u64), |sum, bytes| (sum.0.saturating_add(bytes.0), sum.1.saturating_add(bytes.1)));
    let tally = counts(count(Kind::Added), count(Kind::Removed), count(Kind::Changed));
    let tally = if tally.is_empty() { "empty directories alone".to_owned() } else { tally };
    Some(format!("{tally} ({})", delta(before, after)))
}

fn packages(platform: &PlatformDifference) -> Option<String> {
    let packages = platform.packages.as_ref()?;
    if packages.changes.is_empty() {
        let unknown = if packages.notes.is_empty() { "" } else { " as far as they could be compared" };
        return Some(format!("the same{unknown}"));
    }
    let count = |kind| packages.changes.iter().filter(|change| change.kind == kind).count();
    let tally = counts(count(Kind::Added), count(Kind::Removed), count(Kind::Changed));
    // An interpreter first, then what was upgraded, which is what surprises.
    let rank = |change: &&PackageChange| (change.name != "python", change.kind != Kind::Changed, change.place == "apt");
    let mut named: Vec<&PackageChange> = packages.changes.iter().collect();
    named.sort_by_key(rank);
    let shown = named.iter().map(|change| {
        let sign = match change.kind {
            Kind::Added => "+",
            Kind::Removed => "-",
            Kind::Changed => "",
        };
        // That a version is not recorded is told where all packages are.
        let versions = if change.before.is_some() || change.after.is_some() { versions(change) } else { String::new() };
        format!("{}: {sign}{} {versions}", change.place, change.name).trim_end().to_owned()
    });
    Some(format!("{tally} ({})", some(shown.collect())))
}

fn configuration(platform: &PlatformDifference) -> Option<String> {
    let settings = told_once(platform.configuration.as_ref()?);
    if settings.is_empty() {
        return Some("the same".to_owned());
    }
    let count = |kind| settings.iter().filter(|setting| setting.kind == kind).count();
    let tally = counts(count(Kind::Added), count(Kind::Removed), count(Kind::Changed));
    // What says when and from what an image was made differs whenever it is made.
    let is_behaviour = |setting: &&Setting| !matches!(&*setting.field, "created" | "Labels" | "Annotations");
    let mut named = settings;
    named.sort_by_key(|setting| !is_behaviour(setting));
    Some(format!("{tally} ({})", some(named.into_iter().map(name).collect())))
}

/// The first of a list, and how many more there are.
fn some(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    vast_envhash::printable(&text.replace(['\n', '\r'], " ")).into_owned()
}
