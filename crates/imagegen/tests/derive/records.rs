//! What a build records about its layers, and what it reads for that.

use vast_imagegen::environment::inventory;
use vast_imagegen::record::ENVIRONMENT;

use crate::support::{Bench, Files, PLATFORMS, run};

const ROOT: Files<'_> = &[("ROOT/etc/os-release", "VERSION_ID=\"12\"\n"), ("more/opt/tool", "tool")];
const BASE: &str = "FROM scratch\nCOPY ROOT /\nCOPY more /\n";

/// Whether an overlay can go on the image without reading layers and with all paths known.
fn is_known(bench: &Bench, image: &str) -> bool {
    let extended = bench.extend(image, &[("etc/app", "x")], false, "three:v1").unwrap();
    extended.platforms.iter().all(|report| report.tree_known)
}

#[test]
fn a_build_hands_on_what_is_recorded_about_its_base_and_reads_no_layer_for_it() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    let mark = bench.mark();
    bench.build("app:v1", "FROM REGISTRY/base:v1\nENV A=1\n", &[]);
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
    assert!(is_known(&bench, "app:v1"));
}

#[test]
fn layers_that_nobody_has_read_are_not_read_to_be_recorded() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.without_records("base:v1", "plain:v1");
    let mark = bench.mark();
    bench.build("app:v1", "FROM REGISTRY/plain:v1\nENV A=1\n", &[]);
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
    assert!(!is_known(&bench, "app:v1"));
    // What was read anyway is recorded.
    bench.build("app:v2", "FROM REGISTRY/plain:v1\nCOPY a /a\n", &[("a", "a")]);
    assert!(is_known(&bench, "app:v2"));
}

#[test]
fn a_layer_that_cannot_be_read_is_no_obstacle_where_nothing_of_it_is_needed() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.without_records("base:v1", "plain:v1");
    let layers = bench.layers("plain:v1", PLATFORMS[0]);
    bench.registry.corrupt_blob(&layers[0], b"no layer at all");
    bench.build("app:v1", "FROM REGISTRY/plain:v1\nENV A=1\n", &[]);
    assert_eq!(bench.layers("app:v1", PLATFORMS[0]), layers);
}

#[test]
fn an_environment_is_taken_from_those_layers_that_hold_something_of_it() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    let layers = bench.layers("base:v1", PLATFORMS[0]);
    let mark = bench.mark();
    let platform = PLATFORMS[0].parse().unwrap();
    run(async { inventory(&bench.source("base:v1").await, &platform).await.unwrap() });
    assert_eq!(bench.layers_fetched_since(mark), layers[..1]);
}

#[test]
fn the_environment_of_the_base_is_handed_on_unless_the_build_may_have_changed_it() {
    let bench = Bench::new();
    bench.build("base:v1", &format!("{BASE}RUN env-hash > /.env_hash\n"), ROOT);
    let recorded = |name: &str| -> Option<String> {
        let image = bench.image(name, PLATFORMS[0]).raw.digest();
        run(async {
            let source = bench.source(name).await;
            let entries = source.referrers(&image, Some(ENVIRONMENT)).await.unwrap();
            let record = source.manifest(entries.first()?).await.unwrap();
            let record = vast_imagegen::artifact::parse(&record, ENVIRONMENT, name).unwrap();
            Some(record.layers()[0].digest().to_string())
        })
    };
    let base = recorded("base:v1");
    assert!(base.is_some());
    for (name, dockerfile, expected) in [
        ("one:v1", "FROM REGISTRY/base:v1\nENV A=1\n", &base),
        ("one:v2", "FROM REGISTRY/base:v1\nCOPY a /opt/a\n", &base),
        ("one:v3", "FROM REGISTRY/base:v1 AS first\nCOPY a /opt/a\nFROM first\nCOPY a /opt/b\n", &base),
        ("one:v4", "FROM REGISTRY/base:v1\nCOPY a /etc/os-release\n", &None),
    ] {
        bench.build(name, dockerfile, &[("a", "VERSION_ID=\"13\"\n")]);
        assert_eq!(recorded(name), *expected, "{name}");
    }
}

#[test]
fn a_record_whose_blobs_are_gone_counts_as_none() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &[ROOT[0], ("more/opt/tool", "fixed")]);
    bench.without_records("base:v1", "plain:v1");
    bench.record_false_indexes("plain:v1", false);
    // Nothing of the layers is needed; and then all of it is.
    bench.build("one:v1", "FROM REGISTRY/plain:v1\nENV A=1\n", &[]);
    bench.build("one:v2", "FROM REGISTRY/plain:v1\nCOPY a /a\n", &[("a", "a")]);
    assert_eq!(bench.recorded_indexes("one:v2", PLATFORMS[0])[..2], bench.recorded_indexes("base:v1", PLATFORMS[0]));
    bench.build("app:v1", "FROM REGISTRY/base:v1\nCOPY a /a\n", &[("a", "a")]);
    bench.without_records("app:v1", "plain:v2");
    bench.record_false_indexes("plain:v2", false);
    let outcomes = bench.rebase("plain:v2", "base:v2", &[], "three:v1").unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.possible), "{outcomes:?}");
    bench.extend("plain:v1", &[("etc/app", "x")], true, "two:v1").unwrap();
    assert!(is_known(&bench, "two:v1"));
}

#[test]
fn what_a_build_read_itself_counts_for_more_than_what_its_base_says() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.without_records("base:v1", "plain:v1");
    bench.record_false_indexes("plain:v1", true);
    bench.build("app:v1", "FROM REGISTRY/plain:v1\nCOPY a /a\n", &[("a", "a")]);
    assert_eq!(bench.recorded_indexes("app:v1", PLATFORMS[0])[..2], bench.recorded_indexes("base:v1", PLATFORMS[0]));
}

#[test]
fn what_an_image_says_of_itself_is_read_once() {
    let bench = Bench::new();
    for (version, content) in [("v1", "before"), ("v2", "after")] {
        bench.build(&format!("base:{version}"), "FROM scratch\nCOPY a /etc/a\n", &[("a", content)]);
    }
    bench.build("app:v1", "FROM REGISTRY/base:v1\nCOPY b /opt/b\n", &[("b", "b")]);
    // With an index and without: then the configuration has to be read for the platform alone.
    let alone = format!("app@{}", bench.image("app:v1", PLATFORMS[0]).raw.digest());
    for image in ["app:v1", &*alone] {
        let mut mark = bench.mark();
        let mut check = |what: &str| {
            let log = bench.registry.log();
            let read = log[mark..].iter().filter(|entry| entry.method == "GET" && entry.status == 200);
            let mut named: Vec<&str> = read.map(|entry| &*entry.target).filter(|at| at.contains("/sha256:")).collect();
            let all = named.len();
            named.sort_unstable();
            named.dedup();
            assert!(all > 3 && named.len() == all, "{what} of {image}: {:#?}", &log[mark..]);
            mark = log.len();
        };
        bench.extend(image, &[("opt/c", "c")], false, "app:extended").unwrap();
        check("extend");
        bench.rebase(image, "base:v2", &[], "app:rebased").unwrap();
        check("rebase");
    }
}
