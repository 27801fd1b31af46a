//! What became of each tree.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;

/// What [`environment::apply`](crate::environment::apply) and [`home::apply`](crate::home::apply) did.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    /// What this instance did for the shared directory.
    pub role: Role,
    /// Every tree, in the order of their paths.
    pub trees: Vec<TreeReport>,
    /// Content copied, in bytes.
    pub bytes: u64,
    /// Entries copied.
    pub entries: u64,
    /// Directories whose interrupted swap was completed first, as paths of the container.
    pub recovered: Vec<PathBuf>,
    /// What did not go as it should without making the work fail; one sentence each.
    pub warnings: Vec<String>,
}

/// What an instance did for the shared directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Nothing: it was complete, or not even looked at.
    #[default]
    None,
    /// It filled it.
    Copied,
    /// It took over from an instance that was gone, and filled in what was missing.
    TookOver,
}

/// One tree and what became of it.
#[derive(Debug)]
pub struct TreeReport {
    /// Where it is, as a path of the container.
    pub path: PathBuf,
    /// Where it is on the volume, as a path of the container.
    pub target: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a tree.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It was a link before.
    Kept,
    /// It is a link now.
    Linked,
    /// The volume does not have it, so it stays in the container.
    NotOnVolume,
    /// It stays in the container, because with the link it would not work, for this reason.
    Stays(String),
    /// It is a link, and what it leads to is not there.
    Dangling,
    /// It could not be replaced by a link.
    Failed(Arc<Error>),
}

impl Report {
    /// How many trees became links.
    #[must_use]
    pub fn linked(&self) -> usize {
        self.trees.iter().filter(|tree| matches!(tree.outcome, Outcome::Linked)).count()
    }

    /// The first tree that is not as it should be, and why, in one sentence.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.trees.iter().find_map(|tree| {
            let path = tree.path.display();
            match &tree.outcome {
                Outcome::Stays(reason) => Some(format!("`{path}` stays in the container: {reason}")),
                Outcome::Dangling => Some(format!("`{path}` leads to `{}`, which is not there", tree.target.display())),
                Outcome::Failed(error) => Some(format!("`{path}`: {}", crate::error::chain(error))),
                Outcome::Kept | Outcome::Linked | Outcome::NotOnVolume => None,
            }
        })
    }
}
