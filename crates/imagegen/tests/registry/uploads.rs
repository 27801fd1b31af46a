//! Uploads that break, at every kind of place, and registries of every dialect.

use vast_imagegen::manifest::describe;
use vast_imagegen::sink::Content;
use vast_imagegen::transport::open_sink;
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Access, Behaviour, Fault, Kind, Registry};

use crate::support::{auth_file, copy, noise, options, options_with, told};

/// `user:secret` in base64.
const GOOD: &str = "dXNlcjpzZWNyZXQ=";

/// What is read at once of what is uploaded.
const READ: usize = 256 << 10;
/// The first size of a chunk.
const CHUNK: usize = 8 << 20;

/// An image whose one layer is a little more than a chunk.
fn made() -> TestImage {
    ImageBuilder::new().uncompressed().layer(Layer::new().file("a", &noise(CHUNK + READ))).build()
}

fn whole(registry: &Registry, made: &TestImage) {
    assert_eq!(registry.tag("app", "v1"), Some(made.digest()));
    assert_eq!(registry.incomplete(), Vec::<String>::new());
    assert!(registry.faults_are_used_up());
    assert_eq!(registry.open_uploads(), 0, "what was interrupted was cancelled");
}

#[tokio::test]
async fn an_upload_in_one_piece_survives_a_cut_at_every_place() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    let blob = &made.layers[0];
    let length = blob.len();
    for at in [0, 1, READ - 1, READ, READ + 1, CHUNK - 1, CHUNK, CHUNK + 1, length - 1, length] {
        let to = Registry::start();
        to.fault(Fault::new("PUT", &digest(blob).replace(':', "%3A"), Kind::CutUpload(at)).times(2));
        let (options, clock) = options();
        copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
        assert_eq!(clock.pauses().len(), 2, "cut after {at} bytes");
        whole(&to, &made);
    }
}

#[tokio::test]
async fn an_upload_in_chunks_survives_a_cut_at_every_place_of_every_chunk() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    let last = made.layers[0].len() - CHUNK;
    let ranges = [0, 1, READ, CHUNK - 1, CHUNK].map(|at| (0, at));
    for (chunk, at) in ranges.into_iter().chain([0, 1, last - 1, last].map(|at| (1, at))) {
        let to = Registry::start_with(Behaviour { whole_uploads: false, ..Behaviour::default() });
        // The configuration goes first.
        to.fault(Fault::new("PATCH", "/blobs/uploads/", Kind::CutUpload(at)).after(1 + chunk).times(1));
        let (options, clock) = options();
        let from = &from.reference("app:v1");
        crate::support::copy_in_parallel(from, &to.reference("app:v1"), 1, &options).await.unwrap();
        assert_eq!(clock.pauses().len(), 1, "chunk {chunk} cut after {at} bytes");
        whole(&to, &made);
    }
}

#[tokio::test]
async fn a_blob_that_was_stored_and_not_confirmed_is_not_sent_again() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    for whole_uploads in [true, false] {
        let to = Registry::start_with(Behaviour { whole_uploads, ..Behaviour::default() });
        let blob = digest(&made.layers[0]).replace(':', "%3A");
        // The answer to the request that completes the upload is lost.
        to.fault(Fault::new("PUT", &blob, Kind::CutBeforeAnswer).after(usize::from(!whole_uploads)).times(1));
        let (options, clock) = options();
        copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
        assert_eq!(clock.pauses().len(), 1);
        assert_eq!(to.count("PUT", &blob), 1 + usize::from(!whole_uploads), "sent once");
        whole(&to, &made);
    }
}

#[tokio::test]
async fn answers_that_are_lost_after_the_work_are_survived_everywhere() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    for (method, part) in [
        ("HEAD", "/blobs/"),
        ("POST", "/blobs/uploads/"),
        ("PATCH", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/sha256"),
        ("PUT", "/manifests/v1"),
    ] {
        let to = Registry::start_with(Behaviour { whole_uploads: method != "PATCH", ..Behaviour::default() });
        to.fault(Fault::new(method, part, Kind::CutBeforeAnswer).times(2));
        let (options, _) = options();
        copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
        assert_eq!(to.tag("app", "v1"), Some(made.digest()), "{method} {part}");
        assert_eq!(to.incomplete(), Vec::<String>::new());
        assert!(to.faults_are_used_up());
        assert_eq!(to.forgotten_uploads(), 0, "{method} {part}");
    }
}

