//! Stacks of layers: what the build takes an image for is what umoci unpacks, whatever a layer does to those below it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;
use vast_imagegen::build::NamedContext;

use super::super::support::Workplace;
use super::case::archive;
use super::chance::Chance;
use super::unpacked::{Facts, facts, write_image};

/// The root filesystem of the image of `layers`: as umoci unpacks it, and as umoci unpacks a native copy of it.
fn both(layers: &[String]) -> (Facts, Facts) {
    let workplace = Workplace::new("FROM scratch\nCOPY --from=stacked / /\n");
    let layout = workplace.path("stacked");
    let archives: Vec<Vec<u8>> = layers.iter().map(|lines| archive("a layer", lines)).collect();
    write_image(&layout, &json!({}), &archives, &json!({}));
    workplace
        .build_as("copied", |options| {
            let image = format!("oci:{}:v1", layout.display()).parse().unwrap();
            options.contexts.insert("stacked".to_owned(), NamedContext::Image(image));
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}: {layers:#?}", std::error::Error::source(&error)));
    let files = |layout| {
        let mut facts = facts(layout, &workplace.path("work"));
        facts.retain(|key, _| key.starts_with('/') && key != "/");
        facts
    };
    (files(&layout), files(&workplace.path("copied")))
}

#[test]
fn what_later_layers_replace_and_delete_is_what_umoci_makes_of_it() {
    let below = "dir d 755 0:0\nfile d/x 644 0:0 x\ndir d/s 700 1:1\nfile d/s/y 600 2:2 y\n\
                 file f 644 0:0 f\nlink l 777 0:0 d\nlink dangling 777 0:0 none\nhard h 644 0:0 f\n";
    for (about, above) in [
        ("a directory by a file", "file d 644 0:0 now a file\n"),
        ("a directory by a link to nothing", "link d 777 0:0 none\n"),
        ("a directory by a link to a directory", "dir e 755 0:0\nlink d 777 0:0 e\n"),
        ("a file by a directory", "dir f 711 3:3\nfile f/in 644 0:0 in\n"),
        ("a link by a directory", "dir l 755 0:0\nfile l/in 644 0:0 in\n"),
        ("a link by a file", "file l 644 0:0 now a file\n"),
        ("a dangling link by a directory", "dir dangling 755 0:0\nfile dangling/in 644 0:0 in\n"),
        ("deletion", "file d/.wh.x 644 0:0\nfile .wh.l 644 0:0\n"),
        ("deletion of a tree", "file .wh.d 644 0:0\n"),
        ("deletion, then something else of that name", "file .wh.d 644 0:0\nfile d 600 0:0 anew\n"),
        (
            "something else of that name, then its deletion",
            "dir d 700 9:9\nfile d/new 644 0:0 new\nfile .wh.d 644 0:0\n",
        ),
        ("an opaque directory", "dir d 750 4:4\nfile d/.wh..wh..opq 644 0:0\nfile d/new 644 0:0 new\n"),
        ("an opaque directory, marked last", "dir d 750 4:4\nfile d/new 644 0:0 new\nfile d/.wh..wh..opq 644 0:0\n"),
        ("an opaque directory in another", "dir d 755 0:0\ndir d/s 755 0:0\nfile d/s/.wh..wh..opq 644 0:0\n"),
        ("new metadata alone", "dir d 1777 5:6\nfile f 640 5:6 f\n"),
        ("a hard link across layers", "hard d/again 644 0:0 f\n"),
        ("one name of a hard link replaced", "file f 644 0:0 other\n"),
        ("a deletion of what is not there", "file .wh.none 644 0:0\n"),
    ] {
        let (umoci, ours) = both(&[below.to_owned(), above.to_owned()]);
        // A hard link into a lower layer is a copy in an overlay and one file in a single layer; both are right.
        let content = |facts: &Facts| -> Facts {
            facts.iter().map(|(path, line)| (path.clone(), line.split(" is /").next().unwrap().to_owned())).collect()
        };
        assert_eq!(content(&ours), content(&umoci), "{about}");
        assert!(!umoci.is_empty());
    }
}

const TOPS: [&str; 4] = ["a", "b", "c", "d"];

/// Layers that each change what those below amount to, drawn so that every entry has a directory for its parent.
fn draw(chance: &mut Chance) -> Vec<String> {
    // Path to whether it is a directory.
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    let mut layers = Vec::new();
    for number in 0..2 + chance.below(4) {
        let mut lines = String::new();
        let mut touched: BTreeMap<String, bool> = BTreeMap::new();
        for _ in 0..2 + chance.below(6) {
            let directories: Vec<&String> = known.iter().filter(|(_, is)| **is).map(|(path, _)| path).collect();
            let parent = if directories.is_empty() || chance.once_in(3) {
                String::new()
            } else {
                format!("{}/", directories[chance.below(directories.len())])
            };
            let path = format!("{parent}{}", chance.of(&TOPS));
            // One layer says one thing of a path, and nothing below what it has replaced or deleted.
            let related = |other: &String| {
                other == &path || other.starts_with(&format!("{path}/")) || path.starts_with(&format!("{other}/"))
            };
            if touched
                .iter()
                .any(|(other, directory)| related(other) && !(*directory && path.starts_with(&format!("{other}/"))))
            {
                continue;
            }
            let below = format!("{path}/");
            let owner = format!("{}:{}", chance.below(3), chance.below(3));
            match (chance.below(6), known.get(&path).copied()) {
                (0 | 1, was) => {
                    writeln!(lines, "dir {path} {} {owner}", chance.of(&["755", "700", "1777"])).unwrap();
                    if was != Some(true) {
                        known.retain(|other, _| !other.starts_with(&below));
                    }
                    known.insert(path.clone(), true);
                }
                (2, _) => {
                    writeln!(lines, "file {path} {} {owner} {number}", chance.of(&["644", "4755"])).unwrap();
                    known.retain(|other, _| !other.starts_with(&below));
                    known.insert(path.clone(), false);
                }
                (3, _) => {
                    writeln!(lines, "link {path} 777 {owner} {}", chance.of(&["a", "/b", "../c", "none"])).unwrap();
                    known.retain(|other, _| !other.starts_with(&below));
                    known.insert(path.clone(), false);
                }
                (4, Some(_)) => {
                    let (folder, name) = path.rsplit_once('/').map_or(("", &path[..]), |(folder, name)| (folder, name));
                    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
                    writeln!(lines, "file {folder}.wh.{name} 644 0:0").unwrap();
                    known.retain(|other, _| other != &path && !other.starts_with(&below));
                }
                (5, Some(true)) => {
                    writeln!(lines, "dir {path} 755 {owner}\nfile {path}/.wh..wh..opq 644 0:0").unwrap();
                    known.retain(|other, _| !other.starts_with(&below));
                }
                _ => continue,
            }
            touched.insert(path.clone(), known.get(&path) == Some(&true));
        }
        layers.push(lines);
    }
    layers
}

#[test]
fn stacks_drawn_by_lot_are_what_umoci_makes_of_them() {
    let seed = std::env::var("VAST_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let chance = &mut Chance::new(seed);
    for number in 0..40 {
        let layers = draw(chance);
        let (umoci, ours) = both(&layers);
        assert_eq!(ours, umoci, "VAST_TEST_SEED={seed}, stack {number}: {layers:#?}");
    }
}
