//! What `COPY` and `ADD` put where: from sources and the image's tree to the entries of a layer, before anything is read.
//!
//! The rules are Docker's, with three differences, each for reproducible and harmless overlays:
//! * a directory that exists in the image keeps its owner and mode, unless `--chown` or `--chmod` say otherwise (`BuildKit`
//!   gives `/root` and `/tmp` the modes of the checkout), or an archive of `ADD` lists it;
//! * a directory over a link to a directory goes where the link points, as `tar` and `rsync` can do (`BuildKit` refuses);
//! * links that would climb above the image's root are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::glob::Glob;
use super::ignore::Ignore;
use super::origin::{Content, Item, ItemKind, Origin, select};
use super::owner::Chmod;
use super::problem::BuildProblem;
use crate::layer::{ContentRef, Metadata, Node, NodeKind, Resolved, Tree};

/// How files are put into an image.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyOptions {
    /// Owner and group, resolved.
    pub owner: Option<(u64, u64)>,
    /// `--chmod`.
    pub mode: Option<Chmod>,
    /// `--exclude`, relative to each source.
    pub exclude: Ignore,
    /// The time of what is made on the way.
    pub epoch: i64,
}

/// One entry of the layer to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub kind: ItemKind,
    pub metadata: Metadata,
}

/// A layer in the making: its entries by path, and the tree under them, kept up to date.
pub(super) struct LayerPlan<'a> {
    tree: &'a mut Tree,
    layer: usize,
    epoch: i64,
    /// By path, in the order of its bytes, as the tree's nodes are.
    entries: BTreeMap<OsString, Planned>,
    warnings: Vec<String>,
}

/// The place of content that has none yet; [`LayerPlan::finish`] replaces it.
const UNPLACED: usize = usize::MAX;

impl<'a> LayerPlan<'a> {
    /// Begins layer number `layer` on top of `tree`.
    pub(super) fn new(tree: &'a mut Tree, layer: usize, epoch: i64) -> Self {
        Self { tree, layer, epoch, entries: BTreeMap::new(), warnings: Vec::new() }
    }

    /// Plans `COPY sources… destination`, all sources from one origin. `destination` is absolute.
    pub(super) fn copy(
        &mut self,
        origin: &dyn Origin,
        sources: &[String],
        destination: &str,
        options: &CopyOptions,
    ) -> Result<(), BuildProblem> {
        let mut chosen = Vec::new();
        for source in sources {
            for path in select(origin, source)? {
                // A pattern does not match what is not part of the context.
                if !Glob::is_pattern(source) || !is_left_out(origin, &path)? {
                    chosen.push((source, path));
                }
            }
        }
        if chosen.is_empty() {
            let path = sources.join(" ");
            return Err(BuildProblem::NoSource { path, context: origin.name() });
        }
        if chosen.len() > 1
            && !is_directory_name(destination)
            && !self.tree.is_directory(&self.resolve(Path::new(destination))?)
        {
            return Err(BuildProblem::NotADirectory(destination.to_owned()));
        }
        for (source, path) in chosen {
            self.copy_one(origin, source, &path, destination, options)?;
        }
        Ok(())
    }

    fn copy_one(
        &mut self,
        origin: &dyn Origin,
        source: &str,
        path: &Path,
        destination: &str,
        options: &CopyOptions,
    ) -> Result<(), BuildProblem> {
        let real = origin.resolve(path)?;
        let missing = || BuildProblem::NoSource { path: source.to_owned(), context: origin.name() };
        let item = origin.item(&real)?.ok_or_else(missing)?;
        let target = self.resolve(Path::new(destination))?;
        if item.kind == ItemKind::Directory {
            if !self.tree.is_directory(&target) && self.tree.get(&target).is_some() {
                return Err(in_the_way(path, &target, "it is no directory"));
            }
            if !real.as_os_str().is_empty() && origin.ignores(&real) && !keeps_some(origin, &real)? {
                return Err(BuildProblem::Ignored { path: source.to_owned(), context: origin.name() });
            }
            self.make_directories(&target, options);
            return self.copy_below(origin, &real, Path::new(""), &target, options);
        }
        if origin.ignores(&real) {
            return Err(BuildProblem::Ignored { path: source.to_owned(), context: origin.name() });
        }
        if options.exclude.ignores(path.file_name().map_or(path, Path::new)) {
            return Ok(());
        }
        let into_directory = is_directory_name(destination) || self.tree.is_directory(&target);
        let target = match (into_directory, path.file_name()) {
            (true, Some(name)) => {
                self.make_directories(&target, options);
                target.join(name)
            }
            _ => target,
        };
        if let Some(parent) = target.parent() {
            self.make_directories(parent, options);
        }
        self.put(origin, &real, &item, &target, options)
    }

