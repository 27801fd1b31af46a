//! A folder to build, and what came out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use vast_imagegen::Error;
use vast_imagegen::build::runner::{Runner, System};
use vast_imagegen::build::{Build, DEFAULT_EPOCH, Engine, Limits, Options, Progress};
use vast_imagegen::layer::spool::Spool;
use vast_imagegen::layer::{Compression, LayerIndex, NodeKind, Tree};
use vast_imagegen::platform::Platform;
use vast_imagegen::publish::publish;
use vast_imagegen::reference::Reference;
use vast_imagegen::registry::{Client, Settings};
use vast_imagegen::source::Image;
use vast_imagegen::transport::{TransportOptions, open_sink, open_source};

/// A directory with an image's folder in `image`, and room for results.
pub(crate) struct Workplace {
    directory: TempDir,
    pub(crate) warnings: Arc<Notes>,
    pub(crate) runner: Arc<dyn Runner>,
}

/// What a build said.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<String>>);

impl Progress for Notes {
    fn step(&self, _: &str) {}

    fn warning(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn output(&self, _: &str) {}
}

impl Workplace {
    /// A folder with this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let workplace = Self {
            directory: tempfile::tempdir().unwrap(),
            warnings: Arc::default(),
            runner: Arc::new(System::default()),
        };
        for folder in ["image", "work", "cache"] {
            fs::create_dir(workplace.path(folder)).unwrap();
        }
        workplace.dockerfile(dockerfile)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn dockerfile(self, text: &str) -> Self {
        self.file("Dockerfile", text)
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        let path = self.path("image").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    pub(crate) fn program(self, name: &str) -> Self {
        let workplace = self.file(name, "#!/bin/sh\n");
        let path = workplace.path("image").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        workplace
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        let path = self.path("image").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            folder: self.path("image"),
            dockerfile: self.path("image/Dockerfile"),
            platforms: vec![Platform::host()],
            build_args: BTreeMap::new(),
            contexts: BTreeMap::new(),
            target: None,
            engine: Engine::Native,
            installed: vec![Engine::Buildah, Engine::Buildkit],
            builder: None,
            compression: Compression::Gzip,
            epoch: DEFAULT_EPOCH,
            limits: Limits::default(),
            threads: 2,
            local: false,
            cache: Some(self.path("cache")),
            work: self.path("work"),
            version: None,
            revision: None,
            title: None,
        }
    }

    /// Builds into `oci:NAME:v1` of this workplace.
    pub(crate) fn build_as(&self, name: &str, change: impl FnOnce(&mut Options)) -> Result<Built, Error> {
        let mut options = self.options();
        change(&mut options);
        let reference: Reference = format!("oci:{}:v1", self.path(name).display()).parse().unwrap();
        let progress: Arc<dyn Progress> = self.warnings.clone();
        let outcome = run(async {
            let transports = transports();
            let built = Build::plan(options)?.run(&transports, &self.runner, &progress).await?;
            let sink = open_sink(&reference, &transports).await?;
            publish(&built.publication(), &*sink, 2, &()).await?;
            Ok(built.digest().to_string())
        });
        let left = fs::read_dir(self.path("work")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing temporary is left, whatever happened");
        outcome.map(|digest| Built { digest, reference })
    }

    pub(crate) fn build(&self) -> Built {
        self.build_as("result", |_| ())
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }

    /// The message of a build that must fail, and its hint.
    pub(crate) fn refusal(&self, change: impl FnOnce(&mut Options)) -> (String, Option<String>) {
        let error = self.build_as("result", change).map(|built| built.digest).unwrap_err();
        assert!(!self.path("result").exists(), "nothing was published");
        let mut text = error.to_string().replace(&format!("{}/", self.directory.path().display()), "");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if !text.ends_with(&cause.to_string()) {
                text = format!("{text}: {cause}");
            }
            source = cause.source();
        }
        (text, error.hint())
    }
}

/// A published build.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) digest: String,
    pub(crate) reference: Reference,
}

impl Built {
    pub(crate) fn image(&self) -> Image {
        image(&self.reference)
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&self.image().raw_config).unwrap()
    }

    /// Every path with its kind, mode, owner and content.
    pub(crate) fn listing(&self) -> BTreeMap<String, String> {
        listing(&self.reference)
    }

    /// The paths of the topmost layer, in its order.
    pub(crate) fn top_layer(&self) -> Vec<String> {
        run(async {
            let source = open_source(&self.reference, &transports()).await.unwrap();
            let image = source.image(&Platform::host()).await.unwrap();
            let blob = source.open_blob(image.manifest.layers().last().unwrap()).await.unwrap();
            let index = LayerIndex::read(blob).unwrap();
            index.entries.iter().map(|entry| entry.path.display().to_string()).collect()
        })
    }

    pub(crate) fn reference(&self) -> String {
        self.reference.to_string()
    }
}

pub(crate) fn image(reference: &Reference) -> Image {
    run(async { open_source(reference, &transports()).await.unwrap().image(&Platform::host()).await.unwrap() })
}

/// What an image's layers amount to: `/path` to `kind mode uid:gid content`.
pub(crate) fn listing(reference: &Reference) -> BTreeMap<String, String> {
    let work = tempfile::tempdir().unwrap();
    run(async {
        let source = open_source(reference, &transports()).await.unwrap();
        let image = source.image(&Platform::host()).await.unwrap();
        let mut tree = Tree::default();
        let mut spool = Spool::create(work.path()).unwrap();
        for (number, descriptor) in image.manifest.layers().iter().enumerate() {
            let index = LayerIndex::read(source.open_blob(descriptor).await.unwrap()).unwrap();
            tree.apply(number, &index).unwrap();
            let files = index
                .entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| matches!(entry.kind, vast_imagegen::layer::Kind::File { .. }));
            let wanted: BTreeSet<usize> = files.map(|(number, _)| number).collect();
            spool.take(number, source.open_blob(descriptor).await.unwrap(), &wanted, u64::MAX).unwrap();
        }
        let line = |(path, node): (PathBuf, &vast_imagegen::layer::Node)| {
            let kind = match &node.kind {
                NodeKind::Directory => "dir".to_owned(),
                NodeKind::File { content, .. } => {
                    let bytes = fs::read(spool.path(*content).unwrap()).unwrap();
                    format!("file {:?}", String::from_utf8_lossy(&bytes))
                }
                NodeKind::Symlink { target } => format!("-> {}", target.display()),
                other => format!("{other:?}"),
            };
            let metadata = &node.metadata;
            (format!("/{}", path.display()), format!("{:o} {}:{} {kind}", metadata.mode, metadata.uid, metadata.gid))
        };
        tree.iter().map(line).collect()
    })
}

pub(crate) fn transports() -> TransportOptions {
    TransportOptions::new(Client::new(Settings::default()))
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}
