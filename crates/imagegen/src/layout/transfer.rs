//! Writing a blob to a file: streamed, verified, flushed.

use std::fs::File;
use std::io::{Read as _, Write as _};
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