    /// Puts bytes of the Dockerfile into the image, as one file.
    pub(super) fn put_bytes(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        destination: &str,
        options: &CopyOptions,
    ) -> Result<(), BuildProblem> {
        let target = self.resolve(Path::new(destination))?;
        let into_directory = is_directory_name(destination) || self.tree.is_directory(&target);
        let target = if into_directory { target.join(name) } else { target };
        if let Some(parent) = target.parent() {
            self.make_directories(parent, options);
        }
        let kind = ItemKind::File { size: bytes.len() as u64, content: Content::Bytes(bytes) };
        let item = Item { kind, metadata: Metadata::root_owned(0o644, self.epoch) };
        let target = self.make_way(Path::new(name), &item, target)?;
        self.add(target, &item, options);
        Ok(())
    }

    /// Whether there is no directory at `path`, which is absolute, so that one has to be made.
    pub(super) fn lacks_directory(&self, path: &Path) -> Result<bool, BuildProblem> {
        let target = self.resolve(path)?;
        if self.tree.get(&target).is_some() && !self.tree.is_directory(&target) {
            return Err(BuildProblem::Unreachable { path: path.to_owned(), why: "it is no directory".to_owned() });
        }
        Ok(!self.tree.is_directory(&target))
    }

    /// Makes `path`, which is absolute, a directory of `owner`.
    pub(super) fn make_workdir(&mut self, path: &Path, owner: Option<(u64, u64)>) -> Result<(), BuildProblem> {
        let target = self.resolve(path)?;
        self.make_directories(&target, &CopyOptions { owner, epoch: self.epoch, ..CopyOptions::default() });
        Ok(())
    }

    /// The entries of the layer in order, parents included, and the warnings about them.
    pub(super) fn finish(mut self) -> (Vec<(PathBuf, Planned)>, Vec<String>) {
        let mut parents: BTreeSet<&OsStr> = BTreeSet::new();
        for path in self.entries.keys() {
            let above = Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            // Those above a parent that was seen were seen with it.
            above.map(Path::as_os_str).take_while(|parent| parents.insert(parent)).for_each(drop);
        }
        let lacking: Vec<OsString> =
            parents.into_iter().filter(|parent| !self.entries.contains_key(*parent)).map(OsStr::to_owned).collect();
        for parent in lacking {
            if let Some(node) = self.tree.get(Path::new(&parent)) {
                let metadata = node.metadata.clone();
                self.entries.insert(parent, Planned { kind: ItemKind::Directory, metadata });
            }
        }
        let mut entries: Vec<(PathBuf, Planned)> =
            self.entries.into_iter().map(|(path, planned)| (path.into(), planned)).collect();
        // Files that were one file in their image stay one: the first name has the content, the others link to it.
        let mut first_names: BTreeMap<Content, (usize, PathBuf, Metadata)> = BTreeMap::new();
        for (number, (path, planned)) in entries.iter_mut().enumerate() {
            let ItemKind::File { size, content } = &planned.kind else { continue };
            let mut place = ContentRef { layer: self.layer, entry: number };
            let kind = |content| NodeKind::File { size: *size, content };
            if let Content::Layer(_) | Content::Spooled(_) = content {
                let first = first_names
                    .entry(content.clone())
                    .or_insert_with(|| (number, path.clone(), planned.metadata.clone()));
                if first.0 != number && first.2 == planned.metadata {
                    place.entry = first.0;
                    let node = Node { kind: kind(place), metadata: planned.metadata.clone() };
                    self.tree.insert(path, node);
                    planned.kind = ItemKind::Hardlink { target: first.1.clone() };
                    continue;
                }
            }
            self.tree.insert(path, Node { kind: kind(place), metadata: planned.metadata.clone() });
        }
        (entries, self.warnings)
    }

