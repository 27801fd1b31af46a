//! Small images, made in memory.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// `sha256:` and the digest of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// One image, ready to be pushed or written into a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestImage {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// The configuration.
    pub config: Vec<u8>,
    /// The layers, compressed as the manifest says.
    pub layers: Vec<Vec<u8>>,
    /// `os/architecture` of the configuration.
    pub platform: String,
}

impl TestImage {
    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// The descriptor of the manifest, with its platform.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        let (os, architecture) = self.platform.split_once('/').unwrap();
        json!({
            "mediaType": self.media_type,
            "digest": self.digest(),
            "size": self.manifest.len(),
            "platform": {"os": os, "architecture": architecture},
        })
    }
}

/// An index of `images`, with the media type of OCI.
#[must_use]
pub fn index(images: &[TestImage]) -> Vec<u8> {
    let manifests: Vec<Value> = images.iter().map(TestImage::descriptor).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    serde_json::to_vec(&index).unwrap()
}

/// An uncompressed layer: a tar archive, built up entry by entry.
pub struct Layer {
    builder: tar::Builder<Vec<u8>>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layer({} bytes)", self.builder.get_ref().len())
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty layer.
    #[must_use]
    pub fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    /// Adds a file with the mode 0644.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = header(content.len(), 0o644);
        self.builder.append_data(&mut header, path, content).unwrap();
        self
    }

    /// Adds a folder with the mode 0755.
    #[must_use]
    pub fn folder(self, path: &str) -> Self {
        self.folder_of_mode(path, 0o755)
    }

    /// Adds a folder with this mode.
    #[must_use]
    pub fn folder_of_mode(mut self, path: &str, mode: u32) -> Self {
        let mut header = header(0, mode);
        header.set_entry_type(tar::EntryType::Directory);
        self.builder.append_data(&mut header, path, &[][..]).unwrap();
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        self.builder.append_link(&mut header, path, target).unwrap();
        self
    }

    /// Adds another name of a file.
    #[must_use]
    pub fn hard_link(mut self, path: &str, target: &str) -> Self {
        let mut header = header(0, 0o644);
        header.set_entry_type(tar::EntryType::Link);
        self.builder.append_link(&mut header, path, target).unwrap();
        self
    }

    /// The archive.
    #[must_use]
    pub fn tar(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}

fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// `bytes` as one gzip member.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Makes a [`TestImage`]. Without a layer it gets one with the files given to [`file`](Self::file).
#[derive(Debug)]
pub struct ImageBuilder {
    platform: String,
    docker: bool,
    compressed: bool,
    files: Vec<(String, Vec<u8>)>,
    layers: Vec<Vec<u8>>,
    config: Map<String, Value>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// A `linux/amd64` image of OCI media types with gzip layers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            platform: "linux/amd64".to_owned(),
            docker: false,
            compressed: true,
            files: Vec::new(),
            layers: Vec::new(),
            config: Map::new(),
        }
    }

    /// Sets `os/architecture`.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        platform.clone_into(&mut self.platform);
        self
    }

    /// Uses Docker's media types.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Leaves the layers uncompressed.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.compressed = false;
        self
    }

    /// Adds a file to the layer made of all such files.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.to_owned(), content.to_vec()));
        self
    }

    /// Adds a layer.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer.tar());
        self
    }

    /// Sets a field of the configuration's `config`, such as `Entrypoint`.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config.insert(field.to_owned(), value);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        let labels = self.config.entry("Labels").or_insert_with(|| json!({}));
        labels[name] = json!(value);
        self
    }

    /// The image.
    #[must_use]
    pub fn build(self) -> TestImage {
        let mut tars = self.layers;
        if !self.files.is_empty() || tars.is_empty() {
            let layer = self.files.iter().fold(Layer::new(), |layer, (path, content)| layer.file(path, content));
            tars.push(layer.tar());
        }
        let (os, architecture) = self.platform.split_once('/').unwrap();
        let history: Vec<Value> = (0..tars.len()).map(|n| json!({"created_by": format!("layer {n}")})).collect();
        let config = serde_json::to_vec(&json!({
            "os": os,
            "architecture": architecture,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": tars.iter().map(|tar| digest(tar)).collect::<Vec<_>>()},
            "history": history,
        }))
        .unwrap();
        let layers: Vec<Vec<u8>> = if self.compressed { tars.iter().map(|tar| gzip(tar)).collect() } else { tars };
        let (manifest_type, config_type, layer_type) = match (self.docker, self.compressed) {
            (true, true) => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            (true, false) => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar",
            ),
            (false, compressed) => (
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
                if compressed {
                    "application/vnd.oci.image.layer.v1.tar+gzip"
                } else {
                    "application/vnd.oci.image.layer.v1.tar"
                },
            ),
        };
        let descriptor =
            |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": descriptor(config_type, &config),
            "layers": layers.iter().map(|layer| descriptor(layer_type, layer)).collect::<Vec<_>>(),
        }))
        .unwrap();
        TestImage { manifest, media_type: manifest_type.to_owned(), config, layers, platform: self.platform }
    }
}
