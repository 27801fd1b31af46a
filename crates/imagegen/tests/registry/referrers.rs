//! Artifacts about images: attached, found and copied, whatever the registry knows of them.

use std::collections::BTreeMap;

use vast_imagegen::artifact;
use vast_imagegen::digest::Digest;
use vast_imagegen::manifest::{OCI_INDEX, describe};
use vast_imagegen::publish::{Blob, Publication, contents, publish};
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::Content;
use vast_imagegen::source::RawManifest;
use vast_imagegen::transport::{TransportOptions, open_sink};
use vast_testkit::image::{ImageBuilder, TestImage};
use vast_testkit::registry::{Behaviour, Distribution, Fault, Kind, Registry};

use crate::real;
use crate::support::{copy, image, options, source, told};

pub(crate) const NOTE: &str = "application/vnd.example.note+json";
const OTHER: &str = "application/vnd.example.other";

/// A registry that knows referrers, and one that does not.
fn registries() -> [Registry; 2] {
    let old = Behaviour { referrers: None, ..Behaviour::default() };
    [Registry::start(), Registry::start_with(old)]
}

fn raw(image: &TestImage) -> RawManifest {
    RawManifest { bytes: image.manifest.clone(), media_type: image.media_type.clone() }
}

/// An artifact of one blob, which is its text.
fn artifact_about(subject: &RawManifest, artifact_type: &str, text: &str) -> RawManifest {
    let blob = describe("text/plain", text.as_bytes());
    artifact::manifest(artifact_type, subject, &[blob], &BTreeMap::from([("text".to_owned(), text.to_owned())]))
        .unwrap()
}

/// Attaches notes with these texts to the image that `reference` names.
pub(crate) async fn attach(
    reference: &str,
    artifact_type: &str,
    texts: &[&str],
    options: &TransportOptions,
) -> Result<Vec<Digest>, vast_imagegen::Error> {
    let source = source(reference, options).await.unwrap();
    let top = source.top().await.unwrap();
    let mut publication = contents(&*source).await.unwrap();
    let notes: Vec<RawManifest> = texts.iter().map(|text| artifact_about(&top, artifact_type, text)).collect();
    publication.blobs.push(blob(artifact::EMPTY_CONFIG, artifact::EMPTY));
    publication.blobs.extend(texts.iter().map(|text| blob("text/plain", text.as_bytes())));
    publication.referrers.extend(notes.clone());
    let sink = open_sink(&reference.parse::<Reference>().unwrap(), options).await.unwrap();
    publish(&publication, &*sink, 2, &()).await?;
    Ok(notes.iter().map(RawManifest::digest).collect())
}

fn blob<'a>(media_type: &str, bytes: &'a [u8]) -> Blob<'a> {
    Blob { descriptor: describe(media_type, bytes), content: Content::Bytes(bytes) }
}

