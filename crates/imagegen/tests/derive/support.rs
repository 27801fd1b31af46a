//! Images built into a registry of the testkit, and short ways to extend and rebase them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::build::runner::{Runner, System};
use vast_imagegen::build::{Build, DEFAULT_EPOCH, Engine, Limits, Progress, Stamp};
use vast_imagegen::digest::Digest;
use vast_imagegen::extend::{Extended, extend};
use vast_imagegen::layer::{Compression, LayerIndex, NodeKind, PATH_INDEX, Tree};
use vast_imagegen::platform::Platform;
use vast_imagegen::publish::{attach_only, publish};
use vast_imagegen::rebase::{Kind, Outcome, Rebasing};
use vast_imagegen::record::{DIFF_ID, PATH_INDEXES};
use vast_imagegen::reference::Reference;
use vast_imagegen::registry::{Client, Settings};
use vast_imagegen::source::{Image, ImageSource};
use vast_imagegen::transport::{TransportOptions, open_sink, open_source};
use vast_testkit::registry::{Behaviour, Registry};

pub(crate) const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
    fn warning(&self, _: &str) {}
    fn output(&self, _: &str) {}
}

/// A registry and a folder of this test's own.
pub(crate) struct Bench {
    pub(crate) registry: Registry,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) transports: TransportOptions,
}