    /// Copies what is below `top`/`below` into `target`.
    fn copy_below(
        &mut self,
        origin: &dyn Origin,
        top: &Path,
        below: &Path,
        target: &Path,
        options: &CopyOptions,
    ) -> Result<(), BuildProblem> {
        for name in origin.names(&top.join(below))? {
            let below = below.join(&name);
            let source = top.join(&below);
            if options.exclude.ignores(&below) {
                continue;
            }
            let ignored = origin.ignores(&source);
            if ignored && !origin.keeps_below() {
                continue;
            }
            let Some(item) = origin.item(&source)? else { continue };
            if ignored && (item.kind != ItemKind::Directory || !keeps_some(origin, &source)?) {
                continue;
            }
            if item.kind == ItemKind::Directory {
                let place = self.directory_over(origin, &source, &target.join(&name), &item, options)?;
                self.copy_below(origin, top, &below, &place, options)?;
            } else {
                self.put(origin, &source, &item, &target.join(&name), options)?;
            }
        }
        Ok(())
    }

    /// Where a directory of the source goes: to the directory that is there, through a link if need be, or to a new one.
    fn directory_over(
        &mut self,
        origin: &dyn Origin,
        source: &Path,
        target: &Path,
        item: &Item,
        options: &CopyOptions,
    ) -> Result<PathBuf, BuildProblem> {
        let real = self.resolve(target)?;
        match self.tree.get(&real).map(|node| &node.kind) {
            Some(NodeKind::Directory) => {
                if origin.lists_directory(source) {
                    self.add(real.clone(), item, options);
                } else if options.owner.is_some() || options.mode.is_some() {
                    let metadata = self.tree.get(&real).map(|node| node.metadata.clone());
                    let existing =
                        Item { kind: ItemKind::Directory, metadata: metadata.unwrap_or(item.metadata.clone()) };
                    self.add(real.clone(), &existing, options);
                }
                Ok(real)
            }
            Some(_) => Err(in_the_way(source, &real, "it is no directory")),
            None => {
                if let Some(parent) = real.parent() {
                    self.make_directories(parent, options);
                }
                self.add(real.clone(), item, options);
                Ok(real)
            }
        }
    }

