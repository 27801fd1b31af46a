//! Whatever registries do, what tags name is complete, and a run ends in success or in one clear error.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vast_imagegen::Error;
use vast_imagegen::merge::merge;
use vast_imagegen::promote::promote;
use vast_imagegen::publish::{contents, publish};
use vast_imagegen::registry::RegistryImage;
use vast_imagegen::rollback::{self, rollback};
use vast_imagegen::transport::{TransportOptions, open_sink};
use vast_testkit::image::{ImageBuilder, Layer, TestImage, digest};
use vast_testkit::registry::{Access, Behaviour, Registry, schedule};

use crate::support::{auth_file, copy_in_parallel, noise, options_with, source, told};

/// `user:secret` in base64.
const GOOD: &str = "dXNlcjpzZWNyZXQ=";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// From one registry to the other.
    Copy,
    /// Into a folder.
    Unpack,
    /// Within the target's registry, to two tags.
    Promote,
    /// From one registry to the other, to two tags.
    PromoteAcross,
    /// Two images of one registry into an index of the other.
    Merge,
    /// Back to what the tag named before.
    Rollback,
}

const RUNS: [Run; 6] = [Run::Copy, Run::Unpack, Run::Promote, Run::PromoteAcross, Run::Merge, Run::Rollback];

fn image(platform: &str, text: &str) -> TestImage {
    ImageBuilder::new()
        .platform(platform)
        .uncompressed()
        .layer(Layer::new().file("shared", &noise(3000)))
        .layer(Layer::new().file("own", format!("{platform} {text}").as_bytes()))
        .build()
}

fn images(text: &str) -> [TestImage; 2] {
    [image("linux/amd64", text), image("linux/arm64", text)]
}

/// How the seed makes the target behave.
fn behaviour(seed: u64) -> Behaviour {
    let bit = |n: u32| seed >> (40 + n) & 1 == 1;
    let Access::Token { user, password, anonymous_pull, .. } = Access::token("user", "secret") else { unreachable!() };
    let uses = [usize::MAX, 3, 7][usize::try_from(seed >> 50 & 3).unwrap() % 3];
    Behaviour {
        access: if bit(0) { Access::Token { user, password, anonymous_pull, uses } } else { Access::Open },
        absolute_locations: bit(1),
        mounts: bit(2),
        whole_uploads: bit(3),
        ranges: bit(4),
        referrers: bit(5).then_some(100),
        terse_tokens: bit(6),
        ..Behaviour::default()
    }
}

struct Case {
    /// Requests that run beside each other would use up each other's tokens.
    parallel: usize,
    from: Registry,
    to: Registry,
    dir: tempfile::TempDir,
    options: TransportOptions,
}

impl Case {
    fn new(seed: u64) -> Self {
        let behaviour = behaviour(seed);
        let short_lived = matches!(behaviour.access, Access::Token { uses, .. } if uses != usize::MAX);
        let (from, to) = (Registry::start(), Registry::start_with(behaviour));
        let [amd64, arm64] = images("new");
        from.push("app", "amd64", &amd64);
        from.push("app", "arm64", &arm64);
        from.push_index("app", "new", &[amd64.clone(), arm64.clone()]);
        to.push_index("staging", "new", &[amd64, arm64]);
        to.push_index("app", "v1", &images("old"));
        to.push_index("app", "latest", &images("older"));
        let dir = tempfile::tempdir().unwrap();
        let files = auth_file(dir.path(), &to.host(), GOOD);
        let (options, _) = options_with(|settings| settings.auth_files = files);
        Self { parallel: if short_lived { 1 } else { 3 }, from, to, dir, options }
    }

    fn target(&self, tag: &str) -> RegistryImage {
        let reference = self.to.reference(&format!("app:{tag}")).parse().unwrap();
        RegistryImage::new(std::sync::Arc::clone(&self.options.registry), reference)
    }

    async fn promote(&self, from: &str) -> Result<String, Error> {
        let source = source(from, &self.options).await?;
        let targets = [self.target("v1"), self.target("latest")];
        let promoted = promote(&contents(&*source).await?, &targets, self.parallel, &()).await?;
        Ok(promoted.published.digest.to_string())
    }

    /// Carries `run` out. Gives the digest that `v1` names then.
    async fn run(&self, run: Run) -> Result<String, Error> {
        let new = self.from.reference("app:new");
        match run {
            Run::Copy => {
                let to = self.to.reference("app:v1");
                let published = copy_in_parallel(&new, &to, self.parallel, &self.options).await?;
                Ok(published.digest.to_string())
            }
            Run::Unpack => {
                std::fs::create_dir_all(self.dir.path().join("out")).unwrap();
                let target = format!("oci:{}:v1", self.dir.path().join("out/layout").display());
                Ok(copy_in_parallel(&new, &target, self.parallel, &self.options).await?.digest.to_string())
            }
            Run::Promote => self.promote(&self.to.reference("staging:new")).await,
            Run::PromoteAcross => self.promote(&new).await,
            Run::Merge => {
                let mut sources = Vec::new();
                for tag in ["app:amd64", "app:arm64"] {
                    sources.push(source(&self.from.reference(tag), &self.options).await?);
                }
                let merged = merge(&sources, &BTreeMap::new()).await?;
                let sink = open_sink(&self.to.reference("app:v1").parse()?, &self.options).await?;
                Ok(publish(&merged.publication, &*sink, self.parallel, &()).await?.digest.to_string())
            }
            Run::Rollback => {
                let options = rollback::Options { parallel: self.parallel, ..rollback::Options::default() };
                Ok(rollback(&self.target("v1"), options).await?.to.to_string())
            }
        }
    }
}

