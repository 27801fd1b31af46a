//! Files, packages and folding on layers that are made up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use vast_envhash::{Apt, Distribution, Interpreter, Inventory, Package, System, Venv};

use super::files::{FileChange, Files, PathPattern, compare};
use super::fold::{Count, Line, fold};
use super::packages::{self, Known, PackageChange};
use super::{Aspect, Kind};
use crate::digest::Digest;
use crate::layer::{ContentDigest, Entry, Kind as EntryKind, LayerIndex, Metadata};

impl Kind {
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Added => Self::Removed,
            Self::Removed => Self::Added,
            Self::Changed => Self::Changed,
        }
    }
}

/// A layer of lines: `path/` a directory, `path=content` a file, `path->target` a link, `path<-target` a hard link, each with
/// ` mode uid` behind it if they are not 0755 or 0644 and 0.
fn layer(lines: &[&str]) -> (Digest, Arc<LayerIndex>) {
    let mut index = LayerIndex::default();
    for line in lines {
        let mut words = line.split(' ');
        let what = words.next().unwrap();
        let mut content = None;
        let (path, kind) = if let Some((path, target)) = what.split_once("->") {
            (path, EntryKind::Symlink { target: target.into() })
        } else if let Some((path, target)) = what.split_once("<-") {
            (path, EntryKind::Hardlink { target: target.into() })
        } else if let Some((path, text)) = what.split_once('=') {
            content = (text != "?").then(|| ContentDigest::of(text.as_bytes()));
            (path, EntryKind::File { size: text.len() as u64 })
        } else {
            (what.trim_end_matches('/'), EntryKind::Directory)
        };
        let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
        let mode = words.next().map_or(mode, |mode| u32::from_str_radix(mode, 8).unwrap());
        let uid = words.next().map_or(0, |uid| uid.parse().unwrap());
        let mtime = words.next().map_or(0, |mtime| mtime.parse().unwrap());
        let metadata = Metadata { uid, ..Metadata::root_owned(mode, mtime) };
        index.entries.push(Entry { path: PathBuf::from(path), kind, metadata });
        index.contents.push(content);
    }
    (Digest::of(lines.join("\n").as_bytes()), Arc::new(index))
}

fn files(layers: &[&[&str]]) -> Files {
    let mut files = Files::default();
    for lines in layers {
        let (diff_id, index) = layer(lines);
        files.push(diff_id, index).unwrap();
    }
    files
}

fn lines(changes: &[FileChange]) -> Vec<String> {
    let line = |change: &FileChange| {
        let sign = match change.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        let aspects: Vec<String> = change.aspects.iter().map(|aspect| format!(" {aspect:?}")).collect();
        format!("{sign} {}{}", change.path.display(), aspects.concat())
    };
    changes.iter().map(line).collect()
}

fn compared(before: &[&[&str]], after: &[&[&str]]) -> Vec<String> {
    lines(&compare(&files(before), &files(after), false))
}

#[test]
fn trees_are_compared_as_containers_see_them() {
    let base: &[&str] = &["d/", "d/a=1", "d/b=2", "e/", "e/x=1", "lib->usr/lib", "usr/lib/y=1"];
    for (top, expected) in [
        // Whiteouts and opaque directories.
        (&["d/.wh.a=", "e/.wh..wh..opq="][..], &["- d/a", "- e/x"][..]),
        // What a layer writes again as it was is no change, nor is a time.
        (&["d/", "d/a=1 644 0 7", "e/x=1"], &[]),
        // A directory in a directory's place keeps what is below; a file does not.
        (&["d/ 700", "e=file"], &["~ d Mode", "~ e Type Mode", "- e/x"]),
        // Through a link to the directory behind it.
        (&["lib/y=2", "lib/z=1"], &["~ usr/lib/y Content", "+ usr/lib/z"]),
        // Links, owners, all at once.
        (&["lib->/usr/lib"], &["~ lib Target"]),
        (&["d/a=9 4755 5"], &["~ d/a Content Mode Owner"]),
        // Another name of the same content.
        (&["d/b<-d/a"], &["~ d/b Content"]),
        (&["d/c<-d/a"], &["+ d/c"]),
    ] {
        assert_eq!(compared(&[base], &[base, top]), expected, "{top:?}");
    }
}

#[test]
fn the_root_is_what_unpackers_make_it_unless_a_layer_says_otherwise() {
    assert_eq!(compared(&[&["a=1"]], &[&["a=1", "/"]]), Vec::<String>::new());
    assert_eq!(compared(&[&["a=1"]], &[&["a=1", "/ 700"]]), ["~  Mode"]);
}

