//! Trees of a few layers.

use super::*;
use crate::layer::Kind;

fn layer(entries: &[(&str, Kind)]) -> LayerIndex {
    let entry = |(path, kind): &(&str, Kind)| Entry {
        path: path.into(),
        kind: kind.clone(),
        metadata: Metadata::root_owned(0o700, 1),
    };
    LayerIndex { entries: entries.iter().map(entry).collect(), ..LayerIndex::default() }
}

fn file(size: u64) -> Kind {
    Kind::File { size }
}

fn link(target: &str) -> Kind {
    Kind::Symlink { target: target.into() }
}

fn tree(layers: &[&[(&str, Kind)]]) -> Tree {
    let mut tree = Tree::default();
    for (number, entries) in layers.iter().enumerate() {
        tree.apply(number, &layer(entries)).unwrap();
    }
    tree
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.iter().map(|(path, _)| path.display().to_string()).collect()
}

#[test]
fn whiteouts_hide_only_what_is_below_their_layer() {
    let tree = tree(&[
        &[
            ("d", Kind::Directory),
            ("d/old", file(1)),
            ("d/kept", file(1)),
            ("gone", Kind::Directory),
            ("gone/x", file(1)),
        ],
        &[("d/.wh.old", file(0)), (".wh.gone", file(0)), ("d/new", file(1)), ("d/.wh..wh.plnk", file(0))],
    ]);
    assert_eq!(paths(&tree), ["d", "d/kept", "d/new"]);
}

#[test]
fn what_is_below_a_directory_is_neither_it_nor_its_neighbours() {
    let tree = tree(&[&[
        ("a", Kind::Directory),
        ("a-b", file(1)),
        ("a/b", file(1)),
        ("a/b.c", Kind::Directory),
        ("a/b.c/d", file(1)),
        ("a0", file(1)),
    ]]);
    let below =
        |path: &str| tree.below(Path::new(path)).map(|(path, _)| path.display().to_string()).collect::<Vec<_>>();
    for written in ["a", "a/"] {
        assert_eq!(below(written), ["a/b", "a/b.c", "a/b.c/d"]);
        assert!(tree.is_directory(Path::new(written)));
    }
    assert_eq!(below("a/b"), [""; 0]);
    assert_eq!(below("").len(), 6);
    assert_eq!(paths(&tree), ["a", "a/b", "a/b.c", "a/b.c/d", "a-b", "a0"]);
    let names: Vec<_> = tree.children(Path::new("a")).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["b", "b.c"]);
    assert_eq!(tree.children(Path::new("a0")).count(), 0);
}

#[test]
fn an_opaque_directory_starts_empty_wherever_its_mark_stands() {
    let tree = tree(&[
        &[("d", Kind::Directory), ("d/old", file(1)), ("e", file(1))],
        &[("d/new", file(1)), ("d/.wh..wh..opq", file(0))],
    ]);
    assert_eq!(paths(&tree), ["d", "d/new", "e"]);
}

#[test]
fn a_file_replaces_a_directory_and_a_directory_a_link() {
    let tree = tree(&[
        &[("d", Kind::Directory), ("d/x", file(1)), ("l", link("d")), ("dd", file(1))],
        &[("d", file(2)), ("l", Kind::Directory), ("l/y", file(1))],
    ]);
    assert_eq!(paths(&tree), ["d", "dd", "l", "l/y"]);
}

#[test]
fn entries_below_a_linked_directory_go_where_it_points() {
    let tree = tree(&[
        &[("usr", Kind::Directory), ("usr/lib", Kind::Directory), ("lib", link("usr/lib"))],
        &[("lib/a", file(1)), ("lib/.wh.b", file(0))],
    ]);
    assert_eq!(paths(&tree), ["lib", "usr", "usr/lib", "usr/lib/a"]);
}

#[test]
fn missing_parents_are_plain_directories_and_known_ones_keep_their_metadata() {
    let tree = tree(&[&[("root", Kind::Directory)], &[("root/a/b", file(1))]]);
    assert_eq!(tree.get(Path::new("root")).unwrap().metadata.mode, 0o700);
    assert_eq!(tree.get(Path::new("root/a")).unwrap().metadata.mode, 0o755);
}

#[test]
fn hard_links_share_their_content_across_layers() {
    let tree = tree(&[
        &[("a", file(3))],
        &[("b", Kind::Hardlink { target: "a".into() }), ("c", Kind::Hardlink { target: "b".into() })],
    ]);
    let content = ContentRef { layer: 0, entry: 0 };
    for path in ["a", "b", "c"] {
        assert_eq!(tree.get(Path::new(path)).unwrap().kind, NodeKind::File { size: 3, content });
    }
}

