//! Records of a base that are wrong, though well-formed and of the right layer: what is known from the layers themselves counts
//! for more, whichever engine builds.

use std::fs;
use std::process::Command;

use serde_json::json;
use vast_imagegen::build::{Engine, NamedContext, Options};
use vast_imagegen::digest::Digest;
use vast_imagegen::layer::{Entry, Kind, LayerIndex, Metadata};
use vast_imagegen::manifest::OCI_MANIFEST;
use vast_imagegen::platform::Platform;
use vast_imagegen::record::{DIFF_ID, PATH_INDEXES};
use vast_imagegen::reference::Reference;
use vast_imagegen::source::RawManifest;
use vast_imagegen::transport::open_source;
use vast_testkit::registry::Registry;

use super::buildkit::{Answer, BELOW, Docker, MADE, packed, prepared, record_index, with_base};
use super::corpus::case::archive;
use super::corpus::unpacked::write_image;
use super::engines::{assert_root, with_shell};
use super::support::{Workplace, image, run, transports};

const TIME: &str = "2030-01-01T00:00:00Z";

/// The index with a path that the layer has not.
fn wrong(truth: &LayerIndex) -> LayerIndex {
    let mut index = truth.clone();
    let metadata = Metadata::root_owned(0o755, 0);
    index.entries.push(Entry { path: "opt/never".into(), kind: Kind::Directory, metadata });
    index.contents.push(None);
    index
}

fn index_of(lines: &str) -> (Digest, LayerIndex) {
    let layer = archive("a layer", lines);
    (Digest::of(&layer), LayerIndex::read_tar(&layer[..]).unwrap())
}

/// What is recorded about a layer with the image for `platform` that `reference` names.
fn recorded(reference: &Reference, platform: &Platform, diff_id: &Digest) -> Option<LayerIndex> {
    run(async {
        let source = open_source(reference, &transports()).await.unwrap();
        let image = source.image(platform).await.unwrap();
        let records = source.referrers(&image.raw.digest(), Some(PATH_INDEXES)).await.unwrap();
        assert_eq!(records.len(), 1);
        let record = source.manifest(&records[0]).await.unwrap();
        let record = vast_imagegen::artifact::parse(&record, PATH_INDEXES, "a build").unwrap();
        let is_of =
            |annotations: &std::collections::HashMap<String, String>| annotations[DIFF_ID] == diff_id.to_string();
        let blob = record.layers().iter().find(|blob| blob.annotations().as_ref().is_some_and(is_of))?;
        let (index, stated) = LayerIndex::decode(source.open_blob(blob).await.unwrap()).unwrap();
        assert_eq!(stated, *diff_id);
        Some(index)
    })
}

#[test]
fn a_build_records_what_this_machine_read_of_the_base_and_not_what_somebody_recorded() {
    let hashed = format!("{MADE}file .env_hash 644 0:0 0123456789ab\n");
    let (diff_id, truth) = index_of(BELOW);
    // The second layer asks for the environment, so that all records of the base are read.
    for own in [MADE, &hashed] {
        for known in [false, true] {
            let (mut workplace, docker) = prepared(&[BELOW, own], TIME);
            let base = format!("oci:{}:v1", workplace.path("base").display()).parse().unwrap();
            record_index(&base, &image(&base).raw, &diff_id, &wrong(&truth));
            let host = Platform::host();
            if known {
                workplace = workplace.dockerfile("FROM base\nCOPY Dockerfile /etc/\n");
                let native = |options: &mut Options| {
                    with_base(&workplace, options);
                    options.engine = Engine::Native;
                };
                let built = workplace.build_as("native", native).unwrap();
                assert_eq!(recorded(&built.reference, &host, &diff_id).as_ref(), Some(&truth), "natively");
                workplace = workplace.dockerfile("FROM base\nLABEL own=1\nRUN make\n");
            }
            workplace.runner = docker;
            let built = workplace.build_as("result", |options| with_base(&workplace, options)).unwrap();
            // No layer of a base is read only to doubt what is recorded about it.
            let expected = if known { truth.clone() } else { wrong(&truth) };
            assert_eq!(recorded(&built.reference, &host, &diff_id), Some(expected), "{own}");
        }
    }
}

