//! What became of each item.

use std::ffi::OsString;
use std::sync::Arc;

use crate::Error;

/// What [`apply`](super::apply()) did.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    /// Every item of the source, in the order of their names.
    pub items: Vec<ItemReport>,
    /// What did not go as it should without making the work fail; one sentence each.
    pub warnings: Vec<String>,
    /// Files of the platform that were removed from the workspace.
    pub removed: Vec<OsString>,
    /// How many unpublished copies of dead owners were removed.
    pub leftovers_removed: u64,
    /// How many unpublished copies were left alone, because their owners may be alive.
    pub leftovers_kept: u64,
}

impl Report {
    /// How many items could not be published.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.items.iter().filter(|item| matches!(item.outcome, Outcome::Failed(_))).count()
    }

    /// Why the first of them could not.
    #[must_use]
    pub fn first_failure(&self) -> Option<Arc<Error>> {
        self.items.iter().find_map(|item| match &item.outcome {
            Outcome::Failed(error) => Some(Arc::clone(error)),
            _ => None,
        })
    }

    /// How many items this run published.
    #[must_use]
    pub fn published(&self) -> usize {
        self.items.iter().filter(|item| matches!(item.outcome, Outcome::Published { .. })).count()
    }
}

/// One item and what became of it.
#[derive(Debug)]
pub struct ItemReport {
    /// The item's name, in the source and in the workspace.
    pub name: OsString,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an item.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Something of that name was there before, and was not touched.
    Kept,
    /// This run copied and published it.
    Published {
        /// Content copied, in bytes.
        bytes: u64,
        /// Entries copied: files, directories, links, ….
        entries: u64,
    },
    /// Another instance published it while this one waited or copied.
    PublishedElsewhere,
    /// It could not be published; nothing of that name is there because of this run.
    Failed(Arc<Error>),
}
