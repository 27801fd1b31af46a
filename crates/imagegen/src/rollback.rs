//! Putting a tag back to what it named before, from the [history] that publishers write.

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde::Serialize;

use crate::Error;
use crate::digest::Digest;
use crate::history::{self, Operation};
use crate::publish::contents;
use crate::registry::{RegistryError, RegistryImage};
use crate::sink::ImageSink as _;
use crate::source::ImageSource as _;

/// What to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take the last rollback back instead of going one step further.
    pub undo: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// How many blobs are looked up at once.
    pub parallel: usize,
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The tag, as a whole reference.
    pub reference: String,
    /// What it named.
    pub from: Digest,
    /// What it names now.
    pub to: Digest,
    /// Whether a rollback was taken back.
    pub undone: bool,
    /// When the tag had been moved to what it named.
    pub since: Timestamp,
    /// Whether it was done, not only said.
    pub done: bool,
}

/// Puts the tag of `image` back to what it named before, after making sure that all of that is still there.
///
/// A registry cannot be asked to move a tag only if it still names something: that nobody else moved it is looked up right
/// before and right after.
///
/// # Errors
/// Nothing is known about the time before, it is no longer complete, or somebody else moved the tag meanwhile.
pub async fn rollback(image: &RegistryImage, options: Options) -> Result<RolledBack, Error> {
    let reference = image.name_of();
    let unknown = |reason: &str| Error::NoHistory { reference: image.name_of(), reason: reason.to_owned() };
    let Some(from) = image.named().await? else { return Err(unknown("the tag does not exist")) };
    let records = history::records(image, &from).await?;
    let step = if options.undo { history::undo(&records) } else { history::back(&records) };
    let (Some(step), Some(newest)) = (step, history::newest(&records)) else {
        return Err(if options.undo {
            unknown("its last move was no rollback")
        } else {
            unknown("no publisher has written down what it named before")
        });
    };
    let outcome = RolledBack {
        reference: reference.clone(),
        from,
        to: step.to,
        undone: options.undo,
        since: newest.at,
        done: !options.dry_run,
    };
    let target = image.pinned(step.to);
    let whole = async {
        let publication = contents(&target).await?;
        let lookups = publication.blobs.iter().map(|blob| {
            let target = &target;
            async move {
                let there = target.has_blob(&blob.descriptor).await?;
                Ok::<_, Error>((!there).then(|| blob.descriptor.digest().to_string()))
            }
        });
        let lookups: Vec<_> = lookups.map(Box::pin).collect();
        let mut lookups = stream::iter(lookups).buffer_unordered(options.parallel.max(1));
        while let Some(missing) = lookups.next().await {
            if let Some(missing) = missing? {
                return Ok(Err(format!("blob {missing}")));
            }
        }
        Ok(Ok(()))
    };
    let gone = |what: String| Error::PreviousGone { reference: reference.clone(), previous: step.to, what };
    match whole.await {
        Ok(Ok(())) => {}
        Ok(Err(missing)) => return Err(gone(missing)),
        Err(Error::Registry { source, .. }) if matches!(*source, RegistryError::NotFound { .. }) => {
            let RegistryError::NotFound { what, .. } = *source else { return Err(gone("its manifest".to_owned())) };
            return Err(gone(what));
        }
        Err(error) => return Err(error),
    }
    if options.dry_run {
        return Ok(outcome);
    }
    let named = target.top().await?;
    let operation = if options.undo { Operation::Undo } else { Operation::Rollback };
    let moved = async {
        history::write_move(image, &named, operation, from, Some(step.before), step.restores).await?;
        expect(image, from).await?;
        image.name(&named).await?;
        expect(image, step.to).await
    };
    let moved = moved.await;
    image.settle().await;
    moved.map(|()| outcome)
}

/// Makes sure that the tag names what this process believes.
async fn expect(image: &RegistryImage, expected: Digest) -> Result<(), Error> {
    let actual = image.named().await?;
    if actual == Some(expected) {
        return Ok(());
    }
    Err(Error::Raced { reference: image.name_of(), expected, actual })
}
