use vast_testkit::image::{ImageBuilder, TestImage};
use vast_testkit::registry::{Access, Behaviour, Fault, Kind, Registry};

use crate::support::{auth_file, copy, copy_in_parallel, image, noise, options, options_with, told};

/// `user:secret` in base64.
const GOOD: &str = "dXNlcjpzZWNyZXQ=";
/// `user:wrong`.
const WRONG: &str = "dXNlcjp3cm9uZw==";

fn made() -> TestImage {
    ImageBuilder::new().file("a", &noise(100_000)).build()
}

fn guarded(access: Access) -> Registry {
    let registry = Registry::start_with(Behaviour { access, ..Behaviour::default() });
    registry.push("base", "v1", &made());
    registry
}

fn basic() -> Access {
    Access::Basic { user: "user".to_owned(), password: "secret".to_owned() }
}

#[tokio::test]
async fn public_images_are_read_with_an_anonymous_token() {
    let registry = guarded(Access::token("user", "secret"));
    let (options, _) = options();
    image(&registry.reference("base:v1"), "linux/amd64", &options).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 1, "one token serves all requests");
}

#[tokio::test]
async fn writing_needs_credentials_and_says_so() {
    let registry = guarded(Access::token("user", "secret"));
    let (options, _) = options();
    let error = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains("cannot write to") && told.contains("asks for credentials"), "{told}");
    assert!(error.hint().unwrap().contains("docker login"), "{:?}", error.hint());
    assert_eq!(registry.tags("app"), Vec::<String>::new());
}

#[tokio::test]
async fn credentials_of_an_auth_file_open_both_kinds_of_registry() {
    for access in [Access::token("user", "secret"), basic()] {
        let registry = guarded(access);
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &registry.host(), GOOD);
        let (options, _) = options_with(|settings| settings.auth_files = files);
        let published = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap();
        assert_eq!(published.mounted, 2, "the token covers the source of the mount");
    }
}

#[tokio::test]
async fn refused_credentials_name_the_user_and_never_the_secret() {
    for access in [Access::token("user", "secret"), basic()] {
        let registry = guarded(access);
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &registry.host(), WRONG);
        let (options, clock) = options_with(|settings| settings.auth_files = files);
        let reference = registry.reference("base:v1");
        let error = image(&reference, "linux/amd64", &options).await.unwrap_err();
        let told = told(&error);
        assert!(told.contains(&reference) && told.contains("refused the credentials of `user`"), "{told}");
        assert!(!told.contains("wrong") && !format!("{error:?}").contains("wrong"), "{told}");
        assert!(clock.pauses().is_empty(), "wrong credentials do not get better by waiting");
    }
}

#[tokio::test]
async fn a_token_that_ends_midway_is_replaced() {
    for uses in [1, 2, 3, 5] {
        let Access::Token { user, password, anonymous_pull, .. } = Access::token("user", "secret") else {
            unreachable!()
        };
        let registry = guarded(Access::Token { user, password, anonymous_pull, uses });
        let from = Registry::start();
        let made = ImageBuilder::new().file("b", &noise(2_000_000)).build();
        from.push("app", "v1", &made);
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &registry.host(), GOOD);
        let (options, _) = options_with(|settings| settings.auth_files = files);
        let (from, to) = (from.reference("app:v1"), registry.reference("app:v1"));
        // One by one: parallel requests would use the tokens up for each other.
        copy_in_parallel(&from, &to, 1, &options).await.unwrap();
        assert_eq!(registry.tag("app", "v1"), Some(made.digest()), "with tokens for {uses} requests");
    }
}

#[tokio::test]
async fn a_token_refused_for_good_is_not_fetched_for_ever() {
    let registry = guarded(Access::token("user", "secret"));
    registry.fault(Fault::new("GET", "/manifests/", Kind::ExpireToken));
    let (options, _) = options();
    image(&registry.reference("base:v1"), "linux/amd64", &options).await.unwrap_err();
    assert!(registry.count("GET", "/token") <= 2);
}

