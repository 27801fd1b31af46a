use std::time::Duration;

use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Behaviour, Fault, Kind, Registry};

use crate::support::{copy, image, noise, options, options_with, told};

fn made() -> TestImage {
    ImageBuilder::new().uncompressed().layer(Layer::new().file("a", &noise(3_000_000))).build()
}

#[tokio::test]
async fn passing_failures_of_any_request_do_not_stop_a_copy() {
    for kind in [
        Kind::Status(500),
        Kind::Status(502),
        Kind::Status(503),
        Kind::Status(429),
        Kind::RetryAfter(429, "1".to_owned()),
        Kind::Cut,
    ] {
        for (method, part) in [
            ("GET", "/manifests/"),
            ("GET", "/blobs/"),
            ("HEAD", "/blobs/"),
            ("POST", "/blobs/uploads/"),
            ("PUT", "/blobs/uploads/"),
            ("PUT", "/manifests/"),
        ] {
            let (from, to) = (Registry::start(), Registry::start());
            let made = made();
            from.push("app", "v1", &made);
            for registry in [&from, &to] {
                registry.fault(Fault::new(method, part, kind.clone()).times(2));
            }
            let (options, clock) = options();
            copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
            assert_eq!(to.tag("app", "v1"), Some(made.digest()), "{method} {part} {kind:?}");
            assert!(from.faults_are_used_up() || to.faults_are_used_up());
            assert!(clock.pauses().len() >= 2, "{method} {part} {kind:?}");
        }
    }
}

#[tokio::test]
async fn pauses_grow_and_end() {
    let registry = Registry::start();
    registry.fault(Fault::new("GET", "/manifests/", Kind::Status(503)));
    let (options, clock) = options();
    let error = image(&registry.reference("app:v1"), "linux/amd64", &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains("503 Service Unavailable, 6 times in a row: fault 503 by order"), "{told}");
    let pauses: Vec<u128> = clock.pauses().iter().map(Duration::as_millis).collect();
    assert_eq!(pauses, [150, 300, 600, 1200, 2400]);
}

