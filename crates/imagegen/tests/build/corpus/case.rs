//! One case of the corpus: a Dockerfile, its context, and what is known about it, in one text file.
//!
//! Text before the first mark says what the case is about. A mark is a line `-- NAME --`; what follows it, up to the next
//! mark, is its body:
//!
//! | mark | meaning |
//! |---|---|
//! | `Dockerfile` | what is built |
//! | `Dockerfile.buildah` | the same image, written without what the buildah of the tests does not know; the first line says what that is. buildah must refuse the original |
//! | `PATH`, `PATH 755` | a file of the context; `PATH -> TARGET` is a link, `PATH/` a directory, `PATH = TARGET` a hard link |
//! | `PATH: archive` | a tar archive, compressed as its name says; one member a line, see [`archive`] |
//! | `arguments` | `NAME=VALUE` lines: build arguments |
//! | `differs: KEY = VALUE` | a path or a field of the configuration that is not as buildah makes it: what it is instead, `none` where it is not there; the body gives the reason |
//! | `refused: TEXT` | nothing is built, and the message has this text; the body gives the reason if buildah builds it |
//! | `unindexed: TEXT` | of an overlay: without path indexes it is refused, and the message has this text |
//! | `unindexed differs: KEY = VALUE` | of an overlay: a path that is not the same without path indexes; the body gives the reason |
//! | `unusable: TEXT` | of an overlay: without path indexes it makes an image that `umoci` does not unpack, for what it says in this text; the body gives the reason |

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// A case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) dockerfile: String,
    pub(crate) dockerfile_for_buildah: Option<String>,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) arguments: BTreeMap<String, String>,
    /// What is ours where buildah has something else.
    pub(crate) differences: BTreeMap<String, String>,
    pub(crate) refused: Option<String>,
    /// What is said of an overlay on an image without path indexes; without it the result is the same as with them.
    pub(crate) unindexed: Option<String>,
    /// What is there without path indexes where there is something else with them.
    pub(crate) unindexed_differences: BTreeMap<String, String>,
    /// What `umoci` says of the image that comes of it without path indexes.
    pub(crate) unusable: Option<String>,
}

impl Case {
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let mut case = Self { name: name.to_owned(), ..Self::default() };
        let mut parts: Vec<(String, String)> = Vec::new();
        let mut about = String::new();
        for line in text.split_inclusive('\n') {
            let mark = line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            match (mark, parts.last_mut()) {
                (Some(mark), _) => parts.push((mark.to_owned(), String::new())),
                (None, Some((_, body))) => body.push_str(line),
                (None, None) => about.push_str(line),
            }
        }
        assert!(!about.trim().is_empty(), "{name} does not say what it is about");
        for (mark, body) in parts {
            if let Some((kind, difference)) = mark.split_once("differs: ") {
                let (key, value) = difference.split_once(" = ").unwrap_or_else(|| panic!("{name}: `{mark}`"));
                assert!(!body.trim().is_empty(), "{name} gives no reason why `{key}` differs");
                let differences = match kind {
                    "" => &mut case.differences,
                    "unindexed " => &mut case.unindexed_differences,
                    _ => panic!("{name}: `{mark}`"),
                };
                differences.insert(key.to_owned(), value.to_owned());
            } else if let Some(said) = mark.strip_prefix("unusable: ") {
                assert!(!body.trim().is_empty(), "{name} gives no reason why it is unusable");
                case.unusable = Some(said.to_owned());
            } else if let Some(said) = mark.strip_prefix("refused: ") {
                case.refused = Some(said.to_owned());
            } else if let Some(said) = mark.strip_prefix("unindexed: ") {
                case.unindexed = Some(said.to_owned());
            } else if mark == "Dockerfile" {
                case.dockerfile = body;
            } else if mark == "Dockerfile.buildah" {
                assert!(body.starts_with("# "), "{name} does not say what buildah does not know");
                case.dockerfile_for_buildah = Some(body);
            } else if mark == "arguments" {
                let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
                case.arguments = body.lines().filter_map(pair).collect();
            } else {
                case.files.push((mark, body));
            }
        }
        case
    }

    /// Lays the context out in `folder`, with the modes that a checkout has under the usual umask.
    pub(crate) fn lay_out(&self, folder: &Path) {
        for (mark, body) in &self.files {
            self.make(folder, mark, body);
        }
        usual_modes(folder);
    }

    fn make(&self, folder: &Path, mark: &str, body: &str) {
        let parents = |path: &Path| fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((path, target)) = mark.split_once(" -> ") {
            parents(&folder.join(path));
            symlink(target, folder.join(path)).unwrap();
        } else if let Some((path, target)) = mark.split_once(" = ") {
            parents(&folder.join(path));
            fs::hard_link(folder.join(target), folder.join(path)).unwrap();
        } else if let Some(path) = mark.strip_suffix(": archive") {
            parents(&folder.join(path));
            fs::write(folder.join(path), packed(path, &archive(&self.name, body))).unwrap();
        } else if mark.ends_with('/') {
            fs::create_dir_all(folder.join(mark)).unwrap();
        } else {
            let (path, mode) = match mark.rsplit_once(' ') {
                Some((path, mode)) if mode.len() >= 3 && mode.bytes().all(|b| b.is_ascii_digit()) => (path, mode),
                _ => (mark, "644"),
            };
            let path = folder.join(path);
            parents(&path);
            fs::write(&path, body).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap())).unwrap();
        }
    }
}

