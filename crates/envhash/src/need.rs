//! Which files of a root the hash may look at.

use std::path::Path;

/// What the hash may need of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    No,
    /// That it is there, and whether it is executable; an empty file serves.
    Name,
    /// Its content.
    Content,
}

/// What the hash may need of the regular file at `path`, which is relative to the root.
///
/// For callers that see a root as the headers of an archive and lay out a skeleton to call [`hash`](crate::hash) on.
/// Directories and symbolic links can lead to any file and are no question of names: lay out all of them.
#[must_use]
pub fn may_read(path: &Path) -> Need {
    let _ = path;
    Need::No
}