#[test]
fn buildah_reads_the_base_and_what_it_read_is_recorded() {
    assert_root();
    let workplace = with_shell(Workplace::new("FROM scratch\nCOPY shell /\n"));
    let made = workplace.build_as("made", |_| ()).unwrap();
    let diff_id: Digest = made.image().config.rootfs().diff_ids()[0].parse().unwrap();
    let truth = recorded(&made.reference, &Platform::host(), &diff_id).unwrap();
    // Another program leaves behind what is recorded.
    let at = |name: &str| format!("oci:{}:v1", workplace.path(name).display());
    let copied =
        Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &at("made"), &at("base")]).status();
    assert!(copied.unwrap().success());
    let base: Reference = at("base").parse().unwrap();
    record_index(&base, &image(&base).raw, &diff_id, &wrong(&truth));
    let workplace = workplace.dockerfile("FROM base\nCOPY Dockerfile /etc/\nRUN echo made > /made\n");
    let change = |options: &mut Options| {
        with_base(&workplace, options);
        options.engine = Engine::Buildah;
        options.cache = None;
    };
    let built = workplace.build_as("result", change).unwrap();
    assert!(built.listing().contains_key("/made"));
    assert_eq!(recorded(&built.reference, &Platform::host(), &diff_id), Some(truth));
}

#[test]
fn what_one_platforms_image_states_about_a_layer_does_not_count_against_anothers() {
    let mut workplace = Workplace::new("FROM base\nRUN make\n");
    let own = format!("{MADE}file .env_hash 644 0:0 0123456789ab\n");
    let (diff_id, truth) = index_of(BELOW);
    let registry = Registry::start();
    let (mut layouts, mut entries) = (Vec::new(), Vec::new());
    for (architecture, platform) in [("amd64", "linux/amd64"), ("arm64", "linux/arm64")] {
        let of_platform = json!({"architecture": architecture});
        let layout = workplace.path(&format!("base-{architecture}"));
        write_image(&layout, &json!({}), &[archive("a layer", BELOW)], &of_platform);
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            registry.push_blob("base", &fs::read(blob.unwrap().path()).unwrap());
        }
        let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let mut entry = index["manifests"][0].clone();
        let bytes = registry.blob("base", entry["digest"].as_str().unwrap()).unwrap();
        registry.push_manifest("base", Some(architecture), OCI_MANIFEST, &bytes);
        let raw = RawManifest { bytes, media_type: OCI_MANIFEST.to_owned() };
        let stated = if architecture == "amd64" { wrong(&truth) } else { truth.clone() };
        record_index(&registry.reference(&format!("base:{architecture}")).parse().unwrap(), &raw, &diff_id, &stated);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);

        let made = workplace.path(architecture);
        write_image(&made, &json!({}), &[archive("a layer", BELOW), archive("a layer", &own)], &of_platform);
        layouts.push((made, platform));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string();
    registry.push_manifest("base", Some("v1"), media_type, index.as_bytes());
    let (file, digest) = packed(&layouts, &workplace.path(""));
    workplace.runner =
        Docker::new(Answer::Archive(Some(file), Some(json!({"containerimage.digest": digest}).to_string())));
    let platforms: Vec<Platform> = layouts.iter().map(|(_, platform)| platform.parse().unwrap()).collect();
    let change = |options: &mut Options| {
        let base = registry.reference("base:v1").parse().unwrap();
        options.contexts.insert("base".to_owned(), NamedContext::Image(base));
        options.engine = Engine::Buildkit;
        options.platforms.clone_from(&platforms);
    };
    let built = workplace.build_as("result", change).unwrap();
    let found = platforms.iter().map(|platform| recorded(&built.reference, platform, &diff_id).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), [wrong(&truth), truth], "each as its own image states it");
}