#[test]
fn a_content_that_is_not_known_is_the_same_only_where_it_is_the_same_entry_of_the_same_layer() {
    let (one, other): (&[&str], &[&str]) = (&["a=?"], &["a=?", "b=1"]);
    assert_eq!(compared(&[one], &[one, &["c=1"]]), ["+ c"]);
    assert_eq!(compared(&[one], &[other]), ["~ a Content", "+ b"]);
}

#[test]
fn times_count_where_they_are_asked_for() {
    let (one, other) = (files(&[&["a=1"]]), files(&[&["a=1 644 0 7"]]));
    assert_eq!(lines(&compare(&one, &other, false)), Vec::<String>::new());
    let changes = compare(&one, &other, true);
    assert_eq!(changes[0].aspects, [Aspect::Time]);
}

#[test]
fn patterns_match_names_anywhere_or_paths_from_the_root_with_all_below() {
    for (pattern, path, expected) in [
        ("*.py", "opt/app/run.py", true),
        ("*.py", "opt/app/run.pyc", false),
        ("app", "opt/app/run.py", true),
        ("/app", "opt/app/run.py", false),
        ("/opt/app/", "opt/app/run.py", true),
        ("opt/*/run.py", "opt/app/run.py", true),
        ("opt/*.py", "opt/app/run.py", false),
        ("/etc/**", "etc/a/b", true),
        ("**/b", "etc/a/b", true),
        ("/", "etc", true),
    ] {
        let pattern: PathPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(Path::new(path)), expected, "{pattern:?} {path}");
    }
    assert!("[a".parse::<PathPattern>().unwrap_err().contains("`[a`"));
    for nothing in ["", "./x", "a//b", "../x", "/a/../b", "a/."] {
        assert!(nothing.parse::<PathPattern>().is_err(), "{nothing}");
    }
    assert!("/".parse::<PathPattern>().unwrap().matches(Path::new("a/b")));
}

fn folded(changes: &[FileChange], packages: &[PackageChange]) -> Vec<String> {
    let count = |count: &Count| {
        let Count { added, removed, changed, before_bytes, after_bytes } = count;
        format!("+{added} -{removed} ~{changed} {before_bytes}→{after_bytes}")
    };
    fold(changes, packages)
        .iter()
        .map(|line| match line {
            Line::Path(change) => lines(std::slice::from_ref(change)).remove(0),
            Line::Directory { path, kind, count: counted } => {
                format!("{kind:?} {}/ {}", path.display(), count(counted))
            }
            Line::Package { package, count: counted } => {
                format!("{} {}", package.map_or("dpkg", |package| &package.name), count(counted))
            }
        })
        .collect()
}

#[test]
fn what_came_or_went_as_a_whole_is_one_line_where_it_is() {
    // Ordered by bytes, `opt/new.d` would come between `opt/new` and what is in it.
    let before = files(&[&["opt/old/a=1", "opt/old/b=22", "etc/x=1", "was=1"]]);
    let after = files(&[&[
        "opt/new.d=1",
        "opt/new/deep/a=1",
        "opt/new/deep/b/c=333",
        "opt/one/only/file=1",
        "opt/empty/",
        "opt/void/void/",
        "etc/x=2",
        "etc/y=1",
        "was/now=1",
    ]]);
    assert_eq!(
        folded(&compare(&before, &after, false), &[]),
        [
            "~ etc/x Content",
            "+ etc/y",
            "+ opt/empty",
            "Added opt/new/deep/ +2 -0 ~0 0→4",
            "+ opt/new.d",
            "Removed opt/old/ +0 -2 ~0 3→0",
            "+ opt/one/only/file",
            "+ opt/void/void",
            "~ was Type Mode",
            "+ was/now",
        ]
    );
}

#[test]
fn sizes_that_layers_claim_add_up_to_no_more_than_a_number_holds() {
    let claiming = |paths: &[&str]| {
        let (diff_id, index) = layer(paths);
        let mut index = Arc::unwrap_or_clone(index);
        for entry in &mut index.entries {
            entry.kind = EntryKind::File { size: u64::MAX - 1 };
        }
        let mut files = Files::default();
        files.push(diff_id, Arc::new(index)).unwrap();
        files
    };
    let (before, after) = (claiming(&["old/a=1", "old/b=2"]), claiming(&["new/a=1", "new/b=2"]));
    assert_eq!(
        folded(&compare(&before, &after, false), &[]),
        [format!("Added new/ +2 -0 ~0 0→{}", u64::MAX), format!("Removed old/ +0 -2 ~0 {}→0", u64::MAX),]
    );
}

