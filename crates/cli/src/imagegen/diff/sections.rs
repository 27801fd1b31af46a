//! The sections of a difference: packages, configuration, files and layers, a line for each thing that differs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use vast_imagegen::diff::{
    Aspect, Count, FileChange, FileState, Kind, Layer, Line, PackageChange, Parts, PlatformDifference, Setting, fold,
};

use super::paint::{counts, delta, line, path, printable};
use crate::imagegen::text::{one_line, size};
use crate::table;

/// Lines of files that are shown without `--all`.
const FILES: usize = 40;

/// Lines of packages that are shown without `--all`.
const PACKAGES: usize = 100;

/// Characters of a value that are shown; all of it is in the JSON.
const VALUE_WIDTH: usize = 160;

/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 100;

/// Permissions that let whoever runs a file act as somebody else.
const SET_ID_BITS: u32 = 0o6000;

/// Packages that differ, and what could not be compared.
pub(super) fn packages(platform: &PlatformDifference, all: bool) -> Option<String> {
    let packages = platform.packages.as_ref()?;
    let whole: BTreeSet<&str> = packages
        .changes
        .iter()
        .filter(|change| change.place == "venv" && change.kind != Kind::Changed && !all)
        .map(|change| change.name.as_str())
        .collect();
    let place = |change: &PackageChange| change.place.strip_prefix("venv/").unwrap_or(&change.place).to_owned();
    let shown: Vec<&PackageChange> =
        packages.changes.iter().filter(|change| change.place == "venv" || !whole.contains(&*place(change))).collect();
    let rows = shown.iter().map(|change| {
        if change.place != "venv" {
            return [one_line(&change.place, VALUE_WIDTH), one_line(&change.name, VALUE_WIDTH), versions(change)];
        }
        let inside =
            packages.changes.iter().filter(|other| other.place != "venv" && place(other) == change.name).count();
        let python = change.after.as_ref().or(change.before.as_ref());
        let python = python.map_or_else(|| "no interpreter".to_owned(), |version| format!("Python {version}"));
        [format!("/venv/{}", change.name), python, format!("with {inside} distributions")]
    });
    let mut text = String::new();
    let limit = if all { usize::MAX } else { PACKAGES };
    for (change, row) in shown.iter().zip(table::lines(rows)).take(limit) {
        text.push_str(&line(change.kind, row));
    }
    text.push_str(&more(shown.len().saturating_sub(limit)));
    if packages.changes.iter().any(|change| change.place == "apt" && change.before.is_none() && change.after.is_none())
    {
        text.push_str("  (not all versions are recorded; --deep reads them from the layers)\n");
    }
    for note in &packages.notes {
        let _ = writeln!(text, "  not compared: {}", vast_envhash::printable(&one_line(note, 400)));
    }
    (!text.is_empty()).then_some(text)
}

/// `1.2 → 1.3`, or the one that there is.
pub(super) fn versions(change: &PackageChange) -> String {
    let unknown = if change.place == "apt" { "(version not recorded)" } else { "" };
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| unknown.to_owned());
    let text = match (&change.kind, &change.before, &change.after) {
        (Kind::Changed, None, None) => unknown.to_owned(),
        (Kind::Changed, before, after) => {
            let renamed = change.renamed.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
            format!("{} → {renamed}{}", version(before), version(after))
        }
        (Kind::Added, _, after) => version(after),
        (Kind::Removed, before, _) => version(before),
    };
    one_line(&text, VALUE_WIDTH)
}

/// Settings that differ.
pub(super) fn configuration(platform: &PlatformDifference) -> Option<String> {
    let differing = platform.configuration.as_deref().filter(|settings| !settings.is_empty())?;
    Some(settings(&told_once(differing)))
}

/// Settings without annotations that only repeat a label, as builders write them.
pub(super) fn told_once(settings: &[Setting]) -> Vec<&Setting> {
    let repeats = |setting: &Setting, other: &Setting| {
        let content = |setting: &Setting| (setting.name.clone(), setting.before.clone(), setting.after.clone());
        setting.field == "Annotations" && other.field == "Labels" && content(setting) == content(other)
    };
    settings.iter().filter(|setting| !settings.iter().any(|other| repeats(setting, other))).collect()
}