/// The texts of the notes about the image that `reference` names, sorted.
pub(crate) async fn notes(reference: &str, artifact_type: Option<&str>, options: &TransportOptions) -> Vec<String> {
    let source = source(reference, options).await.unwrap();
    let top = source.top().await.unwrap().digest();
    let found = source.referrers(&top, artifact_type).await.unwrap();
    let mut texts: Vec<String> =
        found.iter().map(|entry| entry.annotations().as_ref().unwrap()["text"].clone()).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn what_is_attached_is_found_by_type_with_and_without_the_api() {
    for registry in registries() {
        registry.push("app", "v1", &ImageBuilder::new().build());
        let (options, _) = options();
        let reference = registry.reference("app:v1");
        let before = registry.tag("app", "v1");
        attach(&reference, NOTE, &["a", "b"], &options).await.unwrap();
        attach(&reference, OTHER, &["c"], &options).await.unwrap();
        attach(&reference, NOTE, &["a"], &options).await.unwrap();
        assert_eq!(notes(&reference, None, &options).await, ["a", "b", "c"]);
        assert_eq!(notes(&reference, Some(NOTE), &options).await, ["a", "b"]);
        assert_eq!(notes(&reference, Some("application/none"), &options).await, [""; 0]);
        assert_eq!(registry.tag("app", "v1"), before, "the image itself stays what it is");
    }
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let registry = Registry::start_with(Behaviour { referrers: Some(2), ..Behaviour::default() });
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    attach(&reference, NOTE, &["a", "b", "c", "d", "e"], &options).await.unwrap();
    attach(&reference, OTHER, &["x"], &options).await.unwrap();
    assert_eq!(notes(&reference, Some(NOTE), &options).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(notes(&reference, None, &options).await, ["a", "b", "c", "d", "e", "x"]);
    assert!(registry.count("GET", "last=4") >= 1);
}

#[tokio::test]
async fn an_update_of_the_list_that_another_writer_undoes_is_made_again() {
    let [_, registry] = registries();
    let image = ImageBuilder::new().build();
    registry.push("app", "v1", &image);
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    let tag = format!("manifests/sha256-{}", &image.digest()["sha256:".len()..]);
    attach(&reference, NOTE, &["theirs"], &options).await.unwrap();
    // At once, and after the first look at it.
    for (text, undone) in [("at-once", 2), ("twice", 1)] {
        registry.fault(Fault::new("PUT", &tag, Kind::Undone).times(undone));
        attach(&reference, NOTE, &[text], &options).await.unwrap();
        assert!(registry.faults_are_used_up());
        registry.heal();
    }
    assert_eq!(notes(&reference, None, &options).await, ["at-once", "theirs", "twice"]);

    registry.fault(Fault::new("PUT", &tag, Kind::Undone));
    let error = attach(&reference, NOTE, &["never"], &options).await.unwrap_err();
    assert!(told(&error).contains("others keep writing it"), "{}", told(&error));
}

#[tokio::test]
async fn a_list_that_a_slower_writer_replaced_is_mended_when_the_publication_is_over() {
    let [_, registry] = registries();
    let image = ImageBuilder::new().build();
    registry.push("app", "v1", &image);
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    let sink = open_sink(&reference.parse::<Reference>().unwrap(), &options).await.unwrap();
    for text in ["ours", "theirs"] {
        registry.push_blob("app", text.as_bytes());
    }
    registry.push_blob("app", artifact::EMPTY);
    sink.attach(&raw(&image).digest(), &[artifact_about(&raw(&image), NOTE, "ours")]).await.unwrap();
    // The other writer had read the list before ours was in it.
    let theirs = artifact_about(&raw(&image), NOTE, "theirs");
    registry.push_manifest("app", None, &theirs.media_type, &theirs.bytes);
    let list = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [artifact::entry(&theirs, "x").unwrap()]});
    let tag = format!("sha256-{}", raw(&image).digest().hex());
    registry.push_manifest("app", Some(&tag), OCI_INDEX, list.to_string().as_bytes());
    assert_eq!(notes(&reference, None, &options).await, ["theirs"]);
    sink.settle().await;
    assert_eq!(notes(&reference, None, &options).await, ["ours", "theirs"]);
}

#[tokio::test]
async fn a_list_that_names_what_was_deleted_can_still_be_added_to() {
    let [_, registry] = registries();
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    let attached = attach(&reference, NOTE, &["gone", "kept"], &options).await.unwrap();
    registry.delete_manifest("app", &attached[0].to_string());
    let image = image(&reference, "linux/amd64", &options).await.unwrap();
    let sink = open_sink(&reference.parse::<Reference>().unwrap(), &options).await.unwrap();
    registry.push_blob("app", b"new");
    sink.attach(&image.raw.digest(), &[artifact_about(&image.raw, NOTE, "new")]).await.unwrap();
    assert_eq!(notes(&reference, None, &options).await, ["kept", "new"]);
}

#[tokio::test]
async fn a_list_that_names_what_was_deleted_holds_up_no_copy() {
    let [_, registry] = registries();
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    let attached = attach(&reference, NOTE, &["gone", "kept"], &options).await.unwrap();
    registry.delete_manifest("app", &attached[0].to_string());
    let copied = registry.reference("copied:v1");
    copy(&reference, &copied, &options).await.unwrap();
    assert_eq!(notes(&copied, None, &options).await, ["kept"]);
}

