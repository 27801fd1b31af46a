//! Following symbolic links inside a tree, as the kernel would with the tree as its root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::tree::{NodeKind, Tree};

/// The kernel gives up after as many.
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// To this node, or if it does not exist, to where it would be made: the parents that exist are real directories.
    Path(PathBuf),
    /// Nowhere: this part of it is neither a directory nor a link to one.
    NotADirectory(PathBuf),
    /// Nowhere: its links form a loop.
    Loop,
}

impl Tree {
    /// Follows every link in `path`, the last one only with `follow_last`. `..` does not climb above the root.
    #[must_use]
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Resolved {
        let mut left: VecDeque<Part> = parts(path).collect();
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            let name = match part {
                Part::Up => {
                    real.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            match self.get(&real).map(|node| &node.kind) {
                None | Some(NodeKind::Directory) => {}
                Some(_) => return Resolved::NotADirectory(real),
            }
            real.push(name);
            let Some(NodeKind::Symlink { target }) = self.get(&real).map(|node| &node.kind) else { continue };
            if left.is_empty() && !follow_last {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Resolved::Loop;
            }
            real.pop();
            if target.is_absolute() {
                real.clear();
            }
            for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        }
        Resolved::Path(real)
    }
}

enum Part {
    Name(OsString),
    Up,
}

fn parts(path: &Path) -> impl Iterator<Item = Part> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::ParentDir => Some(Part::Up),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Metadata, Node};
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        let directory = || NodeKind::Directory;
        let link = |target: &str| NodeKind::Symlink { target: target.into() };
        for (path, kind) in [
            ("usr", directory()),
            ("usr/lib", directory()),
            ("lib", link("usr/lib")),
            ("run", directory()),
            ("var", directory()),
            ("var/run", link("/run")),
            ("var/up", link("../../../../usr")),
            ("a", link("b")),
            ("b", link("a")),
            ("dangling", link("/made/later")),
            ("pipe", NodeKind::Fifo),
        ] {
            tree.insert(path.as_ref(), Node { kind, metadata: Metadata::root_owned(0o755, 0) });
        }
        tree
    }

    #[test]
    fn links_lead_where_the_kernel_would_go() {
        for (path, expected) in [
            ("/lib/x/y", "usr/lib/x/y"),
            ("lib", "usr/lib"),
            ("var/run/lock", "run/lock"),
            ("var/up/lib", "usr/lib"),
            ("../../etc", "etc"),
            ("dangling/x", "made/later/x"),
            ("none/at/all", "none/at/all"),
            ("/", ""),
        ] {
            assert_eq!(tree().resolve(Path::new(path), true), Resolved::Path(expected.into()), "{path}");
        }
        assert_eq!(tree().resolve(Path::new("/lib"), false), Resolved::Path("lib".into()));
        assert_eq!(tree().resolve(Path::new("a/x"), true), Resolved::Loop);
        assert_eq!(tree().resolve(Path::new("pipe/x"), true), Resolved::NotADirectory("pipe".into()));
    }
}