#[tokio::test]
async fn locations_may_be_paths_addresses_or_missing() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    for whole_uploads in [true, false] {
        for kind in [Kind::RelativeLocation, Kind::AbsoluteLocation] {
            let to = Registry::start_with(Behaviour { whole_uploads, ..Behaviour::default() });
            for method in ["POST", "PATCH"] {
                to.fault(Fault::new(method, "/blobs/uploads/", kind.clone()));
            }
            let (options, _) = options();
            copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
            assert_eq!((to.tag("app", "v1"), to.open_uploads()), (Some(made.digest()), 0));
        }
    }
    // A chunk that is taken without a new address: the old one goes on.
    let to = Registry::start_with(Behaviour { whole_uploads: false, ..Behaviour::default() });
    to.fault(Fault::new("PATCH", "/blobs/uploads/", Kind::NoLocation));
    let (options, _) = options();
    copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert_eq!((to.tag("app", "v1"), to.open_uploads()), (Some(made.digest()), 0));
    // An upload without an address is none, and is said to be.
    let to = Registry::start();
    to.fault(Fault::new("POST", "/blobs/uploads/", Kind::NoLocation));
    let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains("no usable address to upload to, asked POST /v2/app/blobs/uploads/"), "{told}");
    assert!(error.hint().is_some());
    assert_eq!(to.tags("app"), Vec::<String>::new());
}

#[tokio::test]
async fn a_mount_that_is_declined_without_an_address_becomes_an_upload() {
    let registry = Registry::start_with(Behaviour { mounts: false, ..Behaviour::default() });
    let made = ImageBuilder::new().file("a", b"1").build();
    registry.push("base", "v1", &made);
    registry.fault(Fault::new("POST", "mount=", Kind::NoLocation));
    let (options, _) = options();
    let published = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert_eq!((published.mounted, published.written), (0, 2));
    assert_eq!(registry.forgotten_uploads(), 0);
}

#[tokio::test]
async fn dialects_of_docker_hub_and_ghcr() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    let storage = Registry::start();
    for (name, behaviour) in [
        ("Docker Hub", Behaviour { mounts: true, ..Behaviour::docker_hub(None) }),
        ("GHCR", Behaviour::ghcr()),
        (
            "a proxy with a limit of its own",
            Behaviour { whole_uploads: false, chunk_limit: Some(1 << 20), ..Behaviour::default() },
        ),
    ] {
        let to = Registry::start_with(behaviour);
        // Their rate limits, with and without saying how long.
        to.fault(Fault::new("PUT", "/manifests/", Kind::Status(429)).times(1));
        to.fault(Fault::new("POST", "/blobs/", Kind::RetryAfter(429, "5".to_owned())).times(1));
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &to.host(), GOOD);
        let (options, clock) = options_with(|settings| settings.auth_files = files);
        copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
        assert_eq!(to.tag("app", "v1"), Some(made.digest()), "{name}");
        assert_eq!((to.incomplete(), to.open_uploads()), (Vec::new(), 0), "{name}");
        assert_eq!(clock.pauses().len(), 2, "{name}");
        // And within them, by mounting.
        let mounted = copy(&to.reference("app:v1"), &to.reference("other:v1"), &options).await.unwrap();
        assert_eq!((mounted.mounted, mounted.written), (2, 0), "{name}");
    }
    // Docker Hub's layers are elsewhere.
    let hub = Registry::start_with(Behaviour::docker_hub(Some(storage.host())));
    hub.push("app", "v1", &made);
    storage.push("app", "v1", &made);
    let to = Registry::start();
    let (options, _) = options();
    copy(&hub.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert_eq!(to.incomplete(), Vec::<String>::new());
}

