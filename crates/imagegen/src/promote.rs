//! Promotion: an image that is in one place gets names in another, all of them after everything that they name is there.

use serde::Serialize;

use crate::Error;
use crate::digest::Digest;
use crate::publish::{Progress, Publication, Published, name_all, place_all};
use crate::registry::RegistryImage;
use crate::sink::ImageSink;

/// What a tag names before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The tag, as a whole reference.
    pub reference: String,
    /// What it named; nothing where it is new.
    pub from: Option<Digest>,
    /// What it names now.
    pub to: Digest,
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// What happened to the content.
    pub published: Published,
    /// The tags, in the order in which they were moved.
    pub moves: Vec<Move>,
}

/// What promoting `publication` to the tags of `targets` would move.
///
/// # Errors
/// The registry does not answer.
pub async fn plan(publication: &Publication<'_>, targets: &[RegistryImage]) -> Result<Vec<Move>, Error> {
    let to = publication.named()?.digest();
    let mut moves = Vec::new();
    for target in targets {
        moves.push(Move { reference: target.name_of(), from: target.named().await?, to });
    }
    Ok(moves)
}

/// Puts everything into the repository of `targets`, which is the same for all, and then moves their tags.
///
/// What the tags named before is written down for all of them before the first one moves.
///
/// # Errors
/// The first failure. Before any tag was moved, all name what they named; after that, [`Error::Promotion`] names those
/// that moved and those that did not.
pub async fn promote(
    publication: &Publication<'_>,
    targets: &[RegistryImage],
    parallel: usize,
    progress: &dyn Progress,
) -> Result<Promoted, Error> {
    let Some(first) = targets.first() else {
        return Err(crate::manifest::malformed("promotion", "nowhere", "it has no target"));
    };
    let promoted = async {
        let moves = plan(publication, targets).await?;
        let mut published = place_all(publication, first, parallel, progress).await?;
        let sinks: Vec<&dyn ImageSink> = targets.iter().map(|target| target as &dyn ImageSink).collect();
        published.history = name_all(publication.named()?, &sinks).await?.into_iter().flatten().collect();
        Ok(Promoted { published, moves })
    };
    let promoted = promoted.await;
    for target in targets {
        target.settle().await;
    }
    promoted
}
