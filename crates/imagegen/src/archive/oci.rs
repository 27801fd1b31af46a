//! Writing `oci-archive:`: an OCI layout, packed into a tar archive when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use crate::Error;
use crate::digest::Digest;
use crate::layout::{LayoutSink, Staging, parent_of};
use crate::manifest::blocking;
use crate::reference::{FileReference, Reference};
use crate::sink::{BytesSent, Content, ImageSink, Placed};
use crate::source::RawManifest;

/// Writes one image into a tar archive, which replaces the file that is there.
#[derive(Debug)]
pub struct OciArchiveSink {
    file: PathBuf,
    layout: LayoutSink,
    staging: Staging,
}

impl OciArchiveSink {
    /// A sink for the archive that `file` names.
    pub fn new(file: &FileReference) -> Result<Self, Error> {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let staging = Staging::new(&parent_of(&file.path), &name)?;
        let layout = FileReference { path: staging.path().join("layout"), ..file.clone() };
        let layout = LayoutSink::with_reference(&layout, Reference::OciArchive(file.clone()).to_string())?;
        Ok(Self { file: file.path.clone(), layout, staging })
    }
}

#[async_trait]
impl ImageSink for OciArchiveSink {
    fn reference(&self) -> String {
        self.layout.reference()
    }

    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        self.layout.has_blob(descriptor).await
    }

    async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: Content<'_>,
        sent: BytesSent<'_>,
    ) -> Result<Placed, Error> {
        self.layout.put_blob(descriptor, content, sent).await
    }

    async fn put_manifest(&self, manifest: &RawManifest) -> Result<(), Error> {
        self.layout.put_manifest(manifest).await
    }

    async fn attach(&self, subject: &Digest, referrers: &[RawManifest]) -> Result<(), Error> {
        self.layout.attach(subject, referrers).await
    }

    async fn name(&self, manifest: &RawManifest) -> Result<(), Error> {
        self.layout.name(manifest).await?;
        let (layout, part, file) =
            (self.staging.path().join("layout"), self.staging.path().join("archive.tar"), self.file.clone());
        blocking(move || {
            let failed = |source| Error::File { action: "write", path: file.clone(), source };
            pack(&layout, &part).map_err(failed)?;
            fs::rename(&part, &file).map_err(failed)
        })
        .await
    }
}

/// Packs a layout in one order and without times and owners: the same image gives the same archive.
fn pack(layout: &Path, target: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(target)?));
    for name in ["oci-layout", "index.json"] {
        append(&mut archive, layout, name)?;
    }
    for name in ["blobs/", "blobs/sha256/"] {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, name, io::empty())?;
    }
    let mut blobs = fs::read_dir(layout.join("blobs/sha256"))?.collect::<Result<Vec<_>, _>>()?;
    blobs.sort_by_key(fs::DirEntry::file_name);
    for blob in blobs {
        append(&mut archive, layout, &format!("blobs/sha256/{}", blob.file_name().to_string_lossy()))?;
    }
    let mut writer = archive.into_inner()?;
    writer.flush()?;
    writer.get_ref().sync_all()
}

fn append(archive: &mut tar::Builder<BufWriter<File>>, layout: &Path, name: &str) -> io::Result<()> {
    let file = File::open(layout.join(name))?;
    let mut header = header(file.metadata()?.len(), 0o644);
    archive.append_data(&mut header, name, file)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