#[tokio::test]
async fn a_copy_carries_what_refers_to_an_image_from_any_place_to_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let [new, old] = registries();
    let images = [ImageBuilder::new().build(), ImageBuilder::new().platform("linux/arm64").build()];
    new.push_index("app", "v1", &images);
    let (options, _) = options();
    let start = new.reference("app:v1");
    attach(&start, NOTE, &["about the index"], &options).await.unwrap();
    // One about a platform's image, and one about that note.
    let amd64 = raw(&images[0]);
    let note = artifact_about(&amd64, NOTE, "about amd64");
    let signature = artifact_about(&note, OTHER, "about the note");
    for text in ["about amd64", "about the note"] {
        new.push_blob("app", text.as_bytes());
    }
    for manifest in [&note, &signature] {
        new.push_manifest("app", None, &manifest.media_type, &manifest.bytes);
    }
    let layout = |name: &str| format!("oci:{}", dir.path().join(name).display());
    let archive = format!("oci-archive:{}:v1", dir.path().join("archive.tar").display());
    let stations =
        [start, old.reference("app:v1"), layout("named:v1"), archive, layout("nameless"), new.reference("back:v1")];
    for pair in stations.windows(2) {
        copy(&pair[0], &pair[1], &options).await.unwrap();
        assert_eq!(notes(&pair[1], None, &options).await, ["about the index"], "{}", pair[1]);
        let source = source(&pair[1], &options).await.unwrap();
        for (subject, referrer) in [(&amd64, &note), (&note, &signature)] {
            let found = source.referrers(&subject.digest(), None).await.unwrap();
            assert_eq!(found.len(), 1, "{}", pair[1]);
            assert_eq!(found[0].digest().to_string(), referrer.digest().to_string(), "{}", pair[1]);
            assert_eq!(source.manifest(&found[0]).await.unwrap().bytes, referrer.bytes);
        }
    }
    assert_eq!(old.tags("app").len(), 4, "a list for each of the three subjects, and the image");
}

#[tokio::test]
async fn a_layout_with_records_is_still_one_image_to_us_and_to_skopeo() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().label("a", "b").build());
    let (options, _) = options();
    attach(&registry.reference("app:v1"), NOTE, &["a"], &options).await.unwrap();
    for name in ["named:v1", "nameless"] {
        let target = format!("oci:{}", dir.path().join(name).display());
        copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
        copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
        assert_eq!(real::skopeo(&["inspect", &target])["Labels"]["a"], "b", "{target}");
        let without_name = format!("oci:{}", dir.path().join(name.split(':').next().unwrap()).display());
        assert_eq!(notes(&without_name, None, &options).await, ["a"]);
    }
}

#[tokio::test]
async fn the_distribution_registry_lists_by_tag() {
    let real = Distribution::start();
    let registry = Registry::start();
    let images = [ImageBuilder::new().build(), ImageBuilder::new().platform("linux/arm64").file("a", b"arm").build()];
    registry.push_index("app", "v1", &images);
    let (options, _) = options();
    let target = format!("{}/team/app:v1", real.host());
    copy(&registry.reference("app:v1"), &target, &options).await.unwrap();
    attach(&target, NOTE, &["a", "b"], &options).await.unwrap();
    attach(&target, OTHER, &["c"], &options).await.unwrap();
    assert_eq!(notes(&target, None, &options).await, ["a", "b", "c"]);
    assert_eq!(notes(&target, Some(NOTE), &options).await, ["a", "b"]);
    let copied = format!("{}/other/app:v1", real.host());
    let published = copy(&target, &copied, &options).await.unwrap();
    assert_eq!(
        (published.written, notes(&copied, None, &options).await.len()),
        (0, 3),
        "records are mounted as layers are"
    );
    copy(&copied, &registry.reference("back:v1"), &options).await.unwrap();
    assert_eq!(notes(&registry.reference("back:v1"), None, &options).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_artifact_about_nothing_is_refused() {
    let registry = Registry::start();
    let image = ImageBuilder::new().build();
    registry.push("app", "v1", &image);
    let (options, _) = options();
    let sink = open_sink(&registry.reference("app:v2").parse::<Reference>().unwrap(), &options).await.unwrap();
    let publication = Publication { manifests: vec![raw(&image)], referrers: vec![raw(&image)], ..Default::default() };
    let error = publish(&publication, &*sink, 1, &()).await.unwrap_err();
    assert!(told(&error).contains("it refers to nothing"), "{}", told(&error));
    assert_eq!(registry.tag("app", "v2"), None);
}

#[tokio::test]
async fn a_registry_that_takes_no_artifacts_still_takes_images_but_not_without_their_signatures() {
    let registry = Registry::start();
    registry.push("app", "v1", &ImageBuilder::new().build());
    let (options, _) = options();
    let reference = registry.reference("app:v1");
    for (artifact_type, taken) in [(vast_imagegen::record::PATH_INDEXES, true), (NOTE, false)] {
        let notes = attach(&reference, artifact_type, &["a"], &options).await.unwrap();
        let target = Registry::start();
        target.fault(Fault::new("PUT", &notes[0].to_string(), Kind::Status(400)));
        let copied = copy(&reference, &target.reference("app:v1"), &options).await;
        assert_eq!((copied.is_ok(), target.tag("app", "v1").is_some()), (taken, taken), "{artifact_type}");
    }
}