#[tokio::test]
async fn retry_after_is_obeyed_and_absurd_ones_are_told() {
    let registry = Registry::start();
    registry.push("app", "v1", &made());
    registry.fault(Fault::new("GET", "/manifests/", Kind::RetryAfter(429, "7".to_owned())).times(1));
    let (options, clock) = options();
    image(&registry.reference("app:v1"), "linux/amd64", &options).await.unwrap();
    assert_eq!(clock.pauses(), [Duration::from_secs(7)]);

    registry.fault(Fault::new("GET", "/manifests/", Kind::RetryAfter(429, "86400".to_owned())));
    let error = image(&registry.reference("app:v1"), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("429 Too Many Requests, 1 times"), "{}", told(&error));
    assert!(error.hint().unwrap().contains("86400 s"));
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut() {
    for ranges in [true, false] {
        let from = Registry::start_with(Behaviour { ranges, ..Behaviour::default() });
        let to = Registry::start();
        let made = made();
        from.push("app", "v1", &made);
        let blob = digest(&made.layers[0]);
        from.fault(Fault::new("GET", &blob, Kind::CutAnswer(1_000_000)).times(3));
        let (options, _) = options();
        copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
        assert_eq!(to.blob("app", &blob).unwrap(), made.layers[0], "ranges served: {ranges}");
        assert!(from.faults_are_used_up());
    }
}

#[tokio::test]
async fn a_download_that_never_gets_further_ends() {
    let registry = Registry::start();
    let made = made();
    registry.push("app", "v1", &made);
    registry.fault(Fault::new("GET", &digest(&made.layers[0]), Kind::CutAnswer(0)));
    let to = Registry::start();
    let (options, _) = options();
    let error = copy(&registry.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains(&registry.reference("app:v1")) && told.contains("was cut, 6 times"), "{told}");
    assert_eq!((to.tags("app"), to.open_uploads()), (Vec::new(), 0));
}

#[tokio::test]
async fn an_upload_that_is_cut_starts_again() {
    let (from, to) = (Registry::start(), Registry::start());
    let made = made();
    from.push("app", "v1", &made);
    to.fault(Fault::new("PUT", "/blobs/uploads/", Kind::CutUpload(700_000)).times(3));
    let (options, _) = options();
    copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert!(to.faults_are_used_up());
    assert_eq!(to.blob("app", &digest(&made.layers[0])).unwrap(), made.layers[0]);
}

#[tokio::test]
async fn chunked_uploads_survive_the_same() {
    let to = Registry::start_with(Behaviour { whole_uploads: false, ..Behaviour::default() });
    let from = Registry::start();
    let made = ImageBuilder::new().uncompressed().layer(Layer::new().file("a", &noise(20_000_000))).build();
    from.push("app", "v1", &made);
    to.fault(Fault::new("PATCH", "/blobs/uploads/", Kind::CutUpload(700_000)).after(1).times(1));
    to.fault(Fault::new("PATCH", "/blobs/uploads/", Kind::Status(500)).times(1));
    let (options, _) = options();
    copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap();
    assert!(to.faults_are_used_up());
    assert_eq!(to.blob("app", &digest(&made.layers[0])).unwrap(), made.layers[0]);
}

#[tokio::test]
async fn altered_and_short_answers_are_never_used() {
    for kind in [Kind::Corrupt, Kind::Truncate(100)] {
        for part in ["/manifests/", "/blobs/"] {
            let (from, to) = (Registry::start(), Registry::start());
            from.push("app", "v1", &made());
            from.fault(Fault::new("GET", part, kind.clone()));
            let (options, _) = options();
            let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
            assert!(told(&error).contains(&from.reference("app:v1")), "{}", told(&error));
            assert_eq!(to.tags("app"), Vec::<String>::new(), "{kind:?} {part}");
            assert_eq!(to.open_uploads(), 0, "{kind:?} {part}");
        }
    }
}

#[tokio::test]
async fn nothing_is_tagged_when_a_blob_cannot_be_put() {
    let (from, to) = (Registry::start(), Registry::start());
    from.push("app", "v1", &made());
    to.fault(Fault::new("PUT", "/blobs/uploads/", Kind::Status(507)));
    let (options, _) = options();
    let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
    assert!(told(&error).contains("507"), "{}", told(&error));
    assert_eq!(to.count("PUT", "/manifests/"), 0);
    assert_eq!(to.tags("app"), Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_that_does_nothing_counts_as_cut() {
    for (method, part) in
        [("GET", "/manifests/"), ("GET", "/blobs/"), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")]
    {
        let (from, to) = (Registry::start(), Registry::start());
        from.push("app", "v1", &made());
        from.fault(Fault::new(method, part, Kind::Hang));
        to.fault(Fault::new(method, part, Kind::Hang));
        let (options, _) = options_with(|settings| {
            settings.stall = Duration::from_millis(50);
            settings.retry = settings.retry.with_attempts(2);
        });
        let error = copy(&from.reference("app:v1"), &to.reference("app:v1"), &options).await.unwrap_err();
        assert!(told(&error).contains("cut, 2 times") && told(&error).contains("nothing arrived"), "{}", told(&error));
        assert_eq!(to.tags("app"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_said_to_be() {
    // Bound and not listened to any more: nobody else takes the port meanwhile.
    let port = {
        let registry = Registry::start();
        let host = registry.host();
        drop(registry);
        host
    };
    let (options, clock) = options_with(|settings| settings.stall = Duration::from_secs(5));
    let error = image(&format!("{port}/app:v1"), "linux/amd64", &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains(&format!("the registry {port} cannot be reached")), "{told}");
    assert!(error.hint().is_some());
    assert!(clock.pauses().len() <= 2);
}
