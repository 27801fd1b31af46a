//! Promotion: content first, then all tags.

use std::sync::Arc;

use vast_imagegen::Error;
use vast_imagegen::history::Written;
use vast_imagegen::promote::{Promoted, promote};
use vast_imagegen::publish::contents;
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::transport::TransportOptions;
use vast_testkit::image::{ImageBuilder, Layer, TestImage};
use vast_testkit::registry::{Behaviour, Fault, Kind, Registry};

use crate::support::{noise, options, source, told};

fn images(text: &str) -> [TestImage; 2] {
    ["linux/amd64", "linux/arm64"].map(|platform| {
        let layer = Layer::new().file("a", &noise(50_000)).file("t", text.as_bytes());
        ImageBuilder::new().platform(platform).uncompressed().layer(layer).build()
    })
}

async fn promoted(from: &str, to: &Registry, names: &[&str], options: &TransportOptions) -> Result<Promoted, Error> {
    let source = source(from, options).await?;
    let targets: Vec<RegistryImage> = names
        .iter()
        .map(|name| RegistryImage::new(Arc::clone(&options.registry), to.reference(name).parse().unwrap()))
        .collect();
    promote(&contents(&*source).await?, &targets, 4, &()).await
}

#[tokio::test]
async fn content_comes_first_then_what_was_before_then_every_tag() {
    let (from, to) = (Registry::start(), Registry::start());
    let new = from.push_index("app", "staging", &images("new"));
    let old = to.push_index("app", "latest", &images("old"));
    let (options, _) = options();
    let promoted = promoted(&from.reference("app:staging"), &to, &["app:v1", "app:latest"], &options).await.unwrap();
    assert_eq!(promoted.published.history, [Written::NothingBefore, Written::Previous(old.parse().unwrap())]);
    let moves: Vec<_> = promoted.moves.iter().map(|one| one.from.map(|from| from.to_string())).collect();
    assert_eq!(moves, [None, Some(old)]);
    for tag in ["v1", "latest"] {
        assert_eq!(to.tag("app", tag), Some(new.clone()));
    }
    assert_eq!(to.incomplete(), Vec::<String>::new());
    // In the order of the requests: no tag before the last of everything else that is written.
    let log = to.log();
    let tag = |target: &str| target.ends_with("/manifests/v1") || target.ends_with("/manifests/latest");
    let first_tag = log.iter().position(|entry| entry.method == "PUT" && tag(&entry.target)).unwrap();
    let last_other =
        log.iter().rposition(|entry| ["PUT", "POST"].contains(&entry.method.as_str()) && !tag(&entry.target)).unwrap();
    assert!(last_other < first_tag, "{log:#?}");
}