#[test]
fn entries_that_cannot_be_placed_are_refused() {
    for (entries, why) in [
        (layer(&[("f", file(1)), ("f/x", file(1))]), "no directory"),
        (layer(&[("a", link("a")), ("a/x", file(1))]), "no directory"),
        (layer(&[("h", Kind::Hardlink { target: "none".into() })]), "hard link"),
    ] {
        let error = Tree::default().apply(0, &entries).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn directories_that_are_only_implied_are_bounded() {
    let deep = |number: usize| (format!("{number}/{}f", "d/".repeat(2000)), file(0));
    let entries: Vec<(String, Kind)> = (0..251).map(deep).collect();
    let entries: Vec<(&str, Kind)> = entries.iter().map(|(path, kind)| (path.as_str(), kind.clone())).collect();
    assert!(Tree::default().apply(0, &layer(&entries[..10])).is_ok());
    let said = Tree::default().apply(0, &layer(&entries)).unwrap_err().to_string();
    assert!(said.ends_with("directories that no layer mentions"), "{said}");
}

#[test]
fn a_copy_is_a_tree_of_its_own() {
    let before = tree(&[&[("d", Kind::Directory), ("d/e", Kind::Directory), ("d/e/f", file(1)), ("g", file(1))]]);
    let mut after = before.clone();
    after
        .apply(1, &layer(&[("d/e/f", file(2)), ("d/e/new", file(1)), (".wh.g", file(0)), ("h/.wh.none", file(0))]))
        .unwrap();
    after.apply(2, &layer(&[("d/.wh..wh..opq", file(0))])).unwrap();
    assert_eq!(paths(&before), ["d", "d/e", "d/e/f", "g"]);
    let content = ContentRef { layer: 0, entry: 2 };
    assert_eq!(before.get(Path::new("d/e/f")).unwrap().kind, NodeKind::File { size: 1, content });
    assert_eq!(paths(&after), ["d"]);
}

#[test]
fn what_does_not_change_stays_shared() {
    let before = tree(&[&[("a/x", file(1)), ("b/x", file(1))]]);
    let mut after = before.clone();
    // Of what is not there nothing is removed.
    after.apply(1, &layer(&[("a/y", file(1)), ("b/.wh.none", file(0)), ("b/none/.wh..wh..opq", file(0))])).unwrap();
    let same = |name: &str| {
        let below = |tree: &Tree| tree.child(Path::new(name)).and_then(|child| child.below.clone()).unwrap();
        Arc::ptr_eq(&below(&before), &below(&after))
    };
    assert!(!same("a") && same("b"));
}

#[test]
fn links_do_not_lead_to_longer_paths_than_there_are() {
    let long = "d/".repeat(1500);
    let target = long.trim_end_matches('/');
    let once = [("far", link(target)), ("far/f", file(1))];
    assert_eq!(tree(&[&once]).iter().count(), 1502);
    let further = format!("{target}/further");
    let twice = [once.as_slice(), &[(&*further, link(target)), ("far/further/f", file(1))]].concat();
    let said = Tree::default().apply(0, &layer(&twice)).unwrap_err().to_string();
    assert!(said.contains("longer path than Linux takes"), "{said}");
}

#[test]
fn neighbours_of_what_becomes_a_link_go_where_it_leads() {
    // The first entry of each pair is put where a link leads, and replaces that link.
    let base = [("d", Kind::Directory), ("e", Kind::Directory), ("here", link("."))];
    let tree = tree(&[&base, &[("here/here", link("d")), ("here/x", file(1))]]);
    assert_eq!(paths(&tree), ["d", "d/x", "e", "here"]);
}

#[test]
fn neighbours_are_put_as_if_each_came_alone() {
    let entries = [
        ("a", Kind::Directory),
        ("a/d", link("e")),
        ("a/d", Kind::Directory),
        ("a/d", file(1)),
        ("a/e", Kind::Hardlink { target: "a/d".into() }),
        ("a/.wh.f", file(0)),
        ("a/f", file(2)),
        ("b", file(3)),
        ("a/g", Kind::Fifo),
    ];
    let mut alone = Tree::default();
    for (number, entry) in
        layer(&entries).entries.iter().enumerate().filter(|(_, entry)| entry.path != Path::new("a/.wh.f"))
    {
        let mut index = layer(&entries);
        index.entries.truncate(number + 1);
        index.entries[..number].iter_mut().for_each(|before| before.path = format!(".wh..wh.{number}").into());
        index.entries[number] = entry.clone();
        alone.apply(0, &index).unwrap();
    }
    let list = |tree: &Tree| tree.iter().map(|(path, node)| (path, node.clone())).collect::<Vec<_>>();
    assert_eq!(list(&tree(&[&entries])), list(&alone));
    assert_eq!(paths(&alone), ["a", "a/d", "a/e", "a/f", "a/g", "b"]);
}

#[test]
fn a_link_out_of_the_root_stays_inside() {
    let tree = tree(&[&[("etc", Kind::Directory), ("up", link("../../../etc")), ("up/x", file(1))]]);
    assert_eq!(paths(&tree), ["etc", "etc/x", "up"]);
}