/// Names and versions.
type Versions<'a> = &'a [(&'a str, &'a str)];

/// Debian packages, and environments: name, Python, distributions.
fn inventory(apt: Versions<'_>, venvs: &[(&str, &str, Versions<'_>)]) -> Inventory {
    let package = |(name, version): &(&str, &str)| Package { name: (*name).into(), version: (*version).into() };
    let venv = |(name, python, list): &(&str, &str, Versions<'_>)| {
        let interpreter = Interpreter { path: "/p".into(), version: (*python).into(), stated_by: "x".into() };
        let distribution = |(name, version): &(&str, &str)| Distribution {
            name: Some((*name).into()),
            version: Some((*version).into()),
        };
        Venv::new((*name).into(), Some(interpreter), list.iter().map(distribution).collect())
    };
    let system = System::new("linux-x86_64".into(), "x86_64".into(), vec!["VERSION_ID=\"12\"".into()]);
    Inventory::new(system, Apt::new(apt.iter().map(package).collect()), venvs.iter().map(venv).collect(), vec![])
}

fn recorded(inventory: Inventory) -> Known {
    Known { inventory: Some(inventory), debian: None }
}

fn package_lines(changes: &[PackageChange]) -> Vec<String> {
    let line = |change: &PackageChange| {
        let PackageChange { place, name, kind, before, after, .. } = change;
        format!("{kind:?} {place}: {name} {} {}", before.as_deref().unwrap_or("-"), after.as_deref().unwrap_or("-"))
    };
    changes.iter().map(line).collect()
}

const DPKG_BEFORE: &[&str] = &[
    "var/lib/dpkg/status=1",
    "var/lib/dpkg/info/curl.md5sums=1",
    "var/lib/dpkg/info/gone.md5sums=1",
    "var/lib/dpkg/info/same.md5sums=1",
    "var/lib/dpkg/info/libssl3:amd64.md5sums=1",
    "var/lib/dpkg/info/libwine.md5sums=1",
    // Only its configuration is left.
    "var/lib/dpkg/info/purge-me.list=1",
];
const DPKG_AFTER: &[&str] = &[
    "var/lib/dpkg/status=2",
    "var/lib/dpkg/info/curl.md5sums=2",
    "var/lib/dpkg/info/same.md5sums=1",
    "var/lib/dpkg/info/new.md5sums=1",
    "var/lib/dpkg/info/libssl3:amd64.md5sums=2",
    "var/lib/dpkg/info/libwine.md5sums=2",
];

#[test]
fn records_and_path_indexes_together_tell_every_package() {
    let (before, after) = (files(&[DPKG_BEFORE]), files(&[DPKG_AFTER]));
    let was =
        inventory(&[("libssl3:amd64", "3.0.1"), ("libwine:i386", "8")], &[("main", "3.12.1", &[("torch", "2.9.1")])]);
    let is = inventory(
        &[("libssl3:amd64", "3.0.2"), ("libwine:i386", "9")],
        &[("main", "3.12.3", &[("torch", "2.10.0"), ("uv", "1")]), ("new", "3.11.2", &[("pip", "25")])],
    );
    let found = packages::compare((&before, &recorded(was)), (&after, &recorded(is)));
    assert_eq!(
        package_lines(&found.changes),
        [
            "Changed apt: curl - -",
            "Removed apt: gone - -",
            "Changed apt: libssl3:amd64 3.0.1 3.0.2",
            "Changed apt: libwine:i386 8 9",
            "Added apt: new - -",
            "Changed main: python 3.12.1 3.12.3",
            "Changed main: torch 2.9.1 2.10.0",
            "Added main: uv - 1",
            "Added venv: new - 3.11.2",
            "Added new: pip - 25",
        ]
    );
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn where_layers_were_read_every_version_is_known() {
    let (before, after) = (files(&[DPKG_BEFORE]), files(&[DPKG_AFTER]));
    let read = |list: Versions<'_>| {
        let package = |(name, version): &(&str, &str)| Package { name: (*name).into(), version: (*version).into() };
        Known { inventory: Some(inventory(&[], &[])), debian: Some(list.iter().map(package).collect()) }
    };
    let was = read(&[("curl", "8.0"), ("gone", "1"), ("same", "1"), ("libssl3:amd64", "3.0.1")]);
    let is = read(&[("curl", "8.1"), ("same", "1"), ("libssl3:amd64", "3.0.1"), ("new", "1")]);
    let found = packages::compare((&before, &was), (&after, &is));
    // `libwine` is unpacked and not installed.
    assert_eq!(
        package_lines(&found.changes),
        ["Changed apt: curl 8.0 8.1", "Removed apt: gone 1 -", "Added apt: new - 1"]
    );
}

