//! `BuildKit`: what `docker buildx` is asked for, and what becomes of its answers. A stand-in answers, which records what it
//! is asked; no daemon runs here.

mod environment;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oci_spec::image::Descriptor;
use serde_json::{Value, json};
use vast_imagegen::artifact::{EMPTY, EMPTY_CONFIG};
use vast_imagegen::build::runner::{Invocation, Runner};
use vast_imagegen::build::{Engine, NamedContext};
use vast_imagegen::digest::Digest;
use vast_imagegen::layer::{LayerIndex, PATH_INDEX};
use vast_imagegen::manifest::describe;
use vast_imagegen::platform::Platform;
use vast_imagegen::publish::{Blob, Publication, publish};
use vast_imagegen::record::{DIFF_ID, PATH_INDEXES};
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::Content;
use vast_imagegen::source::RawManifest;
use vast_imagegen::transport::{open_sink, open_source};
use vast_testkit::image::ImageBuilder;
use vast_testkit::registry::Registry;

use super::corpus::case::archive;
use super::corpus::unpacked::write_image;
use super::support::{Built, Workplace, run, transports};

pub(super) const BELOW: &str = "dir etc 755 0:0\nfile etc/base 644 0:0 base\n";
pub(super) const MADE: &str = "file made 755 0:0 made by a process\n";

/// What the stand-in does when it is asked to build.
pub(super) enum Answer {
    /// Writes this archive, records this about it, and succeeds.
    Archive(Option<PathBuf>, Option<String>),
    /// Prints this and fails.
    Says(&'static str),
    /// Is not there.
    Missing,
}

pub(super) struct Docker {
    asked: Mutex<Vec<Invocation>>,
    answer: Answer,
}

impl Docker {
    pub(super) fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { asked: Mutex::default(), answer })
    }
}

