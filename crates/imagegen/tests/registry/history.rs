//! What tags named before, and going back to it.

use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::artifact;
use vast_imagegen::digest::Digest;
use vast_imagegen::history;
use vast_imagegen::manifest::OCI_INDEX;
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::rollback::{Options, RolledBack, rollback};
use vast_imagegen::transport::TransportOptions;
use vast_testkit::image::{ImageBuilder, TestImage, digest};
use vast_testkit::registry::{Behaviour, Fault, Kind, Registry};

use crate::referrers::{NOTE, attach};
use crate::support::{copy, options, told};

fn image(text: &str) -> TestImage {
    ImageBuilder::new().file("text", text.as_bytes()).build()
}

/// Registries with an API for referrers, and without one.
fn registries() -> [Registry; 2] {
    [Some(100), None].map(|referrers| Registry::start_with(Behaviour { referrers, ..Behaviour::default() }))
}

struct Tag<'a> {
    registry: &'a Registry,
    options: TransportOptions,
}

impl<'a> Tag<'a> {
    fn new(registry: &'a Registry) -> Self {
        Self { registry, options: options().0 }
    }

    /// Publishes `text` under the tag.
    async fn publish(&self, text: &str) -> String {
        let from = Registry::start();
        let made = image(text);
        from.push("app", "v1", &made);
        copy(&from.reference("app:v1"), &self.registry.reference("app:v1"), &self.options).await.unwrap();
        made.digest()
    }

    async fn roll(&self, change: impl FnOnce(&mut Options)) -> Result<RolledBack, Error> {
        let mut wanted = Options { parallel: 2, ..Options::default() };
        change(&mut wanted);
        let reference = self.registry.reference("app:v1").parse().unwrap();
        rollback(&RegistryImage::new(Arc::clone(&self.options.registry), reference), wanted).await
    }

    async fn back(&self) -> Result<RolledBack, Error> {
        self.roll(|_| ()).await
    }

    async fn undo(&self) -> Result<RolledBack, Error> {
        self.roll(|options| options.undo = true).await
    }

    fn now(&self) -> Option<String> {
        assert_eq!(self.registry.incomplete(), Vec::<String>::new());
        self.registry.tag("app", "v1")
    }
}

#[tokio::test]
async fn back_and_back_and_undone() {
    for registry in registries() {
        let tag = Tag::new(&registry);
        let (a, b, c) = (tag.publish("a").await, tag.publish("b").await, tag.publish("c").await);
        let done = tag.back().await.unwrap();
        assert_eq!((done.from.to_string(), done.to.to_string(), done.done), (c.clone(), b.clone(), true));
        assert_eq!(tag.now(), Some(b.clone()));
        tag.back().await.unwrap();
        assert_eq!(tag.now(), Some(a.clone()));
        let error = tag.back().await.unwrap_err();
        assert!(told(&error).contains("no publisher has written down"), "{}", told(&error));
        assert!(error.hint().is_some());
        tag.undo().await.unwrap();
        assert_eq!(tag.now(), Some(b.clone()));
        let error = tag.undo().await.unwrap_err();
        assert!(told(&error).contains("its last move was no rollback"), "{}", told(&error));
        // What was undone can be done again, and a publication goes on from there.
        tag.back().await.unwrap();
        assert_eq!(tag.now(), Some(a));
        tag.undo().await.unwrap();
        let d = tag.publish("d").await;
        tag.back().await.unwrap();
        assert_eq!(tag.now(), Some(b));
        tag.undo().await.unwrap();
        assert_eq!(tag.now(), Some(d));
    }
}

#[tokio::test]
async fn the_same_image_named_twice_does_not_make_a_ring() {
    for registry in registries() {
        let tag = Tag::new(&registry);
        let (a, b) = (tag.publish("a").await, tag.publish("b").await);
        tag.publish("a").await;
        tag.publish("b").await;
        for expected in [&a, &b, &a] {
            tag.back().await.unwrap();
            assert_eq!(tag.now().as_ref(), Some(expected));
        }
        tag.back().await.unwrap_err();
    }
}

#[tokio::test]
async fn the_image_itself_is_the_same_whatever_was_before() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    tag.publish("a").await;
    let b = tag.publish("b").await;
    assert_eq!(b, image("b").digest());
    // The same again is no move.
    let records = registry.count("PUT", "/manifests/");
    tag.publish("b").await;
    assert_eq!(registry.count("PUT", "/manifests/"), records + 2, "the manifest and the tag");
}

#[tokio::test]
async fn tags_of_one_image_have_a_history_each_and_none_travels() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    let a = tag.publish("a").await;
    tag.publish("b").await;
    copy(&registry.reference("app:v1"), &registry.reference("app:v2"), &tag.options).await.unwrap();
    let other =
        |name: &str| RegistryImage::new(Arc::clone(&tag.options.registry), registry.reference(name).parse().unwrap());
    rollback(&other("app:v2"), Options::default()).await.unwrap_err();
    copy(&registry.reference("app:v1"), &registry.reference("copy:v1"), &tag.options).await.unwrap();
    rollback(&other("copy:v1"), Options::default()).await.unwrap_err();
    assert!(registry.manifest("copy", &a).is_none());
    tag.back().await.unwrap();
    assert_eq!(tag.now(), Some(a));
}