#[tokio::test]
async fn what_refers_to_the_image_goes_with_it_and_its_history_does_not() {
    for referrers in [Some(100), None] {
        let from = Registry::start();
        let [amd64, arm64] = images("new");
        let index = from.push_index("app", "staging", &[amd64.clone(), arm64]);
        let attach = |kind, subject: &str, media_type| from.push_artifact("app", kind, subject, media_type);
        let signature = attach("text/signature", &index, "application/vnd.oci.image.index.v1+json");
        let bill = attach("text/bill", &amd64.digest(), &amd64.media_type);
        let _ = attach(vast_imagegen::history::ARTIFACT_TYPE, &index, "application/vnd.oci.image.index.v1+json");
        let to = Registry::start_with(Behaviour { referrers, ..Behaviour::default() });
        let (options, _) = options();
        promoted(&from.reference("app:staging"), &to, &["app:v1"], &options).await.unwrap();
        let read = source(&to.reference("app:v1"), &options).await.unwrap();
        for (subject, expected) in [(&index, &signature), (&amd64.digest(), &bill)] {
            let found = read.referrers(&subject.parse().unwrap(), None).await.unwrap();
            let found: Vec<_> = found.iter().map(|entry| entry.digest().to_string()).collect();
            assert_eq!(found, std::slice::from_ref(expected), "an API for referrers: {referrers:?}");
        }
        assert_eq!(to.incomplete(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn within_a_registry_nothing_is_moved_but_mounted() {
    let registry = Registry::start();
    let new = registry.push_index("staging", "v1", &images("new"));
    let (options, _) = options();
    let promoted = promoted(&registry.reference("staging:v1"), &registry, &["prod:v1"], &options).await.unwrap();
    assert_eq!((promoted.published.mounted, promoted.published.written), (3, 0));
    assert_eq!(registry.tag("prod", "v1"), Some(new));
    assert_eq!(registry.count("GET", "/blobs/"), 0);
    // Within a repository only tags move.
    let puts = registry.count("POST", "/blobs/uploads/");
    let promoted = self::promoted(&registry.reference("prod:v1"), &registry, &["prod:v2"], &options).await.unwrap();
    assert_eq!((promoted.published.present, promoted.published.written), (3, 0));
    assert_eq!(registry.count("POST", "/blobs/uploads/"), puts);
}

#[tokio::test]
async fn no_tag_moves_when_anything_fails_before() {
    let from = Registry::start();
    from.push_index("app", "staging", &images("new"));
    for (method, part, kind) in [
        ("PUT", "/blobs/uploads/", Kind::Status(500)),
        ("PUT", "/manifests/sha256", Kind::Status(400)),
        ("HEAD", "/manifests/", Kind::Cut),
        ("GET", "/referrers/", Kind::Status(502)),
    ] {
        let to = Registry::start();
        let old = to.push_index("app", "v1", &images("old"));
        to.fault(Fault::new(method, part, kind));
        let (options, _) = options();
        let error =
            promoted(&from.reference("app:staging"), &to, &["app:v1", "app:latest"], &options).await.unwrap_err();
        assert!(told(&error).contains(&to.host()), "{}", told(&error));
        assert_eq!((to.tag("app", "v1"), to.tag("app", "latest")), (Some(old), None), "{method} {part}");
        assert_eq!((to.incomplete(), to.open_uploads()), (Vec::new(), 0), "{method} {part}");
    }
}

#[tokio::test]
async fn a_tag_that_cannot_be_moved_is_told_with_those_that_were() {
    let (from, to) = (Registry::start(), Registry::start());
    let new = from.push_index("app", "staging", &images("new"));
    to.fault(Fault::new("PUT", "/manifests/latest", Kind::Status(500)).times(6));
    let (options, _) = options();
    let names = ["app:v1", "app:latest"];
    let error = promoted(&from.reference("app:staging"), &to, &names, &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains("app:v1` moved, but the tag of") && told.contains("500 Internal"), "{told}");
    assert!(error.hint().unwrap().contains("again"));
    assert_eq!((to.tag("app", "v1"), to.tag("app", "latest")), (Some(new.clone()), None));
    let again = promoted(&from.reference("app:staging"), &to, &names, &options).await.unwrap();
    assert_eq!((again.published.written, to.tag("app", "latest")), (0, Some(new)));
}

#[tokio::test]
async fn a_registry_that_takes_no_records_is_no_obstacle() {
    let from = Registry::start();
    let new = from.push_index("app", "staging", &images("new"));
    let to = Registry::start_with(Behaviour { referrers: None, ..Behaviour::default() });
    let old = to.push_index("app", "v1", &images("old"));
    // Such a list is a tag that somebody may have forbidden.
    to.fault(Fault::new("PUT", "/manifests/sha256-", Kind::Status(400)));
    let (options, _) = options();
    let promoted = promoted(&from.reference("app:staging"), &to, &["app:v1"], &options).await.unwrap();
    assert_eq!(to.tag("app", "v1"), Some(new));
    let Written::Refused { previous, why } = &promoted.published.history[0] else {
        panic!("{:?}", promoted.published.history)
    };
    assert_eq!(previous.to_string(), old);
    assert!(why.contains("400"), "{why}");
}
