//! Overlays on images that another tool made: what `extend` puts on top is what buildah's `COPY` puts there, as `umoci`
//! unpacks both, whether the image's path indexes are recorded, read, or not known at all.
//!
//! The cases are in `tests/overlays`. A whole overlay copied by buildah replaces links to directories and gives directories the
//! modes of the checkout; these differences are listed. Copied file by file it does neither, and nothing may differ then.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;
use vast_imagegen::Error;
use vast_imagegen::build::{DEFAULT_EPOCH, Stamp};
use vast_imagegen::extend::{Extended, Options, extend};
use vast_imagegen::layer::Compression;
use vast_imagegen::publish::{attach_only, publish};
use vast_imagegen::reference::Reference;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::{open_sink, open_source};
use vast_testkit::registry::Distribution;

use super::super::support::{run, transports};
use super::buildah::Buildah;
use super::case::{Case, archive};
use super::unpacked::{facts, facts_if_usable, write_image};
use super::{WORKERS, compare, read};

/// The image that overlays are put on. Upper layers delete a directory, empty one, and make one of a link.
const LAYERS: [&str; 2] = [
    "dir ./ 755 0:0\n\
     dir etc 755 0:0\n\
     file etc/conf 600 3:4 conf\n\
     dir root 700 0:0\n\
     dir tmp 1777 0:0\n\
     dir usr 755 0:0\n\
     dir usr/bin 755 0:0\n\
     file usr/bin/tool 755 0:0 tool\n\
     dir usr/lib 755 0:0\n\
     dir usr/sbin 755 0:0\n\
     link bin 777 0:0 usr/bin\n\
     link lib 777 0:0 usr/lib\n\
     link sbin 777 0:0 usr/sbin\n\
     dir run 755 0:0\n\
     dir run/lock 1777 0:0\n\
     dir var 755 0:0\n\
     dir var/tmp 1777 0:0\n\
     dir var/mail 2775 0:8\n\
     link var/lock 777 0:0 /run/lock\n\
     link var/run 777 0:0 /run\n\
     dir srv 755 0:0\n\
     dir srv/shared 2775 7:8\n\
     file srv/shared/old 640 7:8 old\n\
     link srv/absolute 777 0:0 /srv/shared\n\
     link srv/one 777 0:0 two\n\
     link srv/two 777 0:0 ../srv/three\n\
     link srv/three 777 0:0 shared\n\
     link srv/dangling 777 0:0 nowhere\n\
     link srv/loop 777 0:0 loop\n\
     dir opt 755 0:0\n\
     file opt/thing 755 3:4 thing\n\
     dir opt/folder 750 7:8\n\
     file opt/folder/inside 644 0:0 inside\n\
     link opt/to-file 777 0:0 thing\n\
     link opt/to-folder 777 0:0 folder\n\
     dir data 755 0:0\n\
     dir data/gone 2775 7:8\n\
     file data/gone/old 644 0:0 old\n\
     dir data/opaque 750 7:8\n\
     file data/opaque/old 644 0:0 old\n\
     link data/turned 777 0:0 opaque\n",
    "file data/.wh.gone 644 0:0\n\
     dir data/opaque 750 7:8\n\
     file data/opaque/.wh..wh..opq 644 0:0\n\
     dir data/turned 711 9:9\n",
];

/// The base in a registry twice: with its path indexes, and without anything recorded.
struct Bases {
    registry: Distribution,
    directory: tempfile::TempDir,
    layout: PathBuf,
}

