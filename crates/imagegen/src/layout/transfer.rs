//! Writing a blob to a file: streamed, verified, flushed.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use tokio::sync::mpsc;

use crate::Error;
use crate::digest::{Digest, Verified};
use crate::manifest::blocking;
use crate::sink::{BytesSent, Content};
use crate::source::BlobReader;

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// Gives a layer that was just built, and hashed while it was, the second name `target`. Whether that was possible: on another
/// file system it is not.
pub(super) async fn link_blob(built: &Path, target: PathBuf, size_bytes: u64) -> Result<bool, Error> {
    let built = built.to_owned();
    blocking(move || {
        if fs::hard_link(&built, &target).is_err() {
            return Ok(false);
        }
        let finished = File::open(&target).and_then(|file| {
            // Temporary files are their owner's alone.
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()?;
            let whole = file.metadata()?.len() == size_bytes;
            // Writing it anew would empty what it is a name of.
            if whole { Ok(true) } else { fs::remove_file(&target).map(|()| false) }
        });
        finished.map_err(|source| Error::File { action: "write", path: target.clone(), source })
    })
    .await
}

/// Writes `content` to `target`, which is complete and verified when this succeeds.
pub(super) async fn write_blob(
    descriptor: &Descriptor,
    digest: Digest,
    content: Content<'_>,
    target: PathBuf,
    reference: &str,
    sent: BytesSent<'_>,
) -> Result<(), Error> {
    let blamed = content.blame(reference);
    let reader: BlobReader = match content {
        Content::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes.to_vec())),
        Content::File(path) => Box::new(File::open(path).map_err(|source| Error::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?),
        Content::Source(source) => source.open_blob(descriptor).await?,
    };
    let reader = Verified::new(reader, digest, descriptor.size());
    let (counter, mut progress) = mpsc::unbounded_channel();
    let writing = blocking(move || write(reader, &target, &blamed, &counter));
    tokio::pin!(writing);
    let mut total = 0;
    loop {
        tokio::select! {
            result = &mut writing => return result,
            Some(bytes) = progress.recv() => {
                total += bytes;
                sent(total);
            }
        }
    }
}

fn write(
    mut reader: Verified<BlobReader>,
    target: &Path,
    blamed: &str,
    counter: &mpsc::UnboundedSender<u64>,
) -> Result<(), Error> {
    let failed = |source| Error::File { action: "write", path: target.to_owned(), source };
    let mut file = File::create(target).map_err(failed)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(Error::from_read(error, blamed)),
        };
        file.write_all(&buffer[..read]).map_err(failed)?;
        // The writer was dropped: nobody waits for the blob any more.
        if counter.send(read as u64).is_err() {
            return Err(Error::Interrupted);
        }
    }
    file.sync_all().map_err(failed)
}