impl Runner for Docker {
    fn run(&self, invocation: &Invocation, line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        self.asked.lock().unwrap().push(invocation.clone());
        let here = invocation.directory.clone().unwrap();
        match &self.answer {
            Answer::Archive(archive, metadata) => {
                if let Some(archive) = archive {
                    fs::copy(archive, here.join("image.tar"))?;
                }
                if let Some(metadata) = metadata {
                    fs::write(here.join("metadata.json"), metadata)?;
                }
                line("#1 DONE 0.1s");
                Ok(true)
            }
            Answer::Says(text) => {
                text.lines().for_each(line);
                Ok(false)
            }
            Answer::Missing => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Packs a layout into a tar archive beside it, as `buildx` does: `index.json` names the image, or an index of several. Gives
/// the archive and the digest that `buildx` records.
pub(super) fn packed(layouts: &[(PathBuf, &str)], to: &Path) -> (PathBuf, String) {
    let all = to.join("all");
    fs::create_dir_all(all.join("blobs/sha256")).unwrap();
    fs::write(all.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut entries = Vec::new();
    for (layout, platform) in layouts {
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::copy(blob.path(), all.join("blobs/sha256").join(blob.file_name())).unwrap();
        }
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let mut entry = index["manifests"][0].clone();
        let (os, architecture) = platform.split_once('/').unwrap();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry["annotations"] = json!({"org.opencontainers.image.created": "2030-01-01T00:00:00Z"});
        entries.push(entry);
    }
    let mut top = entries[0].clone();
    if entries.len() > 1 {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string();
        let digest = Digest::of(index.as_bytes());
        fs::write(all.join("blobs/sha256").join(digest.hex()), &index).unwrap();
        top = json!({"mediaType": media_type, "digest": digest.to_string(), "size": index.len()});
    }
    fs::write(all.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string()).unwrap();
    let file = to.join("image.tar");
    let mut builder = tar::Builder::new(fs::File::create(&file).unwrap());
    builder.append_dir_all(".", &all).unwrap();
    builder.finish().unwrap();
    fs::remove_dir_all(all).unwrap();
    (file, top["digest"].as_str().unwrap().to_owned())
}

/// A workplace whose Dockerfile runs something on the context `base`, and the stand-in's result for it: layers of `lines`,
/// made at `time`.
pub(super) fn prepared(lines: &[&str], time: &str) -> (Workplace, Arc<Docker>) {
    prepared_on(BELOW, lines, time)
}

/// The same with a base of one layer of the lines `below`.
fn prepared_on(below: &str, lines: &[&str], time: &str) -> (Workplace, Arc<Docker>) {
    let workplace = Workplace::new("FROM base\nLABEL own=1\nRUN make\n");
    let layer = |lines: &&str| archive("a layer", lines);
    write_image(&workplace.path("base"), &json!({"Labels": {"of": "base"}}), &[layer(&below)], &json!({}));
    let layers: Vec<Vec<u8>> = lines.iter().map(layer).collect();
    let history = json!([
        {"created": time, "created_by": "LABEL own=1", "comment": "buildkit.dockerfile.v0", "empty_layer": true},
        {"created": time, "created_by": "RUN /bin/sh -c make # buildkit", "comment": "buildkit.dockerfile.v0"},
    ]);
    let more = json!({"created": time, "history": history, "moby.buildkit.buildinfo.v1": "c2VjcmV0"});
    let labels = json!({"Labels": {"of": "base", "own": "1"}, "Cmd": ["/made"]});
    write_image(&workplace.path("made"), &labels, &layers, &more);
    let platform = Platform::host().to_string();
    let (file, written) = packed(&[(workplace.path("made"), &platform)], &workplace.path(""));
    let metadata = json!({"containerimage.digest": written, "buildx.build.ref": "x/y/z"});
    let docker = Docker::new(Answer::Archive(Some(file), Some(metadata.to_string())));
    (workplace, docker)
}

pub(super) fn with_base(workplace: &Workplace, options: &mut vast_imagegen::build::Options) {
    let base = format!("oci:{}:v1", workplace.path("base").display()).parse().unwrap();
    options.contexts.insert("base".to_owned(), NamedContext::Image(base));
    options.engine = Engine::Buildkit;
}

/// The digest of the manifest of a layout with one image.
fn top_of(layout: &Path) -> String {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn docker_gets_exactly_these_arguments() {
    let registry = Registry::start();
    let tools = ImageBuilder::new().file("x", b"x").build();
    registry.push("team/tools", "v1", &tools);
    let (mut workplace, docker) = prepared(&[BELOW, MADE], "2030-01-01T00:00:00Z");
    let host = registry.host();
    workplace = workplace.dockerfile(&format!(
        "ARG TOOLS=v1\nARG PINNED={host}/team/tools@{digest}\n\
         FROM scratch AS unused\nCOPY --from={host}/team/none:v1 / /\n\
         FROM base AS final\nCOPY --from={host}/team/tools:$TOOLS /x /x\nCOPY --from=$PINNED /x /y\nRUN make\n\
         FROM scratch AS later\n",
        digest = tools.digest()
    ));
    fs::create_dir(workplace.path("extra")).unwrap();
    workplace.runner = docker.clone();
    workplace
        .build_as("result", |options| {
            with_base(&workplace, options);
            options.contexts.insert("extra".to_owned(), NamedContext::Directory(workplace.path("extra")));
            options.build_args.insert("WHO".to_owned(), "me, you".to_owned());
            options.builder = Some("kubernetes-far-away".to_owned());
            options.target = Some("final".to_owned());
        })
        .unwrap();
    let asked = docker.asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "one command builds it");
    assert_eq!(asked[0].program, "docker");
    let arguments: Vec<&str> = asked[0].arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
    let path = |name: &str| workplace.path(name).canonicalize().unwrap().display().to_string();
    let platform = Platform::host().to_string();
    assert_eq!(
        arguments,
        [
            "buildx",
            "build",
            "--builder",
            "kubernetes-far-away",
            "--progress",
            "plain",
            "--platform",
            &platform,
            "--file",
            &path("image/Dockerfile"),
            "--target",
            "final",
            "--build-arg",
            "SOURCE_DATE_EPOCH=315532800",
            "--build-arg",
            "WHO=me, you",
            "--build-context",
            &format!("extra={}", path("extra")),
            "--build-context",
            &format!("base=oci-layout://{}@{}", path("base"), top_of(&workplace.path("base"))),
            "--build-context",
            &format!("{host}/team/tools:v1=docker-image://{host}/team/tools@{}", tools.digest()),
            "--provenance=false",
            "--sbom=false",
            "--metadata-file",
            "metadata.json",
            "--output",
            "type=oci,dest=image.tar",
            &path("image"),
        ]
    );
}

#[test]
fn the_result_is_published_without_traces_of_when_and_where() {
    let at = |time: &str| {
        let (mut workplace, docker) = prepared(&[BELOW, MADE], time);
        workplace.runner = docker;
        let image = workplace.build_as("result", |options| with_base(&workplace, options)).unwrap();
        (workplace, image)
    };
    let (workplace, built) = at("2030-01-01T00:00:00Z");
    let config = built.config();
    assert_eq!(config["created"], "1980-01-01T00:00:00Z");
    assert_eq!(config["history"][1]["created"], "1980-01-01T00:00:00Z");
    assert!(config.get("moby.buildkit.buildinfo.v1").is_none());
    assert_eq!(config["config"]["Cmd"], json!(["/made"]));
    let labels = &config["config"]["Labels"];
    assert_eq!((&labels["of"], &labels["own"]), (&json!("base"), &json!("1")));
    assert_eq!(labels["org.opencontainers.image.base.digest"], top_of(&workplace.path("base")));
    let listing = built.listing();
    assert_eq!(listing["/made"], "755 0:0 file \"made by a process\"");
    assert_eq!(listing["/etc/base"], "644 0:0 file \"base\"");
    let base = super::support::image(&format!("oci:{}:v1", workplace.path("base").display()).parse().unwrap());
    assert_eq!(built.image().manifest.layers()[0], base.manifest.layers()[0], "the base's layer is taken as it is");
    let (_, again) = at("2031-02-03T04:05:06Z");
    assert_eq!(again.digest, built.digest, "the builder's clock does not show");
}

/// The diff ids of the layers whose path indexes are recorded with a published build.
fn indexed(built: &Built) -> Vec<String> {
    let image = built.image();
    run(async {
        let source = open_source(&built.reference, &transports()).await.unwrap();
        let recorded = source.referrers(&image.raw.digest(), Some(PATH_INDEXES)).await.unwrap();
        let manifest = source.manifest(&recorded[0]).await.unwrap();
        let manifest = vast_imagegen::artifact::parse(&manifest, PATH_INDEXES, "a build").unwrap();
        let diff_id = |layer: &Descriptor| layer.annotations().as_ref().unwrap()[DIFF_ID].clone();
        manifest.layers().iter().map(diff_id).collect()
    })
}

/// Records something with the image `base`, in one blob.
fn record(base: &Reference, artifact_type: &str, descriptor: Descriptor, bytes: &[u8]) {
    record_with(base, &super::support::image(base).raw, artifact_type, descriptor, bytes);
}

/// The same with the image of this manifest, where `base` is.
fn record_with(base: &Reference, manifest: &RawManifest, artifact_type: &str, descriptor: Descriptor, bytes: &[u8]) {
    let record =
        vast_imagegen::artifact::manifest(artifact_type, manifest, std::slice::from_ref(&descriptor), &[].into());
    run(async {
        let publication = Publication {
            blobs: vec![
                Blob { descriptor, content: Content::Bytes(bytes) },
                Blob { descriptor: describe(EMPTY_CONFIG, EMPTY), content: Content::Bytes(EMPTY) },
            ],
            manifests: vec![manifest.clone()],
            referrers: vec![record.unwrap()],
        };
        publish(&publication, &*open_sink(base, &transports()).await.unwrap(), 1, &()).await.unwrap();
    });
}

/// Records the path index of one layer with the image of this manifest, where `base` is.
pub(super) fn record_index(base: &Reference, manifest: &RawManifest, diff_id: &Digest, index: &LayerIndex) {
    let index = index.encode(diff_id).unwrap();
    let mut descriptor = describe(PATH_INDEX, &index);
    descriptor.set_annotations(Some([(DIFF_ID.to_owned(), diff_id.to_string())].into()));
    record_with(base, manifest, PATH_INDEXES, descriptor, &index);
}

#[test]
fn path_indexes_of_the_base_are_handed_on_and_not_made_by_reading_it() {
    for recorded in [false, true] {
        let (mut workplace, docker) = prepared(&[BELOW, MADE], "2030-01-01T00:00:00Z");
        let layer = archive("a layer", BELOW);
        let diff_id = Digest::of(&layer);
        if recorded {
            let base: Reference = format!("oci:{}:v1", workplace.path("base").display()).parse().unwrap();
            record_index(
                &base,
                &super::support::image(&base).raw,
                &diff_id,
                &LayerIndex::read_tar(&layer[..]).unwrap(),
            );
        }
        workplace.runner = docker;
        let built = workplace.build_as("result", |options| with_base(&workplace, options)).unwrap();
        let all: Vec<String> = built.image().config.rootfs().diff_ids().iter().map(ToString::to_string).collect();
        assert_eq!((all.len(), &all[0]), (2, &diff_id.to_string()));
        assert_eq!(indexed(&built), all[usize::from(!recorded)..]);
    }
}

#[test]
fn several_platforms_come_out_of_one_command() {
    let mut workplace = Workplace::new("FROM scratch\nRUN make\n");
    let mut layouts = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let layout = workplace.path(architecture);
        let layer = archive("a layer", &format!("file arch 644 0:0 {architecture}\n"));
        write_image(&layout, &json!({}), &[layer], &json!({"architecture": architecture}));
        layouts.push((layout, if architecture == "amd64" { "linux/amd64" } else { "linux/arm64" }));
    }
    let (file, digest) = packed(&layouts, &workplace.path(""));
    let metadata = json!({"containerimage.digest": digest}).to_string();
    let docker = Docker::new(Answer::Archive(Some(file), Some(metadata)));
    workplace.runner = docker.clone();
    let built = workplace
        .build_as("result", |options| {
            options.engine = Engine::Buildkit;
            options.platforms = ["linux/amd64", "linux/arm64"].iter().map(|text| text.parse().unwrap()).collect();
        })
        .unwrap();
    assert_eq!(docker.asked.lock().unwrap().len(), 1);
    let arguments = docker.asked.lock().unwrap()[0].arguments.clone();
    assert!(arguments.iter().any(|argument| argument == "linux/amd64,linux/arm64"));
    super::support::run(async {
        let source =
            vast_imagegen::transport::open_source(&built.reference, &super::support::transports()).await.unwrap();
        for architecture in ["amd64", "arm64"] {
            let image = source.image(&format!("linux/{architecture}").parse().unwrap()).await.unwrap();
            assert_eq!(image.config.architecture().to_string(), architecture);
        }
    });
}

#[test]
fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    let cannot = "the image that `docker` built cannot be used: ";
    let (kept, good) = prepared(&[BELOW, MADE], "2030-01-01T00:00:00Z");
    let Answer::Archive(Some(file), Some(metadata)) = &good.answer else { panic!() };
    let noise = kept.path("noise.tar");
    fs::write(&noise, [7; 2000]).unwrap();
    let cut = kept.path("cut.tar");
    fs::write(&cut, &fs::read(file).unwrap()[..4000]).unwrap();
    let platform = Platform::host();
    let other_platform = if platform.architecture == "arm64" { "amd64" } else { "arm64" };
    let foreign = kept.path("foreign");
    write_image(&foreign, &json!({}), &[archive("a layer", BELOW)], &json!({"architecture": other_platform}));
    fs::create_dir(kept.path("for-foreign")).unwrap();
    let (foreign, foreign_digest) = packed(&[(foreign, &format!("linux/{other_platform}"))], &kept.path("for-foreign"));
    let foreign_metadata = json!({"containerimage.digest": foreign_digest}).to_string();
    let some = |path: &Path| Some(path.to_owned());
    for (archive, metadata, expected) in [
        (some(file), None, "it recorded nothing about it"),
        (some(file), Some("{".to_owned()), "what it recorded about it is no JSON"),
        (some(file), Some("{}".to_owned()), "it recorded no digest"),
        (None, Some(metadata.clone()), "it cannot be read: cannot read `"),
        (some(&noise), Some(metadata.clone()), "it cannot be read: "),
        (some(&cut), Some(metadata.clone()), "it cannot be read: "),
        (some(file), Some(metadata.replace("sha256:", "sha256:0")), "it is sha256:"),
        (some(&foreign), Some(foreign_metadata), &format!("for {platform}: ")),
    ] {
        let (mut workplace, _) = prepared(&[BELOW, MADE], "2030-01-01T00:00:00Z");
        workplace.runner = Docker::new(Answer::Archive(archive, metadata));
        let (said, _) = workplace.refusal(|options| with_base(&workplace, options));
        assert!(said.starts_with(&format!("{cannot}{expected}")), "{said}");
    }
    let (mut workplace, docker) = prepared(&[MADE, BELOW], "2030-01-01T00:00:00Z");
    workplace.runner = docker;
    let (said, _) = workplace.refusal(|options| with_base(&workplace, options));
    assert_eq!(said, format!("{cannot}for {platform}: it does not begin with the layers of the base that was pinned"));
}

#[test]
fn every_way_to_fail_is_one_message_with_advice() {
    let failed = "`docker buildx build` failed: ";
    for (answer, expected, advice) in [
        (Answer::Missing, "cannot run `docker`".to_owned(), Some("install docker, or use another --engine")),
        (
            Answer::Says("docker: unknown command: docker buildx\n\nRun 'docker --help' for more information"),
            format!("{failed}docker: unknown command: docker buildx"),
            Some("install docker's buildx plugin"),
        ),
        (
            Answer::Says("docker: 'buildx' is not a docker command.\nSee 'docker --help'"),
            format!("{failed}docker: 'buildx' is not a docker command."),
            Some("install docker's buildx plugin"),
        ),
        (
            Answer::Says(
                "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            ),
            format!("{failed}ERROR: Cannot connect to the Docker daemon"),
            Some("start the daemon, or name a builder"),
        ),
        (
            Answer::Says(
                "ERROR: OCI exporter is not supported for the docker driver.\nSwitch to a different driver and try again.",
            ),
            format!("{failed}Switch to a different driver"),
            Some("make a builder that writes archives"),
        ),
        (
            Answer::Says("ERROR: no builder \"nope\" found"),
            format!("{failed}ERROR: no builder \"nope\" found"),
            Some("`docker buildx ls` lists the builders"),
        ),
        (Answer::Says(""), format!("{failed}it printed nothing"), None),
        (
            Answer::Says(
                "#5 [2/2] RUN make\n#5 0.213 make: *** No targets.  Stop.\n#5 ERROR: process \"/bin/sh -c make\" did not complete successfully: exit code: 2\n\
                 ------\n > [2/2] RUN make:\n0.213 make: *** No targets.  Stop.\n------\nDockerfile:3\n--------------------\n   3 | >>> RUN make\n--------------------\n\
                 ERROR: failed to build: failed to solve: process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
            ),
            "image/Dockerfile:3: the command failed: exit code: 2 (make: *** No targets.  Stop.)".to_owned(),
            None,
        ),
    ] {
        let (mut workplace, _) = prepared(&[BELOW, MADE], "2030-01-01T00:00:00Z");
        workplace.runner = Docker::new(answer);
        let (said, hint) = workplace.refusal(|options| with_base(&workplace, options));
        assert!(said.starts_with(&expected), "{said}");
        match advice {
            None => assert_eq!(hint, None, "{said}"),
            Some(advice) => assert!(hint.as_deref().is_some_and(|hint| hint.starts_with(advice)), "{said}: {hint:?}"),
        }
    }
}

#[test]
fn what_buildkit_cannot_name_is_refused_before_it_is_asked() {
    for dockerfile in ["FROM oci:base:v1\nRUN make\n", "FROM scratch\nCOPY --from=oci-archive:x.tar /a /\n"] {
        let mut workplace = Workplace::new(dockerfile);
        let docker = Docker::new(Answer::Missing);
        workplace.runner = docker.clone();
        let (said, hint) = workplace.refusal(|options| options.engine = Engine::Buildkit);
        assert!(said.contains("BuildKit cannot build on `oci"), "{said}");
        assert!(hint.unwrap().contains("--build-context NAME=oci:DIR"));
        assert_eq!(docker.asked.lock().unwrap().len(), 0);
    }
    let (said, _) = Workplace::new("FROM scratch\n").refusal(|options| options.builder = Some("far".to_owned()));
    assert_eq!(said, "cannot build `image`: the native engine has no builders: --builder is for --engine buildkit");
}

#[test]
fn without_an_engine_that_can_the_message_names_them() {
    let (said, hint) = Workplace::new("FROM scratch\nRUN make\n").refusal(|options| {
        options.engine = Engine::Auto;
        options.installed.clear();
    });
    assert_eq!(
        said,
        "image/Dockerfile:2: the native engine cannot run `make`: it starts no process, and no engine that can is installed"
    );
    assert!(hint.unwrap().starts_with("install buildah, or docker with buildx"));
}