impl Bases {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("overlays-").tempdir().unwrap();
        let layout = directory.path().join("base");
        let archives = LAYERS.map(|lines| archive("the base", lines));
        let config = json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/tool"], "Labels": {"of": "base"}});
        let step = |number: usize| json!({"created": "2001-01-01T00:00:00Z", "created_by": format!("layer {number}")});
        let history: Vec<_> = (0..archives.len()).map(step).collect();
        write_image(&layout, &config, &archives, &json!({"history": history}));
        let bases = Self { registry: Distribution::start(), directory, layout };
        for name in ["plain:v1", "recorded:v1"] {
            let copied = Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
                .arg(format!("oci:{}:v1", bases.layout.display()))
                .arg(format!("docker://{}", bases.registry.reference(name)))
                .output()
                .unwrap();
            assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        }
        let nothing = bases.directory.path().join("nothing");
        fs::create_dir(&nothing).unwrap();
        let extended = bases.extend("recorded:v1", &nothing, true, bases.directory.path(), "unchanged").unwrap();
        run(async {
            let recorded = bases.registry.reference("recorded:v1").parse().unwrap();
            let sink = open_sink(&recorded, &transports()).await.unwrap();
            attach_only(&extended.indexes(), &*sink).await.unwrap();
        });
        bases
    }

    /// Puts `overlay` on an image of the registry, into the layout `to` in `work`. No cache outlives a call.
    fn extend(&self, image: &str, overlay: &Path, index: bool, work: &Path, to: &str) -> Result<Extended, Error> {
        let image: Reference = self.registry.reference(image).parse().unwrap();
        let to: Reference = format!("oci:{}:v1", work.join(to).display()).parse().unwrap();
        let options = Options {
            overlay: overlay.to_owned(),
            index,
            compression: Compression::Gzip,
            threads: 1,
            local: false,
            stamp: Stamp { epoch: DEFAULT_EPOCH, ..Stamp::default() },
            cache: None,
            work: work.to_owned(),
        };
        run(async {
            let source: Arc<dyn ImageSource> = open_source(&image, &transports()).await?.into();
            let extended = extend(&source, &image, &options).await?;
            publish(&extended.built.publication(), &*open_sink(&to, &transports()).await?, 2, &()).await?;
            Ok(extended)
        })
    }

    /// Puts the overlay of one case on, in every way; what is not as it should be.
    fn check(&self, case: &Case, buildah: &Buildah) -> Result<(), String> {
        let work = tempfile::Builder::new().prefix("case-").tempdir_in(self.directory.path()).unwrap();
        let work = work.path();
        let overlay = work.join("overlay");
        fs::create_dir(&overlay).unwrap();
        case.lay_out(&overlay);
        let known = self.extend("recorded:v1", &overlay, false, work, "known");
        let read = self.extend("plain:v1", &overlay, true, work, "read");
        let unknown = self.extend("plain:v1", &overlay, false, work, "unknown");
        if let Some(said) = &case.refused {
            for outcome in [&known, &read] {
                refused(outcome, said)?;
            }
        }
        if let Some(said) = &case.unindexed {
            refused(&unknown, said)?;
            let hint = unknown.err().and_then(|error| error.hint()).unwrap_or_default();
            assert!(hint.contains("--index"), "{hint}");
        } else {
            let extended = unknown.map_err(|error| format!("it was refused without path indexes: {}", told(&error)))?;
            assert!(extended.platforms.iter().all(|platform| !platform.tree_known));
        }
        let unpacked = |layout: &str| facts(&work.join(layout), work);
        let named = |what: &'static str| move |said: String| format!("{what}:\n{said}");
        buildah.copy_over(&overlay, work).map_err(named("buildah"))?;
        if let Some(said) = &case.unusable {
            return match facts_if_usable(&work.join("unknown"), work) {
                Err(message) if message.contains(said) => Ok(()),
                Err(message) => Err(format!("umoci: {message}")),
                Ok(_) => Err("umoci unpacks it without path indexes".to_owned()),
            };
        }
        if case.refused.is_some() {
            // Without path indexes nobody knows what is in the way: it goes, as buildah lets it go.
            return compare(&unpacked("unknown"), &unpacked("theirs"), case).map_err(named("without indexes"));
        }
        let (known, read) = (known.map_err(|error| told(&error))?, read.map_err(|error| told(&error))?);
        assert!(known.platforms.iter().all(|platform| platform.tree_known && platform.indexed.is_empty()));
        assert!(read.platforms.iter().all(|platform| platform.tree_known && platform.indexed.len() == LAYERS.len()));
        let (ours, same) = (unpacked("known"), Case::default());
        compare(&unpacked("read"), &ours, &same).map_err(named("indexes read, and recorded"))?;
        if case.unindexed.is_none() {
            let listed = Case { differences: case.unindexed_differences.clone(), ..Case::default() };
            compare(&unpacked("unknown"), &ours, &listed).map_err(named("without indexes, and with"))?;
        }
        compare(&ours, &unpacked("theirs"), case).map_err(named("`COPY overlay/ /`"))?;
        if let Some(dockerfile) = file_by_file(&overlay).filter(|_| !case.differences.is_empty()) {
            let path = work.join("Dockerfile");
            fs::write(&path, dockerfile).unwrap();
            fs::create_dir(work.join("by-file")).unwrap();
            buildah.build(&overlay, &path, &[], &work.join("by-file")).map_err(named("buildah"))?;
            compare(&ours, &unpacked("by-file/theirs"), &same).map_err(named("`COPY FILE /FILE`"))?;
        }
        Ok(())
    }
}

fn refused(outcome: &Result<Extended, Error>, said: &str) -> Result<(), String> {
    match outcome {
        Err(error) if told(error).contains(said) => Ok(()),
        Err(error) => Err(format!("it was refused: {}", told(error))),
        Ok(_) => Err(format!("it was not refused with `{said}`")),
    }
}

fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A Dockerfile that copies every file of the overlay to its place; `None` where it has more than files.
fn file_by_file(overlay: &Path) -> Option<String> {
    let mut dockerfile = "FROM base\n".to_owned();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(overlay.join(&folder)).unwrap().peekable();
        entries.peek()?;
        for entry in entries {
            let entry = entry.unwrap();
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                writeln!(dockerfile, "COPY {0} /{0}", path.display()).unwrap();
            } else {
                return None;
            }
        }
    }
    Some(dockerfile)
}

#[test]
fn an_overlay_on_an_awkward_base_is_what_buildah_makes_of_it_with_and_without_path_indexes() {
    assert!(rustix::process::geteuid().is_root(), "buildah in a chroot is for root");
    let mut cases = read("tests/overlays");
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    if let Ok(wanted) = std::env::var("VAST_TEST_CASE") {
        cases.retain(|case| case.name.contains(&wanted));
    }
    let bases = Bases::new();
    let (queue, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let buildah = Buildah::new(&bases.layout);
                loop {
                    let Some(case) = queue.lock().unwrap().pop() else { return };
                    if let Err(said) = bases.check(&case, &buildah) {
                        failures.lock().unwrap().push(format!("== {}\n{said}", case.name));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n"));
}
