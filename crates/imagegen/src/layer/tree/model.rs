//! Trees beside a model of them: a plain list of paths, in which every name is looked up anew.

use std::collections::{BTreeMap, VecDeque};
use std::path::Component;

use proptest::prelude::*;

use super::*;
use crate::layer::Kind;

#[derive(Debug, Default, Clone)]
struct Model {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Model {
    /// Where a path leads, part by part; `None` where that is nowhere.
    fn resolve(&self, path: &Path, follow_last: bool) -> Option<PathBuf> {
        let mut left: VecDeque<Component<'_>> = path.components().collect();
        let (mut real, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop_front() {
            match part {
                Component::RootDir => real = PathBuf::new(),
                Component::ParentDir => drop(real.pop()),
                Component::Normal(name) => {
                    if self.nodes.get(&real).is_some_and(|node| node.kind != NodeKind::Directory) {
                        return None;
                    }
                    let next = real.join(name);
                    match self.nodes.get(&next).map(|node| &node.kind) {
                        Some(NodeKind::Symlink { target }) if follow_last || !left.is_empty() => {
                            links += 1;
                            if links > 40 {
                                return None;
                            }
                            for part in target.components().rev() {
                                left.push_front(part);
                            }
                        }
                        _ => real = next,
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(real)
    }

    fn remove_below(&mut self, path: &Path) {
        self.nodes.retain(|other, _| other == path || !other.starts_with(path));
    }

    fn apply(&mut self, layer: usize, index: &LayerIndex) -> Option<()> {
        for entry in &index.entries {
            match whiteout(&entry.path) {
                Some(Whiteout::Path(path)) => {
                    let path = self.resolve(&path, false)?;
                    self.remove_below(&path);
                    self.nodes.remove(&path);
                }
                Some(Whiteout::Opaque(directory)) => {
                    let path = self.resolve(&directory, true)?;
                    self.remove_below(&path);
                }
                _ => {}
            }
        }
        for (number, entry) in index.entries.iter().enumerate() {
            if whiteout(&entry.path).is_some() {
                continue;
            }
            let node = match node_of(entry, ContentRef { layer, entry: number }) {
                Ok(node) => node,
                Err(target) => {
                    let target = self.nodes.get(&self.resolve(target, false)?)?;
                    (target.kind != NodeKind::Directory).then(|| target.clone())?
                }
            };
            let path = self.resolve(&entry.path, false)?;
            for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                let metadata = Metadata::root_owned(IMPLICIT_DIRECTORY_MODE, 0);
                self.nodes.entry(parent.to_owned()).or_insert(Node { kind: NodeKind::Directory, metadata });
            }
            if node.kind != NodeKind::Directory {
                self.remove_below(&path);
            }
            self.nodes.insert(path, node);
        }
        Some(())
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = prop::sample::select(vec!["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.plnk"]);
    let way = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..3);
    let target = prop::sample::select(vec!["a", "b", "/b", "/a/c", "../a", "..", ".", "c/b", "/"]);
    let other = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
    let kind = prop_oneof![
        3 => Just(Kind::Directory),
        4 => (0..3_u64).prop_map(|size| Kind::File { size }),
        3 => target.prop_map(|target| Kind::Symlink { target: target.into() }),
        1 => other.prop_map(|parts| Kind::Hardlink { target: parts.iter().collect() }),
        1 => Just(Kind::Fifo),
    ];
    (way, name, kind, 0..4_u32).prop_map(|(mut parts, name, kind, mode)| {
        parts.push(name);
        Entry { path: parts.iter().collect(), kind, metadata: Metadata::root_owned(mode, 0) }
    })
}

fn layers() -> impl Strategy<Value = Vec<LayerIndex>> {
    let layer = (prop::collection::vec(entry(), 1..10), any::<bool>()).prop_map(|(mut entries, in_order)| {
        if in_order {
            entries.sort_by(|one, other| one.path.cmp(&other.path));
        }
        LayerIndex { entries, ..LayerIndex::default() }
    });
    prop::collection::vec(layer, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_what_the_model_says(layers in layers()) {
        let (mut tree, mut model) = (Tree::default(), Model::default());
        let mut before = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            before.push((tree.clone(), model.clone()));
            let fits = tree.apply(number, layer).is_ok();
            prop_assert_eq!(fits, model.apply(number, layer).is_some());
            if !fits {
                break;
            }
            before.push((tree.clone(), model.clone()));
        }
        // What was copied is what it was when it was.
        for (tree, model) in &before {
            let listed: BTreeMap<PathBuf, Node> = tree.iter().map(|(path, node)| (path, node.clone())).collect();
            prop_assert_eq!(&listed, &model.nodes);
            for (path, node) in &model.nodes {
                prop_assert_eq!(tree.get(path), Some(node));
                prop_assert_eq!(tree.below(path).count(), model.nodes.keys().filter(|other| other.starts_with(path)).count() - 1);
                let children = tree.children(path).map(|(name, _)| path.join(name));
                let expected = model.nodes.keys().filter(|other| other.parent() == Some(path));
                prop_assert!(children.eq(expected.cloned()));
            }
        }
    }
}