/// One message: what was asked for, of whom, and what to do about it.
fn assert_clear(error: &Error, case: &Case) {
    let told = told(error);
    assert!(!told.contains('\n') && told.len() < 1000, "{told}");
    let named = [&case.from, &case.to].iter().any(|registry| told.contains(&registry.host()));
    let repository = ["/app:", "/staging:"].iter().any(|part| told.contains(part));
    assert!(named && repository, "registry and repository: {told}");
    assert!(error.hint().is_some_and(|hint| !hint.contains('\n')), "a remedy: {told}");
    if told.contains(" times in a row") || told.contains(" answered ") {
        assert!(told.contains("/v2/") || told.contains("/token"), "what was asked: {told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

async fn check(seed: u64, run: Run) {
    let case = Case::new(seed);
    let first = case.to.tag("app", "v1").unwrap();
    if run == Run::Rollback {
        // Something to go back from.
        case.run(Run::Copy).await.unwrap();
    }
    let before = ["v1", "latest"].map(|tag| case.to.tag("app", tag).unwrap());
    let faults = [schedule(seed), schedule(!seed)];
    let lasting_token_faults = format!("{faults:?}").contains("/token");
    for (registry, faults) in [&case.from, &case.to].into_iter().zip(faults) {
        for fault in faults {
            registry.fault(fault);
        }
    }

    let outcome = case.run(run).await;

    assert_eq!(case.from.incomplete(), Vec::<String>::new());
    assert_eq!(case.to.incomplete(), Vec::<String>::new());
    let after = ["v1", "latest"].map(|tag| case.to.tag("app", tag).unwrap());
    let out = case.dir.path().join("out");
    match &outcome {
        Ok(named) if run == Run::Unpack => {
            let (clean, _) = options_with(|_| ());
            let read = source(&format!("oci:{}:v1", out.join("layout").display()), &clean).await.unwrap();
            assert_eq!(read.top().await.unwrap().digest().to_string(), *named);
            assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing beside the layout");
        }
        Ok(named) => {
            assert_eq!(after[0], *named);
            match run {
                Run::Rollback => assert_ne!(after[0], before[0]),
                Run::Merge => {}
                _ => assert_eq!(Some(named.clone()), case.from.tag("app", "new"), "the same content"),
            }
            if matches!(run, Run::Promote | Run::PromoteAcross) {
                assert_eq!(after[1], *named, "every tag moved");
            }
        }
        Err(error) => {
            assert_clear(error, &case);
            let tags = case.to.tags("app");
            assert_eq!(tags.iter().filter(|tag| !tag.starts_with("sha256-")).count(), 2, "{tags:?}");
            assert!(!out.exists() || std::fs::read_dir(&out).unwrap().count() == 0, "no temporary files");
        }
    }
    if !lasting_token_faults {
        assert_eq!(case.to.forgotten_uploads(), 0, "uploads that could have been cancelled");
    }
    // Once all is well again, the same works, and gives the same.
    case.from.heal();
    case.to.heal();
    let expected = if run == Run::Rollback { first } else { case.run(run).await.unwrap() };
    assert!(outcome.is_err() || outcome.unwrap() == expected);
    assert_eq!(case.to.incomplete(), Vec::<String>::new());
    // A tag whose last answer was lost may have moved; nothing else but that and what it named is possible.
    for (before, after) in before.iter().zip(&after) {
        assert!(after == before || *after == expected, "{after} is neither {before} nor {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_tags_name_is_complete_whatever_happens(seed in any::<u64>(), run in proptest::sample::select(&RUNS[..])) {
        check_now(seed, run);
    }
}

fn check_now(seed: u64, run: Run) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(check(seed, run));
}

#[test]
fn a_tag_whose_manifest_arrived_altered_is_put_again() {
    check_now(16_003_769_898_730_991_566, Run::Rollback);
}

#[test]
fn uploads_are_cancelled_with_tokens_that_are_good_for_a_few_requests() {
    check_now(7_509_408_667_921_090_860, Run::Merge);
}

#[test]
fn a_promotion_works_again_after_tokens_have_ended() {
    check_now(2_309_180_196_672_050_736, Run::Promote);
}

#[test]
fn the_check_itself_sees_what_is_incomplete() {
    let registry = Registry::start();
    let made = image("linux/amd64", "x");
    registry.push("app", "v1", &made);
    assert_eq!(registry.incomplete(), Vec::<String>::new());
    registry.corrupt_blob(&digest(&made.layers[0]), b"altered");
    assert_eq!(registry.incomplete().len(), 1);
    registry.push_manifest("app", Some("v2"), &made.media_type, b"{\"layers\":[{\"digest\":\"sha256:1\"}]}");
    assert_eq!(registry.incomplete().len(), 2);
}