/// A directory 0755, a file 0755 or 0644. Git keeps no more, so more means nothing to us; to buildah it would.
fn usual_modes(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            usual_modes(&path);
        } else if found.is_file() {
            let mode = if found.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn packed(path: &str, plain: &[u8]) -> Vec<u8> {
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("gz" | "tgz") => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Some("zst") => zstd::encode_all(plain, 1).unwrap(),
        _ => plain.to_vec(),
    }
}

/// A tar archive from lines `KIND PATH MODE UID:GID [REST]`: `dir`, `file` (REST is its content, with `\n` where lines end),
/// `link` and `hard` (REST is their target), `char` and `block` (REST is `major:minor`), `fifo`. `xattr NAME VALUE` belongs to
/// the next member.
pub(crate) fn archive(name: &str, lines: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut extended: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let bad = || -> ! { panic!("{name}: `{line}` is no member of an archive") };
        if let Some((attribute, value)) = line.strip_prefix("xattr ").and_then(|rest| rest.split_once(' ')) {
            extended.push((format!("SCHILY.xattr.{attribute}"), value.as_bytes().to_vec()));
            continue;
        }
        let mut words = line.splitn(5, ' ');
        let [kind, path, mode, owner] = std::array::from_fn(|_| words.next().unwrap_or_else(|| bad()));
        let rest = words.next().unwrap_or_default();
        let (uid, gid) = owner.split_once(':').unwrap_or_else(|| bad());
        let mut header = tar::Header::new_ustar();
        header.set_mode(u32::from_str_radix(mode, 8).unwrap());
        header.set_uid(uid.parse().unwrap());
        header.set_gid(gid.parse().unwrap());
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        if !extended.is_empty() {
            builder.append_pax_extensions(extended.iter().map(|(key, value)| (key.as_str(), &value[..]))).unwrap();
            extended.clear();
        }
        let kind = match kind {
            "dir" => tar::EntryType::Directory,
            "file" => tar::EntryType::Regular,
            "link" => tar::EntryType::Symlink,
            "hard" => tar::EntryType::Link,
            "char" => tar::EntryType::Char,
            "block" => tar::EntryType::Block,
            "fifo" => tar::EntryType::Fifo,
            _ => bad(),
        };
        header.set_entry_type(kind);
        match kind {
            tar::EntryType::Symlink | tar::EntryType::Link => builder.append_link(&mut header, path, rest).unwrap(),
            tar::EntryType::Regular => {
                let content = rest.replace("\\n", "\n");
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
            _ => {
                if let Some((major, minor)) = rest.split_once(':') {
                    header.set_device_major(major.parse().unwrap()).unwrap();
                    header.set_device_minor(minor.parse().unwrap()).unwrap();
                }
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}
