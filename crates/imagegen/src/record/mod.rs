//! What this program records about an image beside it, so that later commands need not read its layers: artifacts that
//! refer to the image's manifest.
//!
//! | artifact type | blobs |
//! |---|---|
//! | [`PATH_INDEXES`] | one [path index](crate::layer::PATH_INDEX) for each layer of which one is known, in the order of the layers; then one list of Debian packages ([`PACKAGES`]) for each layer of whose package database one is known; each with the annotation [`DIFF_ID`] |
//! | [`ENVIRONMENT`] | the [inventory](vast_envhash::Inventory) behind the environment hash, as JSON |
//!
//! A record is a statement of whoever may write to the repository, as the image itself is. What cannot be understood, is
//! about another layer than it says, or is listed and gone, counts as no record.

mod environment;
mod indexes;
mod packages;

use std::sync::Arc;

use oci_spec::image::Descriptor;

use crate::Error;
use crate::artifact;
use crate::manifest::describe;
use crate::publish::{Blob, Publication};
use crate::sink::Content;
use crate::source::{ImageSource, RawManifest};

pub(crate) use environment::{environment, recorded_environment};
pub(crate) use indexes::{RecordedIndexes, path_indexes};
pub(crate) use packages::{LayerPackages, database_layer};

/// The type of the artifact that holds path indexes.
pub const PATH_INDEXES: &str = "application/vnd.vast.imagegen.path-indexes.v1";

/// The type of the artifact that holds an environment inventory, and the media type of its blob.
pub const ENVIRONMENT: &str = "application/vnd.vast.environment.v1+json";

/// The media type of a list of Debian packages: a JSON array of all that the package database in a layer has as installed, each
/// with `name` and `version`. The environment hash counts some of them. Readers that do not know it pass it over.
pub const PACKAGES: &str = "application/vnd.vast.imagegen.packages.v1+json";

/// The annotation that says by its diff id of which layer a path index or a list of packages is.
pub const DIFF_ID: &str = "ai.vast.imagegen.diff-id";

/// An artifact that is to be published with what it is about.
#[derive(Clone)]
pub(crate) struct Attachment {
    pub(crate) manifest: RawManifest,
    pub(crate) blobs: Vec<Stored>,
}

/// A blob of an artifact, and where its bytes are.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) descriptor: Descriptor,
    pub(crate) place: Place,
}

/// Where the bytes of a blob are.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(Arc<[u8]>),
    /// Where an image came from: in the same registry it is mounted, not moved.
    Source(Arc<dyn ImageSource>),
}

/// Whether `source` has this blob. Records may outlive what they name, and anybody who may push may write them.
async fn is_there(source: &dyn ImageSource, descriptor: &Descriptor) -> Result<bool, Error> {
    Ok(source.blob_size(descriptor).await? == Some(descriptor.size()))
}

/// What reading a recorded blob gave; `None` where it is gone.
async fn unless_gone<T>(
    read: Result<T, Error>,
    source: &dyn ImageSource,
    descriptor: &Descriptor,
) -> Result<Option<T>, Error> {
    match read {
        Err(_) if !is_there(source, descriptor).await? => {
            tracing::debug!(reference = %source.reference(), digest = %descriptor.digest(), "a record names a blob that is gone");
            Ok(None)
        }
        read => read.map(Some),
    }
}

impl Attachment {
    /// Adds the artifact to what is published.
    pub(crate) fn add_to<'a>(&'a self, publication: &mut Publication<'a>) {
        let empty = describe(artifact::EMPTY_CONFIG, artifact::EMPTY);
        publication.blobs.push(Blob { descriptor: empty, content: Content::Bytes(artifact::EMPTY) });
        for blob in &self.blobs {
            let content = match &blob.place {
                Place::Memory(bytes) => Content::Bytes(bytes),
                Place::Source(source) => Content::Source(&**source),
            };
            publication.blobs.push(Blob { descriptor: blob.descriptor.clone(), content });
        }
        publication.referrers.push(self.manifest.clone());
    }
}
