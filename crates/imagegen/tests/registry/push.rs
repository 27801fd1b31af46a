use vast_imagegen::manifest::describe;
use vast_imagegen::publish::{Blob, Event, Progress, Publication, publish};
use vast_imagegen::reference::Reference;
use vast_imagegen::sink::Content;
use vast_imagegen::source::RawManifest;
use vast_imagegen::transport::open_sink;
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Behaviour, Registry};

use crate::support::{copy, noise, options, options_with, told};

/// An image with a layer of some megabytes and a small one.
fn large() -> TestImage {
    ImageBuilder::new()
        .uncompressed()
        .layer(Layer::new().file("large", &noise(20_000_000)))
        .layer(Layer::new().file("small", b"small"))
        .build()
}

fn holds(registry: &Registry, repository: &str, image: &TestImage) -> bool {
    image.blobs().all(|blob| registry.blob(repository, &digest(blob)).as_ref() == Some(blob))
}

#[derive(Default)]
struct Events(std::sync::Mutex<Vec<Event>>);

impl Progress for Events {
    fn blob(&self, _: &oci_spec::image::Descriptor, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn a_built_image_is_published_from_files_and_memory() {
    let registry = Registry::start();
    let made = ImageBuilder::new().file("a", &noise(3_000_000)).build();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layer");
    std::fs::write(&file, &made.layers[0]).unwrap();
    let publication = Publication {
        blobs: vec![
            Blob { descriptor: describe("application/json", &made.config), content: Content::Bytes(&made.config) },
            Blob { descriptor: describe("application/octet-stream", &made.layers[0]), content: Content::File(&file) },
        ],
        manifests: vec![RawManifest { bytes: made.manifest.clone(), media_type: made.media_type.clone() }],
        ..Publication::default()
    };
    let (options, _) = options();
    let reference: Reference = registry.reference("team/app:v1").parse().unwrap();
    let sink = open_sink(&reference, &options).await.unwrap();
    let events = Events::default();
    let published = publish(&publication, &*sink, 4, &events).await.unwrap();
    assert_eq!((published.written, published.present), (2, 0));
    assert_eq!(registry.tag("team/app", "v1"), Some(made.digest()));
    assert!(holds(&registry, "team/app", &made));
    let sent: Vec<u64> = events
        .0
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| if let Event::Sent(n) = event { Some(*n) } else { None })
        .collect();
    assert!(sent.contains(&(made.layers[0].len() as u64)), "{sent:?}");

    let again = publish(&publication, &*sink, 4, &()).await.unwrap();
    assert_eq!((again.written, again.present), (0, 2));
    assert_eq!(registry.count("POST", "/blobs/uploads/"), 2, "blobs that are there are not sent again");
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_built_is_not_published() {
    let registry = Registry::start();
    let made = ImageBuilder::new().file("a", b"1").build();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layer");
    let (options, _) = options();
    let mut altered = made.layers[0].clone();
    altered[20] ^= 1;
    for content in [altered, [&made.layers[0][..], b"x"].concat(), b"short".to_vec()] {
        std::fs::write(&file, content).unwrap();
        let publication = Publication {
            blobs: vec![
                Blob { descriptor: describe("application/json", &made.config), content: Content::Bytes(&made.config) },
                Blob { descriptor: describe("a/b", &made.layers[0]), content: Content::File(&file) },
            ],
            manifests: vec![RawManifest { bytes: made.manifest.clone(), media_type: made.media_type.clone() }],
            ..Publication::default()
        };
        let reference: Reference = registry.reference("app:v1").parse().unwrap();
        let sink = open_sink(&reference, &options).await.unwrap();
        publish(&publication, &*sink, 4, &()).await.unwrap_err();
        assert_eq!(registry.tags("app"), Vec::<String>::new());
        assert_eq!(registry.open_uploads(), 0, "a failed upload is cancelled");
    }
}

#[tokio::test]
async fn copying_takes_every_platform_and_names_last() {
    let (from, to) = (Registry::start(), Registry::start());
    let images: Vec<_> = ["linux/amd64", "linux/arm64"]
        .into_iter()
        .map(|platform| ImageBuilder::new().platform(platform).file("p", platform.as_bytes()).build())
        .collect();
    let index = from.push_index("app", "v1", &images);
    let (options, _) = options();
    let published = copy(&from.reference("app:v1"), &to.reference("app:v2"), &options).await.unwrap();
    assert_eq!(published.digest.to_string(), index);
    assert_eq!(to.tag("app", "v2"), Some(index));
    assert!(images.iter().all(|image| holds(&to, "app", image)));
    let log = to.log();
    let last = log.last().unwrap();
    assert_eq!((last.method.as_str(), last.target.as_str()), ("PUT", "/v2/app/manifests/v2"));
}

#[tokio::test]
async fn blobs_are_mounted_within_a_registry_and_not_moved() {
    let registry = Registry::start();
    let made = large();
    registry.push("base", "v1", &made);
    let (options, _) = options();
    let published = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert_eq!((published.mounted, published.written), (3, 0));
    assert!(holds(&registry, "app", &made));
    assert_eq!(registry.count("GET", "/blobs/"), 0);
}

#[tokio::test]
async fn a_declined_mount_becomes_an_upload() {
    let registry = Registry::start_with(Behaviour { mounts: false, ..Behaviour::default() });
    let made = large();
    registry.push("base", "v1", &made);
    // Reading and writing the same registry at once, on as few connections as there can be.
    let (options, _) = options_with(|settings| settings.connections = 2);
    let published = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert_eq!((published.mounted, published.written), (0, 3));
    assert!(holds(&registry, "app", &made));
    assert!(registry.most_at_once() <= 2);
    assert_eq!(registry.open_uploads(), 0, "the upload that the registry opened for the mount is the one used");
}

#[tokio::test]
async fn absolute_locations_are_followed_like_relative_ones() {
    let registry = Registry::start_with(Behaviour { absolute_locations: true, ..Behaviour::default() });
    let from = Registry::start();
    let made = large();
    from.push("app", "v1", &made);
    let (options, _) = options();
    copy(&from.reference("app:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert!(holds(&registry, "app", &made));
}

#[tokio::test]
async fn chunks_are_sent_where_whole_uploads_are_refused() {
    let registry = Registry::start_with(Behaviour { whole_uploads: false, ..Behaviour::default() });
    let from = Registry::start();
    let made = large();
    from.push("app", "v1", &made);
    let (options, _) = options();
    copy(&from.reference("app:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert!(holds(&registry, "app", &made));
    // 20 MB in chunks of 8 MiB.
    assert!(registry.count("PATCH", "/blobs/uploads/") >= 3);
}

#[tokio::test]
async fn at_most_so_many_connections_are_used_at_once() {
    let (from, to) = (Registry::start(), Registry::start());
    let made = (0..12)
        .fold(ImageBuilder::new().uncompressed(), |builder, n| {
            builder.layer(Layer::new().file(&format!("{n}"), &noise(300_000 + n)))
        })
        .build();
    from.push("app", "v1", &made);
    let (options, _) = options_with(|settings| settings.connections = 4);
    copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert!(from.most_at_once() <= 2 && to.most_at_once() <= 2);
    assert!(holds(&to, "app", &made));
}

#[tokio::test]
async fn a_pinned_name_takes_no_other_image() {
    let registry = Registry::start();
    let (one, two) = (ImageBuilder::new().file("a", b"1").build(), ImageBuilder::new().file("a", b"2").build());
    registry.push("app", "one", &one);
    let (options, _) = options();
    let to = registry.reference(&format!("to:v1@{}", two.digest()));
    let error = copy(&registry.reference("app:one"), &to, &options).await.unwrap_err();
    assert!(told(&error).contains("whose digest is"), "{}", told(&error));
    assert_eq!(registry.tags("to"), Vec::<String>::new());
    let to = registry.reference(&format!("to:v1@{}", one.digest()));
    copy(&registry.reference("app:one"), &to, &options).await.unwrap();
    assert_eq!(registry.tag("to", "v1"), Some(one.digest()));
}

#[tokio::test]
async fn a_blob_named_twice_is_put_once() {
    let (from, to) = (Registry::start(), Registry::start());
    let layer = || Layer::new().file("same", b"same");
    let made = ImageBuilder::new().layer(layer()).layer(layer()).build();
    from.push("app", "v1", &made);
    let (options, _) = options();
    let published = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert_eq!(published.written, 2);
}
