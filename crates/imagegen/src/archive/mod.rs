//! Tar archives that hold images: what `docker save` writes, and OCI layouts.

mod docker;
mod oci;
mod tar_store;

pub use docker::DockerArchive;
pub use oci::OciArchiveSink;
pub(crate) use tar_store::TarStore;
