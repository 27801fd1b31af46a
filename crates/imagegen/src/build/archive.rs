//! `ADD archive destination`: local archives are unpacked.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::origin::{Content, ItemKind, Origin as _, TreeOrigin, select};
use super::problem::BuildProblem;
use super::stack::blocking;
use crate::layer::spool::Spool;
use crate::layer::{Entry, Kind, LayerError, LayerIndex, TarReader, Tree, decompressed_within};

/// What may come before the content of an archive's first file: a global header and an extended one.
const MAX_FIRST_HEADER_BYTES: u64 = 4 << 20;

/// An archive whose contents have been taken out.
pub(super) struct Archive {
    tree: Tree,
    spool: Spool,
    /// Directories that are entries of it.
    listed: BTreeSet<PathBuf>,
    name: String,
}

impl Archive {
    /// The archive as something to copy from.
    pub(super) fn origin(&self) -> TreeOrigin<'_> {
        let (spool, listed) = (Some(&self.spool), Some(&self.listed));
        TreeOrigin { tree: &self.tree, name: format!("`{}`", self.name), spool, listed }
    }
}

/// Takes the sources that are archives out of `sources`, and opens them.
pub(super) async fn take(
    folder: &Folder,
    sources: &mut Vec<String>,
    work: &Path,
    limit_bytes: u64,
) -> Result<Vec<Archive>, BuildProblem> {
    let mut archives = Vec::new();
    let mut plain = Vec::new();
    for source in std::mem::take(sources) {
        let mut found = Vec::new();
        for path in select(folder, &source)? {
            let real = folder.resolve(&path)?;
            if folder.ignores(&real) {
                continue;
            }
            if let Some(ItemKind::File { content: Content::Disk(file), .. }) = folder.item(&real)?.map(|item| item.kind)
                && is_archive(&file)?
            {
                found.push(file);
            }
        }
        if found.is_empty() {
            plain.push(source);
        }
        for file in found {
            let work = work.to_owned();
            let opened = blocking(move || open(&file, &work, limit_bytes)).await.map_err(Box::new)?;
            archives.push(opened?);
        }
    }
    *sources = plain;
    Ok(archives)
}

/// Whether Docker would unpack the file: a tar archive, plain or compressed in a way that its first bytes tell.
fn is_archive(path: &Path) -> Result<bool, BuildProblem> {
    let unreadable = |source| BuildProblem::Unreadable { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(512).read_to_end(&mut start)).map_err(unreadable)?;
    if start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0") {
        let what = "compressed with bzip2 or xz, which is not unpacked here: use gzip or zstd, or ADD --unpack=false";
        return Err(BuildProblem::NotCopyable { path: path.to_owned(), what });
    }
    let Ok(file) = File::open(path) else { return Ok(false) };
    let Ok(plain) = decompressed_within(Box::new(file), MAX_FIRST_HEADER_BYTES) else { return Ok(false) };
    Ok(matches!(TarReader::new(plain).next_entry(), Ok(Some(_)) | Err(LayerError::Unsafe { .. })))
}

fn open(path: &Path, work: &Path, limit_bytes: u64) -> Result<Archive, BuildProblem> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let unreadable = |source| BuildProblem::Unreadable { path: path.to_owned(), source };
    let bad = |error: LayerError| match error {
        LayerError::Io(source) => unreadable(source),
        LayerError::TooMuch { .. } => BuildProblem::Excess { path: path.to_owned(), source: error },
        other => BuildProblem::Refused(format!("`{}` cannot be unpacked: {other}", path.display())),
    };
    let file = File::open(path).map_err(unreadable)?;
    let index = LayerIndex::read_within(Box::new(file), limit_bytes).map_err(bad)?;
    let mark = index
        .entries
        .iter()
        .find(|entry| entry.path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".wh.")));
    if let Some(mark) = mark {
        let path = PathBuf::from(&name).join(&mark.path);
        return Err(BuildProblem::NotCopyable { path, what: "named like a deletion mark" });
    }
    let mut tree = Tree::default();
    tree.apply(0, &index).map_err(bad)?;
    let files = index.entries.iter().enumerate().filter_map(|(number, entry)| match entry.kind {
        Kind::File { size } => Some((number, size)),
        _ => None,
    });
    let (wanted, sizes): (BTreeSet<usize>, Vec<u64>) = files.unzip();
    let mut spool = Spool::create(work).map_err(unreadable)?;
    let file = File::open(path).map_err(unreadable)?;
    spool.take(0, Box::new(file), &wanted, sizes.iter().sum()).map_err(bad)?;
    let is_directory = |entry: &&Entry| entry.kind == Kind::Directory && tree.is_directory(&entry.path);
    let listed = index.entries.iter().filter(is_directory).map(|entry| entry.path.clone()).collect();
    Ok(Archive { tree, spool, listed, name })
}