/// What lies in a folder: a file with its content, a link (`-> target`), a directory (`/`).
pub(crate) type Files<'a> = &'a [(&'a str, &'a str)];

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Behaviour::default())
    }

    pub(crate) fn with(behaviour: Behaviour) -> Self {
        let (registry, dir) = (Registry::start_with(behaviour), tempfile::tempdir().unwrap());
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { registry, dir, transports: TransportOptions::new(Client::new(Settings::default())) }
    }

    /// A reference into the registry.
    pub(crate) fn at(&self, name: &str) -> String {
        self.registry.reference(name)
    }

    /// A new folder with these files.
    pub(crate) fn folder(&self, files: Files<'_>) -> PathBuf {
        let folder = tempfile::Builder::new().prefix("folder-").tempdir_in(self.dir.path()).unwrap().keep();
        for (name, content) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if let Some(target) = content.strip_prefix("-> ") {
                symlink(target, &path).unwrap();
            } else if *content == "/" {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        folder
    }

    /// Builds for both platforms and pushes.
    pub(crate) fn build(&self, name: &str, dockerfile: &str, files: Files<'_>) -> Digest {
        let folder = self.folder(files);
        fs::write(folder.join("Dockerfile"), dockerfile.replace("REGISTRY", &self.registry.host())).unwrap();
        fs::write(folder.join(".dockerignore"), "Dockerfile\n.dockerignore\n").unwrap();
        let options = vast_imagegen::build::Options {
            dockerfile: folder.join("Dockerfile"),
            folder,
            platforms: PLATFORMS.iter().map(|platform| platform.parse().unwrap()).collect(),
            build_args: BTreeMap::new(),
            contexts: BTreeMap::new(),
            target: None,
            engine: Engine::Native,
            installed: Vec::new(),
            builder: None,
            compression: Compression::Gzip,
            epoch: DEFAULT_EPOCH,
            limits: Limits::default(),
            threads: 1,
            local: false,
            cache: None,
            work: self.dir.path().join("work"),
            version: None,
            revision: None,
            title: None,
        };
        let (runner, progress): (Arc<dyn Runner>, Arc<dyn Progress>) = (Arc::new(System::default()), Arc::new(Silent));
        run(async {
            let built = Build::plan(options).unwrap().run(&self.transports, &runner, &progress).await.unwrap();
            let sink = open_sink(&self.at(name).parse().unwrap(), &self.transports).await.unwrap();
            publish(&built.publication(), &*sink, 2, &()).await.unwrap();
            built.digest()
        })
    }

    pub(crate) fn extend_options(&self, files: Files<'_>, index: bool) -> vast_imagegen::extend::Options {
        vast_imagegen::extend::Options {
            overlay: self.folder(files),
            index,
            compression: Compression::Gzip,
            threads: 1,
            local: false,
            stamp: Stamp { epoch: DEFAULT_EPOCH, ..Stamp::default() },
            cache: None,
            work: self.dir.path().join("work"),
        }
    }

    /// Extends, pushes, and attaches the indexes that were read.
    pub(crate) fn extend(&self, image: &str, files: Files<'_>, index: bool, to: &str) -> Result<Extended, Error> {
        let (image, to): (Reference, Reference) = (self.at(image).parse().unwrap(), self.at(to).parse().unwrap());
        let options = self.extend_options(files, index);
        run(async {
            let source: Arc<dyn ImageSource> = open_source(&image, &self.transports).await?.into();
            let extended = extend(&source, &image, &options).await?;
            publish(&extended.built.publication(), &*open_sink(&to, &self.transports).await?, 2, &()).await?;
            attach_only(&extended.indexes(), &*open_sink(&image, &self.transports).await?).await?;
            Ok(extended)
        })
    }

    pub(crate) fn rebase_options(
        &self,
        onto: &str,
        from: Option<&str>,
        allow: &[Kind],
    ) -> vast_imagegen::rebase::Options {
        vast_imagegen::rebase::Options {
            onto: self.at(onto).parse().unwrap(),
            from: from.map(|from| self.at(from).parse().unwrap()),
            allow: allow.iter().copied().collect::<BTreeSet<_>>(),
            compression: Compression::Gzip,
            stamp: Stamp { epoch: DEFAULT_EPOCH, ..Stamp::default() },
            cache: None,
            work: self.dir.path().join("work"),
        }
    }

    /// Rebases and, where that is possible, pushes.
    pub(crate) fn rebase(&self, image: &str, onto: &str, allow: &[Kind], to: &str) -> Result<Vec<Outcome>, Error> {
        self.rebase_from(image, onto, None, allow, to)
    }

    pub(crate) fn rebase_from(
        &self,
        image: &str,
        onto: &str,
        from: Option<&str>,
        allow: &[Kind],
        to: &str,
    ) -> Result<Vec<Outcome>, Error> {
        let (image, to): (Reference, Reference) = (self.at(image).parse().unwrap(), self.at(to).parse().unwrap());
        let options = self.rebase_options(onto, from, allow);
        run(async {
            let rebasing = Rebasing::new(&options, &self.transports).await?;
            let rebased = rebasing.rebase(&image).await?;
            if let Some(built) = &rebased.built {
                publish(&built.publication(), &*open_sink(&to, &self.transports).await?, 2, &()).await?;
            }
            for found in rebasing.found().await {
                let sink = open_sink(&found.reference.parse().unwrap(), &self.transports).await?;
                attach_only(&found.publication(), &*sink).await?;
            }
            Ok(rebased.outcomes)
        })
    }

    /// The conflicts of a rebase that must be refused, the same on both platforms, as people see them.
    pub(crate) fn refused(&self, image: &str, onto: &str) -> Vec<String> {
        let outcomes = self.rebase(image, onto, &[], "never:pushed").unwrap();
        assert!(outcomes.iter().all(|outcome| !outcome.possible), "{outcomes:?}");
        assert_eq!(self.registry.tag("never", "pushed"), None);
        let told = |outcome: &Outcome| outcome.conflicts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&outcomes[0]), told(&outcomes[1]));
        told(&outcomes[0])
    }

    pub(crate) fn image(&self, name: &str, platform: &str) -> Image {
        let platform: Platform = platform.parse().unwrap();
        run(async { self.source(name).await.image(&platform).await.unwrap() })
    }

    pub(crate) async fn source(&self, name: &str) -> Arc<dyn ImageSource> {
        open_source(&self.at(name).parse().unwrap(), &self.transports).await.unwrap().into()
    }

    pub(crate) fn layers(&self, name: &str, platform: &str) -> Vec<String> {
        self.image(name, platform).manifest.layers().iter().map(|layer| layer.digest().to_string()).collect()
    }

    pub(crate) fn config(&self, name: &str, platform: &str) -> serde_json::Value {
        serde_json::from_slice(&self.image(name, platform).raw_config).unwrap()
    }

    /// What an image's layers amount to, read from the layers: `/path` to kind, mode, owner, and of files their size.
    pub(crate) fn listing(&self, name: &str, platform: &str) -> BTreeMap<String, String> {
        let image = self.image(name, platform);
        let mut tree = Tree::default();
        let mut indexes = Vec::new();
        for (number, layer) in image.manifest.layers().iter().enumerate() {
            let blob = self.registry_blob(name, layer.digest().as_ref());
            let index = LayerIndex::read(Box::new(std::io::Cursor::new(blob))).unwrap();
            tree.apply(number, &index).unwrap();
            indexes.push(index);
        }
        let line = |(path, node): (PathBuf, &vast_imagegen::layer::Node)| {
            let kind = match &node.kind {
                NodeKind::Directory => "dir".to_owned(),
                NodeKind::File { content, .. } => {
                    format!("file {}", indexes[content.layer].content(content.entry).unwrap())
                }
                NodeKind::Symlink { target } => format!("-> {}", target.display()),
                other => format!("{other:?}"),
            };
            let metadata = &node.metadata;
            (format!("/{}", path.display()), format!("{:o} {}:{} {kind}", metadata.mode, metadata.uid, metadata.gid))
        };
        tree.iter().map(line).collect()
    }

    fn registry_blob(&self, name: &str, digest: &str) -> Vec<u8> {
        let repository = name.split([':', '@']).next().unwrap();
        self.registry.blob(repository, digest).unwrap()
    }

    /// Pushes an image again without what is recorded about it, as another tool would have.
    pub(crate) fn without_records(&self, from: &str, to: &str) {
        let (repository, tag) = to.split_once(':').unwrap();
        let from_repository = from.split(':').next().unwrap();
        let top = run(async { self.source(from).await.top().await.unwrap() });
        for platform in PLATFORMS {
            let image = self.image(from, platform);
            self.registry.push_blob(repository, &image.raw_config);
            for layer in image.manifest.layers() {
                let blob = self.registry.blob(from_repository, layer.digest().as_ref()).unwrap();
                self.registry.push_blob(repository, &blob);
            }
            self.registry.push_manifest(repository, None, &image.raw.media_type, &image.raw.bytes);
        }
        self.registry.push_manifest(repository, Some(tag), &top.media_type, &top.bytes);
    }

    /// Records that no layer of an image holds anything; with the blobs that say so, or without.
    pub(crate) fn record_false_indexes(&self, name: &str, with_blobs: bool) {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let repository = name.split(':').next().unwrap();
        let describe = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes).to_string();
            serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        self.registry.push_blob(repository, b"{}");
        for platform in PLATFORMS {
            let image = self.image(name, platform);
            let indexes = image.config.rootfs().diff_ids().iter().map(|diff_id| {
                let bytes = LayerIndex::default().encode(&diff_id.parse().unwrap()).unwrap();
                if with_blobs {
                    self.registry.push_blob(repository, &bytes);
                }
                let mut descriptor = describe(PATH_INDEX, &bytes);
                descriptor["annotations"] = serde_json::json!({DIFF_ID: diff_id});
                descriptor
            });
            let record = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": PATH_INDEXES,
                "config": describe("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": indexes.collect::<Vec<_>>(),
                "subject": describe(&image.raw.media_type, &image.raw.bytes),
            });
            self.registry.push_manifest(repository, None, MANIFEST, record.to_string().as_bytes());
        }
    }

    /// Deletes what is recorded about an image, as a clean-up of what no tag names does. Lists go on naming it.
    pub(crate) fn clean_up(&self, name: &str) {
        for platform in PLATFORMS {
            let digest = self.image(name, platform).raw.digest();
            for entry in run(async { self.source(name).await.referrers(&digest, None).await.unwrap() }) {
                self.registry.delete_manifest(name.split(':').next().unwrap(), entry.digest().as_ref());
            }
        }
    }

    /// The digests of the path indexes that are recorded with one platform of an image, from the bottom layer up.
    pub(crate) fn recorded_indexes(&self, name: &str, platform: &str) -> Vec<String> {
        let image = self.image(name, platform).raw.digest();
        run(async {
            let source = self.source(name).await;
            let entries = source.referrers(&image, Some(PATH_INDEXES)).await.unwrap();
            let record = source.manifest(&entries[0]).await.unwrap();
            let record = vast_imagegen::artifact::parse(&record, PATH_INDEXES, name).unwrap();
            record.layers().iter().map(|index| index.digest().to_string()).collect()
        })
    }

    /// How often something was fetched since `mark` requests had been made whose address contains `part`.
    pub(crate) fn fetched_since(&self, mark: usize, part: &str) -> usize {
        let fetched = self.registry.log().into_iter().skip(mark);
        fetched.filter(|entry| entry.method == "GET" && entry.target.contains(part)).count()
    }

    /// Whether any of an image's layers was fetched since `mark` requests had been made.
    pub(crate) fn layers_fetched_since(&self, mark: usize) -> Vec<String> {
        let layers: BTreeSet<String> = self.all_layers();
        let fetched = self.registry.log().into_iter().skip(mark).filter(|entry| entry.method == "GET");
        fetched.filter_map(|entry| layers.iter().find(|layer| entry.target.contains(layer.as_str())).cloned()).collect()
    }

    /// The digests of the layers of every image that is tagged. Reads them, so it must not be called before a mark is taken.
    fn all_layers(&self) -> BTreeSet<String> {
        let mut layers = BTreeSet::new();
        for repository in ["base", "app", "one", "two", "three", "plain"] {
            for tag in self.registry.tags(repository) {
                if tag.starts_with("sha256-") {
                    continue;
                }
                for platform in PLATFORMS {
                    layers.extend(self.layers(&format!("{repository}:{tag}"), platform));
                }
            }
        }
        layers
    }

    pub(crate) fn mark(&self) -> usize {
        self.registry.log().len()
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// The error and its causes.
pub(crate) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