#[tokio::test]
async fn a_dry_run_says_and_changes_nothing() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    let (a, b) = (tag.publish("a").await, tag.publish("b").await);
    let writes = |registry: &Registry| registry.count("PUT", "") + registry.count("POST", "");
    let before = writes(&registry);
    let said = tag.roll(|options| options.dry_run = true).await.unwrap();
    assert_eq!((said.to.to_string(), said.done), (a, false));
    assert_eq!((writes(&registry), tag.now()), (before, Some(b)));
}

#[tokio::test]
async fn what_is_no_longer_whole_is_not_gone_back_to() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    let a = tag.publish("a").await;
    let b = tag.publish("b").await;
    registry.fault(Fault::new("HEAD", &digest(&image("a").layers[0]), Kind::Status(404)));
    let error = tag.back().await.unwrap_err();
    assert!(told(&error).contains(&a) && told(&error).contains("no longer in the registry"), "{}", told(&error));
    registry.heal();
    registry.delete_manifest("app", &a);
    let error = tag.back().await.unwrap_err();
    assert!(told(&error).contains(&a) && told(&error).contains("no longer in the registry"), "{}", told(&error));
    assert_eq!(tag.now(), Some(b));
}

#[tokio::test]
async fn an_artifact_about_it_that_is_gone_is_no_obstacle() {
    let [_, registry] = registries();
    let tag = Tag::new(&registry);
    let a = tag.publish("a").await;
    let attached = attach(&registry.reference("app:v1"), NOTE, &["gone"], &tag.options).await.unwrap();
    tag.publish("b").await;
    registry.delete_manifest("app", &attached[0].to_string());
    tag.back().await.unwrap();
    assert_eq!(registry.tag("app", "v1"), Some(a));
}

#[tokio::test]
async fn a_record_that_nobody_understands_keeps_nobody_from_publishing() {
    let [_, registry] = registries();
    let tag = Tag::new(&registry);
    tag.publish("a").await;
    let b: Digest = tag.publish("b").await.parse().unwrap();
    let list = format!("sha256-{}", b.hex());
    let mut entries: serde_json::Value = serde_json::from_slice(&registry.manifest("app", &list).unwrap()).unwrap();
    let known = entries["manifests"][0].clone();
    // An image that says it is a record, one that is gone, and one whose digest is of a kind that is not known here.
    let image = image("a");
    for (digest, size) in
        [(image.digest(), image.manifest.len()), (digest(b"gone"), 4), (format!("sha512:{}", "0".repeat(128)), 4)]
    {
        let entry = serde_json::json!({
            "mediaType": image.media_type, "artifactType": history::ARTIFACT_TYPE, "digest": digest, "size": size,
        });
        entries["manifests"].as_array_mut().unwrap().insert(0, entry);
    }
    registry.push_manifest("app", Some(&list), OCI_INDEX, entries.to_string().as_bytes());
    let name = RegistryImage::new(Arc::clone(&tag.options.registry), registry.reference("app:v1").parse().unwrap());
    let found = history::records(&name, &b).await.unwrap();
    let found: Vec<String> = found.iter().map(|record| record.digest.to_string()).collect();
    assert_eq!(found, [known["digest"].as_str().unwrap()]);
    let c = tag.publish("c").await;
    assert_eq!(registry.tag("app", "v1"), Some(c));
}

#[tokio::test]
async fn another_publisher_in_between_is_noticed() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    let a = tag.publish("a").await;
    tag.publish("b").await;
    // Its move is carried out and answered, and then another one follows at once.
    registry.fault(Fault::new("PUT", "/manifests/v1", Kind::Undone).times(1));
    let error = tag.back().await.unwrap_err();
    assert!(matches!(&error, Error::Raced { expected, .. } if expected.to_string() == a), "{}", told(&error));
    assert!(told(&error).contains("somebody else moved"), "{}", told(&error));
    assert!(error.hint().is_some());
    tag.back().await.unwrap();
    assert_eq!(tag.now(), Some(a));
}

#[tokio::test]
async fn a_rollback_that_fails_leaves_no_upload_behind() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    tag.publish("a").await;
    let b = tag.publish("b").await;
    // What a record refers to is not there, and cannot be put there.
    registry.fault(Fault::new("HEAD", &digest(artifact::EMPTY), Kind::Status(404)));
    registry.fault(Fault::new("PUT", "/blobs/uploads/", Kind::Status(422)));
    tag.back().await.unwrap_err();
    assert!(registry.log().iter().any(|entry| entry.fault == Some(Kind::Status(422))), "an upload was begun");
    assert_eq!((tag.now(), registry.open_uploads()), (Some(b), 0));
}

#[tokio::test]
async fn nothing_moves_when_the_record_cannot_be_written() {
    let registry = Registry::start();
    let tag = Tag::new(&registry);
    tag.publish("a").await;
    let b = tag.publish("b").await;
    registry.fault(Fault::new("PUT", "/manifests/sha256", Kind::Status(503)));
    tag.back().await.unwrap_err();
    assert_eq!(tag.now(), Some(b));
    registry.heal();
    tag.back().await.unwrap();
}
