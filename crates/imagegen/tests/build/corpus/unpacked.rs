//! What an image is, told by a program that is not ours: its root filesystem as `umoci` unpacks it, its configuration as it
//! is stored.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use vast_imagegen::digest::Digest;

/// Paths of the root filesystem and fields of the configuration, each with what it is, times left out.
pub(crate) type Facts = BTreeMap<String, String>;

/// Everything about the image `reference` (`DIRECTORY:TAG` of a layout), with `scratch` as a place to unpack it.
pub(crate) fn facts(layout: &Path, scratch: &Path) -> Facts {
    facts_if_usable(layout, scratch).unwrap_or_else(|said| panic!("umoci: {said}"))
}

/// The same, or what `umoci` says of an image that it cannot unpack.
pub(crate) fn facts_if_usable(layout: &Path, scratch: &Path) -> Result<Facts, String> {
    let root = scratch.join("root");
    let image = format!("{}:v1", layout.display());
    let unpacking = Command::new("umoci").args(["raw", "unpack", "--image", &image]).arg(&root).output().unwrap();
    if !unpacking.status.success() {
        // It may have failed before it made anything.
        let _ = fs::remove_dir_all(&root);
        return Err(String::from_utf8_lossy(&unpacking.stderr).into_owned());
    }
    let mut facts = Facts::new();
    let mut names = BTreeMap::new();
    list(&root, Path::new(""), &mut names, &mut facts);
    fs::remove_dir_all(&root).unwrap();
    configuration(layout, &mut facts);
    Ok(facts)
}

/// `first_names` are the first names of files with several.
fn list(root: &Path, path: &Path, first_names: &mut BTreeMap<u64, PathBuf>, facts: &mut Facts) {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full).unwrap();
    let kind = found.file_type();
    let device = || format!("{}:{}", rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let (kind, rest) = if kind.is_dir() {
        ("dir", String::new())
    } else if kind.is_file() {
        ("file", content(&fs::read(&full).unwrap()))
    } else if kind.is_symlink() {
        ("link", fs::read_link(&full).unwrap().display().to_string())
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else if kind.is_char_device() {
        ("char", device())
    } else if kind.is_block_device() {
        ("block", device())
    } else {
        ("other", String::new())
    };
    let mut line = format!("{kind} {:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid());
    line.extend((!rest.is_empty()).then(|| format!(" {rest}")));
    for (name, value) in attributes(&full) {
        line.extend([" ", &name, "=", &value]);
    }
    if found.is_file() && found.nlink() > 1 {
        let first = first_names.entry(found.ino()).or_insert_with(|| path.to_owned());
        line.extend([" is /", &first.to_string_lossy()]);
    }
    facts.insert(format!("/{}", path.display()), line);
    if found.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            list(root, &path.join(name), first_names, facts);
        }
    }
}

/// A short content itself, a long one by its digest.
fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 200 => format!("{text:?}"),
        _ => format!("{} bytes {}", bytes.len(), Digest::of(bytes)),
    }
}

fn attributes(path: &Path) -> BTreeMap<String, String> {
    let mut buffer = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let names = buffer[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
        (String::from_utf8_lossy(name).into_owned(), hex(&value[..length]))
    };
    // What a security module puts on every file of this machine is not the image's.
    names.filter(|name| *name != b"security.selinux").map(value).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The fields of the configuration. Left out are times, identities of containers, and the records that `vast-imagegen` keeps
/// in every image; what is empty is as good as missing.
fn configuration(layout: &Path, facts: &mut Facts) {
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice::<Value>(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let config = blob(&blob(&index["manifests"][0]["digest"])["config"]["digest"]);
    for key in ["os", "architecture", "variant", "author"] {
        note(key, &config[key], facts);
    }
    for (key, value) in config["config"].as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("Hostname" | "Domainname" | "Image", _) => {}
            ("Labels" | "Healthcheck", Value::Object(fields)) => {
                let fields = fields.iter().filter(|(name, _)| !name.starts_with("org.opencontainers.image."));
                fields.for_each(|(name, value)| note(&format!("{key}.{name}"), value, facts));
            }
            _ => note(key, value, facts),
        }
    }
}

fn note(key: &str, value: &Value, facts: &mut Facts) {
    let is_empty = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() && !key.starts_with("Labels."),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if !is_empty {
        facts.insert(key.to_owned(), sorted(value).to_string());
    }
}

/// The same with the keys of objects in order, which has no meaning.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> = fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            json!(fields)
        }
        other => other.clone(),
    }
}

/// Writes an OCI layout with one image, named `v1`, in the new directory `directory`.
pub(crate) fn write_layout(directory: &Path, config: &[u8], layers: &[(String, Vec<u8>)]) {
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let layers: Vec<Value> = layers.iter().map(|(media_type, bytes)| blob(media_type, bytes)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    });
    let mut named = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [named]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Writes an image whose layers are these archives, compressed. `more` are further fields of its document.
pub(crate) fn write_image(directory: &Path, config: &Value, archives: &[Vec<u8>], more: &Value) {
    let mut document = json!({"os": "linux", "config": config});
    document["architecture"] = json!(vast_imagegen::platform::Platform::host().architecture);
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    let diff_ids: Vec<String> = archives.iter().map(|archive| Digest::of(archive).to_string()).collect();
    document["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let packed = |archive: &Vec<u8>| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(archive).unwrap();
        ("application/vnd.oci.image.layer.v1.tar+gzip".to_owned(), encoder.finish().unwrap())
    };
    let layers: Vec<_> = archives.iter().map(packed).collect();
    write_layout(directory, document.to_string().as_bytes(), &layers);
}
