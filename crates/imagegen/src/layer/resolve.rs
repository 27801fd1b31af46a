//! Following symbolic links inside a tree, as the kernel would with the tree as its root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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
        // The next part last.
        let mut left: Vec<&OsStr> = parts(path).rev().collect();
        let mut real = PathBuf::with_capacity(path.as_os_str().len());
        // The places from the root to `real`: nothing is looked up twice.
        let mut way = vec![self.top()];
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                if real.pop() {
                    way.pop();
                }
                continue;
            }
            let Some(place) = way.last() else { break };
            if place.node.is_some_and(|node| node.kind != NodeKind::Directory) {
                return Resolved::NotADirectory(real);
            }
            let next = place.enter(name);
            if let Some(NodeKind::Symlink { target }) = next.node.map(|node| &node.kind)
                && (follow_last || !left.is_empty())
            {
                links += 1;
                if links > MAX_LINKS {
                    return Resolved::Loop;
                }
                if target.is_absolute() {
                    real.clear();
                    way.truncate(1);
                }
                left.extend(parts(target).rev());
                continue;
            }
            real.push(name);
            way.push(next);
        }
        Resolved::Path(real)
    }
}

/// The names along a path, `..` among them.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(OsStr::from_bytes)
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