#[test]
fn a_package_of_which_only_one_image_can_tell_came_or_went_nowhere() {
    let (before, after) = (files(&[DPKG_BEFORE]), files(&[DPKG_AFTER]));
    let list = [("curl", "8.1"), ("libempty", "1"), ("new", "1"), ("same", "1"), ("without-files", "1")];
    let package = |(name, version): &(&str, &str)| Package { name: (*name).into(), version: (*version).into() };
    let all = Known {
        inventory: Some(inventory(&[("libempty", "1")], &[])),
        debian: Some(list.iter().map(package).collect()),
    };
    let one = recorded(inventory(&[("libssl3:amd64", "3.0.1")], &[]));
    // Whatever has a list of its files is known on both sides, and so is what counts for the hash.
    let expected = ["gone - -", "libempty - 1", "libssl3:amd64 3.0.1 -", "libwine - -", "new - 1"];
    let found = packages::compare((&before, &one), (&after, &all));
    let told: Vec<String> =
        package_lines(&found.changes).iter().map(|line| line.split_once(": ").unwrap().1.into()).collect();
    assert_eq!(told, [&["curl - 8.1"], &expected[..]].concat());
    // The other way round.
    let mirrored = packages::compare((&after, &all), (&before, &one));
    let kinds = |packages: &packages::Packages| packages.changes.iter().map(|change| change.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&mirrored), kinds(&found).into_iter().map(Kind::mirrored).collect::<Vec<_>>());
}

#[test]
fn distributions_outside_of_environments_are_told_by_their_metadata() {
    let site = "usr/local/lib/python3.12/dist-packages";
    let at = |names: &[&str]| {
        let lines: Vec<String> = names.iter().map(|name| format!("{site}/{name}/METADATA=1")).collect();
        files(&[&lines.iter().map(String::as_str).collect::<Vec<_>>()])
    };
    let before = at(&["torch-2.9.1+cu128.dist-info", "PyYAML-6.0-py3.12.egg-info", "gone.egg-info"]);
    let after = at(&["torch-2.10.0.dist-info", "pyyaml-6.0.dist-info", "vllm-0.11.0.dist-info"]);
    let found = packages::compare((&before, &Known::default()), (&after, &Known::default()));
    let place = "/usr/local/lib/python3.12/dist-packages";
    assert_eq!(
        package_lines(&found.changes),
        [
            format!("Removed {place}: gone  -"),
            format!("Changed {place}: PyYAML 6.0 6.0"),
            format!("Changed {place}: torch 2.9.1+cu128 2.10.0"),
            format!("Added {place}: vllm - 0.11.0"),
        ]
    );
    assert_eq!(found.changes[1].renamed.as_deref(), Some("pyyaml"));
}

#[test]
fn files_are_folded_into_a_package_only_where_it_surely_owns_them() {
    let change = |place: &str, name: &str| PackageChange {
        place: place.to_owned(),
        name: name.to_owned(),
        renamed: None,
        kind: Kind::Changed,
        before: None,
        after: None,
    };
    let packages = [change("main", "Torch_Audio"), change("apt", "libssl3:amd64")];
    let before = files(&[&[
        "venv/main/lib/python3.12/site-packages/torch_audio/a=1",
        "venv/main/lib/python3.12/site-packages/torch_audio-1.dist-info/METADATA=1",
        "usr/share/doc/libssl3/copyright=1",
        "usr/share/doc/other/copyright=1",
        "var/lib/dpkg/status=1",
        "usr/lib/libssl.so.3=1",
    ]]);
    let after = files(&[&[
        "venv/main/lib/python3.12/site-packages/torch_audio/a=2",
        "venv/main/lib/python3.12/site-packages/torch_audio/b=1",
        "venv/main/lib/python3.12/site-packages/torch_audio.libs/x=1",
        "venv/main/lib/python3.12/site-packages/torch_audio-2.dist-info/METADATA=1",
        "venv/main/lib/python3.12/site-packages/functorch/a=1",
        "venv/other/lib/python3.12/site-packages/torch_audio/a=1",
        "usr/share/doc/libssl3/copyright=2",
        "usr/share/doc/other/copyright=2",
        "var/lib/dpkg/status=2",
        "usr/lib/libssl.so.3=2",
    ]]);
    assert_eq!(
        folded(&compare(&before, &after, false), &packages),
        [
            "~ usr/lib/libssl.so.3 Content",
            "~ usr/share/doc/other/copyright Content",
            "+ venv/main/lib/python3.12/site-packages/functorch/a",
            "+ venv/other/lib/python3.12/site-packages/torch_audio/a",
            "Torch_Audio +3 -1 ~1 2→4",
            "dpkg +0 -0 ~2 2→2",
        ]
    );
}