/// A line for each setting.
pub(super) fn settings(settings: &[&Setting]) -> String {
    let rows = settings.iter().map(|setting| [name(setting), values(setting)]);
    settings.iter().zip(table::lines(rows)).map(|(setting, row)| line(setting.kind, row)).collect()
}

/// What a setting is called: `Env PATH`.
pub(super) fn name(setting: &Setting) -> String {
    let name = setting.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    one_line(&format!("{}{name}", setting.field), VALUE_WIDTH)
}

fn values(setting: &Setting) -> String {
    if setting.hidden && setting.before == setting.after {
        return "(another value, which is not shown)".to_owned();
    }
    if let Some(changed) = &setting.parts {
        return parts(changed);
    }
    match setting.kind {
        Kind::Added => value(&setting.after),
        Kind::Removed => value(&setting.before),
        Kind::Changed => format!("{} → {}", value(&setting.before), value(&setting.after)),
    }
}

/// A value as a configuration writes it, a text without quotes.
fn value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => one_line(text, VALUE_WIDTH),
        other => one_line(&other.to_string(), VALUE_WIDTH),
    }
}

/// `+ /venv/bin (first)  - /old`.
fn parts(parts: &Parts) -> String {
    let added = parts.added.iter().map(|part| {
        let place = if part.position == 0 { " (first)" } else { "" };
        format!("+ {}{place}", part.text)
    });
    let removed = parts.removed.iter().map(|part| format!("- {}", part.text));
    let reordered = parts.reordered.then(|| "in another order".to_owned());
    let repeated = parts.repeated.then(|| "repeated otherwise".to_owned());
    one_line(&added.chain(removed).chain(reordered).chain(repeated).collect::<Vec<_>>().join(", "), VALUE_WIDTH)
}

/// Paths that differ.
pub(super) fn files(platform: &PlatformDifference, all: bool) -> Option<String> {
    let changes = platform.files.as_ref().filter(|changes| !changes.is_empty())?;
    if all {
        return Some(changes.iter().map(|change| line(change.kind, file(change))).collect());
    }
    let packages = platform.packages.as_ref().map(|packages| packages.changes.as_slice()).unwrap_or_default();
    let lines = fold(changes, packages);
    // What weighs most is shown, in the order of the paths.
    let mut heaviest: Vec<usize> = (0..lines.len()).collect();
    heaviest.sort_by_key(|&number| std::cmp::Reverse(lines[number].weight()));
    let shown: BTreeSet<usize> = heaviest.iter().take(FILES).copied().collect();
    let mut text: String = shown.iter().map(|&number| folded(&lines[number])).collect();
    let left = lines.iter().enumerate().filter(|(number, _)| !shown.contains(number)).map(|(_, line)| line.paths());
    text.push_str(&more(left.sum()));
    Some(text)
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!("  … and {count} more (use --all)\n") }
}

fn folded(folded: &Line<'_>) -> String {
    match folded {
        Line::Path(change) => line(change.kind, file(change)),
        Line::Directory { path: directory, kind, count } => {
            let bytes = if *kind == Kind::Added { count.after_bytes } else { count.before_bytes };
            line(*kind, format!("{}/  {} files, {}", path(directory), count.added + count.removed, size(bytes)))
        }
        Line::Package { package: Some(package), count } => {
            let name = format!("{}: {} {}", package.place, package.name, versions(package));
            line(package.kind, format!("files of {}  {}", one_line(&name, VALUE_WIDTH), tally(count)))
        }
        Line::Package { package: None, count } => {
            line(Kind::Changed, format!("records of Debian packages  {}", tally(count)))
        }
    }
}

fn tally(count: &Count) -> String {
    let sizes = delta(count.before_bytes, count.after_bytes);
    format!("{} ({sizes})", counts(count.added, count.removed, count.changed))
}