    /// Puts one file or link at `target`, whose parent is a directory.
    fn put(
        &mut self,
        origin: &dyn Origin,
        source: &Path,
        item: &Item,
        target: &Path,
        options: &CopyOptions,
    ) -> Result<(), BuildProblem> {
        if let ItemKind::Other(what) = item.kind {
            return Err(BuildProblem::NotCopyable { path: source.to_owned(), what });
        }
        let is_whiteout = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".wh.");
        if target.file_name().is_some_and(is_whiteout) {
            return Err(BuildProblem::NotCopyable { path: source.to_owned(), what: "named like a deletion mark" });
        }
        if let ItemKind::Symlink { target: points_to } = &item.kind
            && origin.is_checkout()
            && climbs(target, points_to)
        {
            return Err(BuildProblem::ClimbingLink { link: source.to_owned(), target: points_to.clone() });
        }
        let target = self.make_way(source, item, target.to_owned())?;
        if origin.is_checkout() {
            self.check_executable(source, &target, item, options);
        }
        self.add(target, item, options);
        Ok(())
    }

    /// Checks that nothing stands at `target` that a file must not replace; a link there is replaced, not followed.
    fn make_way(&self, source: &Path, item: &Item, target: PathBuf) -> Result<PathBuf, BuildProblem> {
        if self.tree.is_directory(&target) {
            let why = match item.kind {
                ItemKind::Symlink { .. } => "a link cannot replace a directory",
                _ => "a file cannot replace a directory",
            };
            return Err(in_the_way(source, &target, why));
        }
        Ok(target)
    }

    fn add(&mut self, path: PathBuf, item: &Item, options: &CopyOptions) {
        let mut metadata = item.metadata.clone();
        if let Some((uid, gid)) = options.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        let is_directory = item.kind == ItemKind::Directory;
        if let Some(mode) = options.mode.as_ref().filter(|_| !matches!(item.kind, ItemKind::Symlink { .. })) {
            metadata.mode = mode.apply(metadata.mode, is_directory);
        }
        if self.tree.get(&path).is_none() {
            self.touch_parent(&path);
        }
        let kind = match &item.kind {
            ItemKind::File { size, .. } => {
                NodeKind::File { size: *size, content: ContentRef { layer: self.layer, entry: UNPLACED } }
            }
            ItemKind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
            ItemKind::Fifo => NodeKind::Fifo,
            ItemKind::Device { block, major, minor } => {
                NodeKind::Device { block: *block, major: *major, minor: *minor }
            }
            ItemKind::Directory | ItemKind::Hardlink { .. } | ItemKind::Other(_) => NodeKind::Directory,
        };
        self.tree.insert(&path, Node { kind, metadata: metadata.clone() });
        self.entries.insert(path.into(), Planned { kind: item.kind.clone(), metadata });
    }

    /// A directory that gets a new name in it has changed: caches of directories (fonts, modules) compare its time.
    fn touch_parent(&mut self, path: &Path) {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return };
        let Some(node) = self.tree.get(parent) else { return };
        if node.metadata.mtime == self.epoch && self.entries.contains_key(parent.as_os_str()) {
            return;
        }
        let metadata = Metadata { mtime: self.epoch, ..node.metadata.clone() };
        self.tree.insert(parent, Node { kind: NodeKind::Directory, metadata: metadata.clone() });
        self.entries.insert(parent.into(), Planned { kind: ItemKind::Directory, metadata });
    }

    /// Makes `path` and its parents directories where they are missing, owned as `--chown` says.
    fn make_directories(&mut self, path: &Path, options: &CopyOptions) {
        let missing: Vec<PathBuf> =
            path.ancestors().take_while(|ancestor| !self.tree.is_directory(ancestor)).map(Path::to_owned).collect();
        let item = Item { kind: ItemKind::Directory, metadata: Metadata::root_owned(0o755, options.epoch) };
        let plain = CopyOptions { owner: options.owner, epoch: options.epoch, ..CopyOptions::default() };
        for directory in missing.into_iter().rev() {
            self.add(directory, &item, &plain);
        }
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf, BuildProblem> {
        let why = match self.tree.resolve(path, true) {
            Resolved::Path(path) => return Ok(path),
            Resolved::NotADirectory(part) => format!("`/{}` is no directory", part.display()),
            Resolved::Loop => "its links form a loop".to_owned(),
        };
        Err(BuildProblem::Unreachable { path: path.to_owned(), why })
    }

    /// Scripts that Supervisor or the boot run by name must be executable; a checkout that lost the bit makes an image that
    /// does not start. It is reported, not repaired: the repository is where it belongs.
    fn check_executable(&mut self, source: &Path, target: &Path, item: &Item, options: &CopyOptions) {
        const RUN_BY_NAME: [&str; 2] = ["opt/supervisor-scripts", "etc/vast_boot.d"];
        let run = target.extension().is_some_and(|extension| extension == "sh")
            && target.parent().is_some_and(|parent| RUN_BY_NAME.iter().any(|folder| parent == Path::new(folder)));
        let executable = item.metadata.mode & 0o111 != 0 || options.mode.is_some();
        if run && !executable && matches!(item.kind, ItemKind::File { .. }) {
            self.warnings
                .push(format!("`{}` is not executable; run `git update-index --chmod=+x` on it", source.display()));
        }
    }
}

/// Whether a destination says by itself that it is a directory.
fn is_directory_name(destination: &str) -> bool {
    destination.ends_with('/')
}

/// Whether `path` is no part of the context, nothing below it either.
fn is_left_out(origin: &dyn Origin, path: &Path) -> Result<bool, BuildProblem> {
    // What cannot be followed is told where it is copied.
    let Ok(real) = origin.resolve(path) else { return Ok(false) };
    let is_directory = matches!(origin.item(&real)?, Some(Item { kind: ItemKind::Directory, .. }));
    Ok(origin.ignores(&real) && !(is_directory && keeps_some(origin, &real)?))
}

/// Whether a `!` rule takes something below an ignored directory back.
fn keeps_some(origin: &dyn Origin, directory: &Path) -> Result<bool, BuildProblem> {
    if !origin.keeps_below() {
        return Ok(false);
    }
    for name in origin.names(directory)? {
        let path = directory.join(name);
        let is_directory = matches!(origin.item(&path)?, Some(Item { kind: ItemKind::Directory, .. }));
        if !origin.ignores(&path) || is_directory && keeps_some(origin, &path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn in_the_way(source: &Path, path: &Path, why: &'static str) -> BuildProblem {
    BuildProblem::InTheWay { source_path: source.to_owned(), path: Path::new("/").join(path), why }
}

/// Whether a relative link at `place` has more `..` than there are directories above it.
fn climbs(place: &Path, target: &Path) -> bool {
    let mut depth = place.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::RootDir => return false,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