#[tokio::test]
async fn a_token_service_that_is_down_is_not_taken_for_refused_credentials() {
    let registry = guarded(Access::token("user", "secret"));
    registry.fault(Fault::new("GET", "/token", Kind::Status(503)));
    let (options, clock) = options();
    let error = image(&registry.reference("base:v1"), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("503"), "{}", told(&error));
    assert_eq!(clock.pauses().len(), 5);
    registry.heal();
    registry.fault(Fault::new("GET", "/token", Kind::Status(503)).times(2));
    image(&registry.reference("base:v1"), "linux/amd64", &options).await.unwrap();
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_becomes_an_upload() {
    let registry = guarded(Access::token("user", "secret"));
    // The registry refuses the mount outright instead of opening an upload.
    registry.fault(Fault::new("POST", "mount=", Kind::Status(403)));
    let dir = tempfile::tempdir().unwrap();
    let files = auth_file(dir.path(), &registry.host(), GOOD);
    let (options, _) = options_with(|settings| settings.auth_files = files);
    let published = copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap();
    assert_eq!((published.mounted, published.written), (0, 2));
}

#[tokio::test]
async fn identity_tokens_are_exchanged_for_access_tokens() {
    let registry = guarded(Access::token("user", "secret"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for (token, works) in [("secret", true), ("withdrawn", false)] {
        let auths = serde_json::json!({"auths": {registry.host(): {"identitytoken": token}}}).to_string();
        std::fs::write(&path, auths).unwrap();
        let files = vast_imagegen::registry::AuthFiles::new(vec![path.clone()]);
        let (options, _) = options_with(|settings| settings.auth_files = files);
        let to = registry.reference("app:v1");
        match copy(&registry.reference("base:v1"), &to, &options).await {
            Ok(_) => assert!(works),
            Err(error) => assert!(!works && !told(&error).contains(token), "{}", told(&error)),
        }
    }
    assert!(registry.count("POST", "/token") >= 2);
}

#[tokio::test]
async fn other_hosts_get_no_credentials() {
    let storage = Registry::start();
    let access = Access::token("user", "secret");
    let behaviour = Behaviour { access, storage: Some(storage.host()), mounts: false, ..Behaviour::default() };
    let registry = Registry::start_with(behaviour);
    let made = made();
    registry.push("base", "v1", &made);
    storage.push("base", "v1", &made);
    let dir = tempfile::tempdir().unwrap();
    let files = auth_file(dir.path(), &registry.host(), GOOD);
    let (options, _) = options_with(|settings| settings.auth_files = files);
    // Blobs come from the storage by redirect; uploads are sent to it, which knows nothing of them.
    copy(&registry.reference("base:v1"), &format!("oci:{}", dir.path().join("l").display()), &options).await.unwrap();
    copy(&registry.reference("base:v1"), &registry.reference("app:v1"), &options).await.unwrap_err();
    let log = storage.log();
    assert!(log.iter().any(|entry| entry.method == "GET") && log.iter().any(|entry| entry.method == "PUT"));
    assert!(log.iter().all(|entry| !entry.authorized), "{log:?}");
}

#[tokio::test]
async fn broken_credentials_are_told_when_the_registry_wants_some() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, r#"{"credsStore":"absent-helper-of-a-test"}"#).unwrap();
    let files = vast_imagegen::registry::AuthFiles::new(vec![path]);
    let public = guarded(Access::token("user", "secret"));
    let (options, _) = options_with(|settings| settings.auth_files = files);
    image(&public.reference("base:v1"), "linux/amd64", &options).await.unwrap();
    let private = guarded(basic());
    let error = image(&private.reference("base:v1"), "linux/amd64", &options).await.unwrap_err();
    assert!(told(&error).contains("config.json"), "{}", told(&error));
}