/// One path and what became of it.
fn file(change: &FileChange) -> String {
    let told = match (&change.before, &change.after) {
        (Some(before), Some(after)) => {
            let aspects: Vec<String> = change.aspects.iter().map(|aspect| told(*aspect, before, after)).collect();
            aspects.join(", ")
        }
        (Some(state), None) | (None, Some(state)) => existing(state),
        (None, None) => String::new(),
    };
    let slash = if change.is_directory() && !change.path.as_os_str().is_empty() { "/" } else { "" };
    format!("{}{slash}  {told}", path(&change.path)).trim_end().to_owned()
}

fn existing(state: &FileState) -> String {
    let what = match (state.size_bytes, &state.target) {
        (Some(bytes), _) => size(bytes),
        (None, Some(target)) => format!("→ {}", printable(target)),
        (None, None) if state.file_type == "directory" => String::new(),
        (None, None) => state.file_type.to_owned(),
    };
    if state.mode & SET_ID_BITS != 0 && state.file_type == "file" {
        format!("{what}, mode {:04o}", state.mode)
    } else {
        what
    }
}

fn told(aspect: Aspect, before: &FileState, after: &FileState) -> String {
    let bytes = |state: &FileState| state.size_bytes.unwrap_or_default();
    let target = |state: &FileState| state.target.as_deref().map(printable).unwrap_or_default();
    match aspect {
        Aspect::Type => format!("{} → {}", before.file_type, after.file_type),
        Aspect::Content if bytes(before) == bytes(after) => "content".to_owned(),
        Aspect::Content => format!("content {}", delta(bytes(before), bytes(after))),
        Aspect::Target => format!("link {} → {}", target(before), target(after)),
        Aspect::Device => "device numbers".to_owned(),
        Aspect::Mode => format!("mode {:04o} → {:04o}", before.mode, after.mode),
        Aspect::Owner => format!("owner {}:{} → {}:{}", before.uid, before.gid, after.uid, after.gid),
        Aspect::Attributes => {
            let names: BTreeSet<&String> = before.attributes.keys().chain(after.attributes.keys()).collect();
            let differs = |name: &&&String| before.attributes.get(**name) != after.attributes.get(**name);
            let names: Vec<String> = names.iter().filter(differs).map(|name| one_line(name, VALUE_WIDTH)).collect();
            format!("attributes {}", names.join(" "))
        }
        Aspect::Time => "time".to_owned(),
    }
}

/// Layers that one image alone has, and the sizes.
pub(super) fn layers(platform: &PlatformDifference) -> Option<String> {
    let layers = platform.layers.as_ref().filter(|layers| !layers.is_same())?;
    let mut text = String::new();
    for layer in &layers.only_before {
        text.push_str(&line(Kind::Removed, self::layer(layer)));
    }
    for layer in &layers.only_after {
        text.push_str(&line(Kind::Added, self::layer(layer)));
    }
    for pair in &layers.recompressed {
        let (before, after) = (&pair.before, &pair.after);
        let sizes = format!("{} → {}", size(before.size_bytes), size(after.size_bytes));
        let told = format!(
            "{} → {}  {sizes}, the same content compressed otherwise",
            short(&before.digest),
            short(&after.digest)
        );
        text.push_str(&line(Kind::Changed, told));
    }
    if layers.reordered {
        text.push_str("  shared layers are in another order\n");
    }
    let (before, after) = (layers.before_bytes, layers.after_bytes);
    let totals = format!("{} → {} ({})", size(before), size(after), delta(before, after));
    let shared = match layers.shared {
        0 => "none shared".to_owned(),
        count => format!("{count} shared ({})", size(layers.shared_bytes)),
    };
    let _ = writeln!(text, "  {shared}; together {totals}");
    Some(text)
}

fn layer(layer: &Layer) -> String {
    let command = layer.created_by.as_deref().map(|command| one_line(command, COMMAND_WIDTH)).unwrap_or_default();
    format!("{}  {:>9}  {command}", short(&layer.digest), size(layer.size_bytes)).trim_end().to_owned()
}

/// The first digits of a digest, without its algorithm.
fn short(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    one_line(hex, 64).chars().take(12).collect()
}