fn mirrored(changes: Vec<FileChange>) -> Vec<FileChange> {
    let swap = |one: FileChange| FileChange { kind: one.kind.mirrored(), before: one.after, after: one.before, ..one };
    changes.into_iter().map(swap).collect()
}

/// Layers that can be applied in any order: nothing is below what another makes a file.
fn some_layers() -> impl Strategy<Value = Vec<Vec<String>>> {
    let entry = prop::sample::select(vec![
        "a/",
        "a/ 700",
        "a/x=1",
        "a/x=2",
        "a/x=1 600",
        "a/x->y",
        "a/.wh.x=",
        "a/.wh..wh..opq=",
        "b/c/d=1",
        "b/c/d=1 644 5",
        "b/.wh.c=",
        "b/",
        "f=1",
        "f->a",
        "f/",
        ".wh.f=",
        ".wh.a=",
        "g<-f2",
        "f2=1",
        "a.b=1",
        "a-/x=1",
        "/ 700",
    ]);
    let layer = prop::collection::vec(entry, 0..5).prop_map(|lines| {
        let lines: Vec<&str> = if lines.contains(&"g<-f2") { [vec!["f2=1"], lines].concat() } else { lines };
        lines.into_iter().map(str::to_owned).collect::<Vec<_>>()
    });
    prop::collection::vec(layer, 0..4)
}

fn stacked(layers: &[Vec<String>]) -> Files {
    let layers: Vec<Vec<&str>> = layers.iter().map(|lines| lines.iter().map(String::as_str).collect()).collect();
    files(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn comparing_the_other_way_round_mirrors_the_difference(before in some_layers(), after in some_layers(), times: bool) {
        let (one, other) = (stacked(&before), stacked(&after));
        prop_assert_eq!(compare(&one, &one, times), []);
        let changes = compare(&one, &other, times);
        prop_assert_eq!(&changes, &mirrored(compare(&other, &one, times)));
        // What is folded away is counted all the same; directories do not count where they only lead to others.
        let paths: usize = fold(&changes, &[]).iter().map(Line::paths).sum();
        let leads = |number: usize| {
            let change = &changes[number];
            change.is_directory() && change.kind != Kind::Changed
                && changes.get(number + 1).is_some_and(|next| next.path.starts_with(&change.path))
        };
        prop_assert_eq!(paths, (0..changes.len()).filter(|&number| !leads(number)).count());
    }

    #[test]
    fn packages_are_mirrored_too(before in "[abc]{0,3}", after in "[abc]{0,3}", versions in prop::array::uniform2(0_u8..2)) {
        let side = |names: &str, version: u8| {
            let lines: Vec<String> = names.chars().map(|name| format!("var/lib/dpkg/info/{name}.md5sums={version}")).collect();
            let version = version.to_string();
            let venv: Vec<(String, String)> = names.chars().map(|name| (name.to_string(), version.clone())).collect();
            let venv: Vec<(&str, &str)> = venv.iter().map(|(name, version)| (&**name, &**version)).collect();
            let inventory = inventory(&[], &[(if names.len() > 2 { "other" } else { "main" }, "3.12", &venv)]);
            (files(&[&lines.iter().map(String::as_str).collect::<Vec<_>>()]), recorded(inventory))
        };
        let (one, other) = (side(&before, versions[0]), side(&after, versions[1]));
        let compare = |(files, known): &(Files, Known), (others, other): &(Files, Known)| packages::compare((files, known), (others, other)).changes;
        prop_assert_eq!(compare(&one, &one), []);
        let swap = |change: PackageChange| PackageChange {
            kind: change.kind.mirrored(), before: change.after, after: change.before, ..change
        };
        let sorted = |mut changes: Vec<PackageChange>| {
            changes.sort_by(|a, b| (&a.place, &a.name, &a.before).cmp(&(&b.place, &b.name, &b.before)));
            changes
        };
        let back: Vec<PackageChange> = compare(&other, &one).into_iter().map(swap).collect();
        prop_assert_eq!(sorted(compare(&one, &other)), sorted(back));
    }
}