#[tokio::test]
async fn a_limit_that_nothing_fits_is_one_clear_error() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    let behaviour = Behaviour { whole_uploads: false, chunk_limit: Some(1000), ..Behaviour::default() };
    let to = Registry::start_with(behaviour);
    let (options, _) = options();
    let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
    assert!(told(&error).contains("413 Payload Too Large: the chunk is too large (PATCH /v2/app/"), "{}", told(&error));
    assert!(error.hint().unwrap().contains("limit"));
    assert_eq!((to.tags("app"), to.open_uploads()), (Vec::new(), 0));
}

#[tokio::test]
async fn between_the_smallest_chunk_and_the_limit_is_tried_once_and_no_more() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    // 8 MiB are refused, and 5 MiB are what there is between.
    for (limit, fits) in [(6 << 20, true), (1 << 20, false)] {
        let behaviour = Behaviour { whole_uploads: false, chunk_limit: Some(limit), ..Behaviour::default() };
        let to = Registry::start_with(Behaviour { smallest_chunk: Some(5 << 20), ..behaviour });
        let (options, _) = options();
        let (source, target) = (from.reference("app:v1"), to.reference("app:v1"));
        match crate::support::copy_in_parallel(&source, &target, 1, &options).await {
            Ok(_) => assert!(fits),
            Err(error) => assert!(!fits && told(&error).contains("413 Payload Too Large"), "{}", told(&error)),
        }
        // The configuration, what was refused, and of what fits two.
        assert_eq!(to.count("PATCH", ""), if fits { 4 } else { 3 });
        assert_eq!((to.tag("app", "v1").is_some(), to.open_uploads()), (fits, 0));
    }
}

#[tokio::test]
async fn a_smallest_chunk_beyond_all_measure_is_not_gathered() {
    let to =
        Registry::start_with(Behaviour { whole_uploads: false, smallest_chunk: Some(1 << 40), ..Behaviour::default() });
    let (options, _) = options();
    let sink = open_sink(&to.reference("app:v1").parse().unwrap(), &options).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let length = (64 << 20) + 1;
    file.as_file().set_len(length).unwrap();
    let mut descriptor = describe("application/octet-stream", b"zeros");
    descriptor.set_size(length);
    let error = sink.put_blob(&descriptor, Content::File(file.path()), &|_| ()).await.unwrap_err();
    assert!(told(&error).contains("sent a smallest chunk of 1099511627776 bytes"), "{}", told(&error));
    assert_eq!(to.count("PATCH", ""), 0);
    // What is one chunk anyway may have any size.
    let small = describe("application/octet-stream", b"small");
    sink.put_blob(&small, Content::Bytes(b"small"), &|_| ()).await.unwrap();
    sink.settle().await;
    assert_eq!(to.open_uploads(), 0);
}

#[tokio::test]
async fn tokens_that_end_in_the_middle_of_an_upload_in_chunks_are_replaced() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    for uses in 1..6 {
        let Access::Token { user, password, anonymous_pull, .. } = Access::token("user", "secret") else {
            unreachable!()
        };
        let access = Access::Token { user, password, anonymous_pull, uses };
        let to = Registry::start_with(Behaviour { access, whole_uploads: false, ..Behaviour::default() });
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &to.host(), GOOD);
        let (options, _) = options_with(|settings| settings.auth_files = files);
        let (source, target) = (from.reference("app:v1"), to.reference("app:v1"));
        let copied = crate::support::copy_in_parallel(&source, &target, 1, &options).await;
        assert!(copied.is_ok(), "tokens for {uses} requests: {}", told(&copied.unwrap_err()));
        assert_eq!((to.incomplete(), to.open_uploads()), (Vec::new(), 0), "tokens for {uses} requests");
    }
}

#[tokio::test]
async fn an_alteration_on_the_way_is_noticed_by_the_registry_and_told() {
    let (made, from) = (made(), Registry::start());
    from.push("app", "v1", &made);
    for whole_uploads in [true, false] {
        let to = Registry::start_with(Behaviour { whole_uploads, ..Behaviour::default() });
        let method = if whole_uploads { "PUT" } else { "PATCH" };
        to.fault(Fault::new(method, "/blobs/uploads/", Kind::CorruptUpload));
        let (options, _) = options();
        let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
        assert!(told(&error).contains("did not match uploaded content"), "{}", told(&error));
        assert_eq!((to.tags("app"), to.open_uploads()), (Vec::new(), 0));
    }
}
