//! `rebase`: the everyday case that must pass, and each kind of conflict that must be refused with the exact list.

use serde_json::json;
use vast_imagegen::rebase::{Kind, Rebasing};
use vast_testkit::registry::Behaviour;

use crate::support::{Bench, Files, PLATFORMS, run, told};

const BASE: &str =
    "FROM scratch\nCOPY ROOT /\nENV PATH=/bin A=1\nENTRYPOINT [\"/entry\"]\nUSER old\nRUN env-hash > /.env_hash\n";
const ROOT: Files<'_> = &[
    ("ROOT/etc/os-release", "VERSION_ID=\"12\"\n"),
    ("ROOT/etc/shared.conf", "shared"),
    ("ROOT/opt/tools/boot.sh", "with a bug"),
    ("ROOT/opt/tools/doomed", "doomed"),
    ("ROOT/opt/data/one", "1"),
];

/// The base's files with changes: a new content, or none for a file that goes.
fn changed<'a>(changes: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, &'a str)> {
    let mut files: Vec<(&str, &str)> = ROOT.to_vec();
    for (name, content) in changes {
        files.retain(|(other, _)| other != name);
        files.extend(content.map(|content| (*name, content)));
    }
    files
}

fn derivative(bench: &Bench, name: &str, more: &str, files: Files<'_>) {
    bench.build(name, &format!("FROM REGISTRY/base:v1\n{more}"), files);
}

#[test]
fn a_fix_in_the_bases_overlay_reaches_images_without_a_layer_being_moved() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    derivative(&bench, "one:v1", "COPY a /opt/one/a\nENV PATH=/opt/one:$PATH\n", &[("a", "a")]);
    derivative(&bench, "two:v1", "COPY a /opt/tools/two\nENTRYPOINT [\"/two\"]\n", &[("a", "a")]);
    derivative(&bench, "three:v1", "COPY a /opt/three/a\nRUN env-hash > /.env_hash\n", &[("a", "a")]);
    // Every time stamp is another one, and that means nothing.
    let fixed = changed(&[("ROOT/opt/tools/boot.sh", Some("fixed")), ("ROOT/opt/tools/new.sh", Some("new"))]);
    bench.build("base:v2", &BASE.replace("PATH=/bin", "PATH=/bin:/fixed").replace("/entry", "/entry2"), &fixed);
    let mark = bench.mark();
    let log = bench.registry.log().len();
    for name in ["one", "two", "three"] {
        let outcomes = bench.rebase(&format!("{name}:v1"), "base:v2", &[], &format!("{name}:v2")).unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.possible && outcome.conflicts.is_empty()), "{outcomes:?}");
    }
    let uploads = bench.registry.log().into_iter().skip(log).filter(|entry| entry.method == "PUT");
    let uploaded: Vec<String> = uploads.map(|entry| entry.target).collect();
    assert_eq!(bench.layers_fetched_since(mark), [""; 0], "nothing is pulled");
    for name in ["one", "two", "three"] {
        for platform in PLATFORMS {
            let (base, old_base) = (bench.layers("base:v2", platform), bench.layers("base:v1", platform));
            let (before, after) =
                (bench.layers(&format!("{name}:v1"), platform), bench.layers(&format!("{name}:v2"), platform));
            assert_eq!(after[..base.len()], base);
            assert_eq!(after[base.len()..], before[old_base.len()..], "the own layers are the same, byte for byte");
            for layer in &after {
                assert!(!uploaded.iter().any(|target| target.contains(layer)), "nothing is pushed");
            }
        }
    }
    // What building the Dockerfile on the new base gives.
    bench.build("base:v1", &BASE.replace("PATH=/bin", "PATH=/bin:/fixed").replace("/entry", "/entry2"), &fixed);
    derivative(&bench, "one:rebuilt", "COPY a /opt/one/a\nENV PATH=/opt/one:$PATH\n", &[("a", "a")]);
    derivative(&bench, "two:rebuilt", "COPY a /opt/tools/two\nENTRYPOINT [\"/two\"]\n", &[("a", "a")]);
    derivative(&bench, "three:rebuilt", "COPY a /opt/three/a\nRUN env-hash > /.env_hash\n", &[("a", "a")]);
    for name in ["one", "two", "three"] {
        for platform in PLATFORMS {
            let (rebased, rebuilt) = (format!("{name}:v2"), format!("{name}:rebuilt"));
            assert_eq!(bench.listing(&rebased, platform), bench.listing(&rebuilt, platform), "{name}");
            let (mut ours, mut theirs) = (bench.config(&rebased, platform), bench.config(&rebuilt, platform));
            for config in [&mut ours, &mut theirs] {
                // The rebuilt one's base has another tag and, for want of a clock, the same digest.
                config["config"]["Labels"]["org.opencontainers.image.base.name"] = json!(null);
            }
            assert_eq!(ours["config"], theirs["config"], "{name}");
            assert_eq!(ours["history"], theirs["history"], "{name}");
            assert_eq!(ours["rootfs"], theirs["rootfs"], "{name}");
        }
    }
    // A rebased image can be rebased again, and one that has the base already is left alone.
    let again = bench.rebase("one:v2", "base:v2", &[], "one:v3").unwrap();
    assert!(again.iter().all(|outcome| outcome.current));
    assert_eq!(bench.registry.tag("one", "v3"), None);
}

#[test]
fn a_base_whose_layers_are_not_the_images_first_is_refused() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/data/one", Some("2"))]));
    derivative(&bench, "app:v1", "COPY a /a\n", &[("a", "a")]);
    let outcomes = bench.rebase_from("app:v1", "base:v2", Some("base:v2"), &[], "app:v2");
    // The given base is the new one: by its digest there is nothing to do, which must not hide that it is not the image's.
    let told: Vec<String> = outcomes.unwrap()[0].conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["layers: 0 of the old base's 2 layers are the image's first"]);
}

#[test]
fn paths_that_both_sides_changed_are_listed_exactly() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    derivative(
        &bench,
        "app:v1",
        "COPY ROOT /\n",
        &[
            ("ROOT/etc/shared.conf", "own"),
            ("ROOT/opt/tools/added", "own"),
            ("ROOT/opt/tools/doomed", "own"),
            ("ROOT/opt/tools/alike", "alike"),
            ("ROOT/opt/own/only", "own"),
        ],
    );
    let fixed = changed(&[
        ("ROOT/etc/shared.conf", Some("fixed")),
        ("ROOT/opt/tools/boot.sh", Some("fixed")),
        ("ROOT/opt/tools/added", Some("base's")),
        ("ROOT/opt/tools/alike", Some("alike")),
        ("ROOT/opt/tools/doomed", None),
    ]);
    bench.build("base:v2", BASE, &fixed);
    assert_eq!(
        bench.refused("app:v1", "base:v2"),
        [
            "path: /etc/shared.conf is changed by the new base, and the image has its own",
            "path: /opt/tools/added is added by the new base, and the image has its own",
            "path: /opt/tools/doomed is removed by the new base, and the image needs or has its own",
        ]
    );
    let outcomes = bench.rebase("app:v1", "base:v2", &[Kind::Path], "app:v2").unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.possible && outcome.conflicts.len() == 3));
    let listing = bench.listing("app:v2", PLATFORMS[0]);
    assert_eq!(listing["/etc/shared.conf"], bench.listing("app:v1", PLATFORMS[0])["/etc/shared.conf"]);
    assert_eq!(listing["/opt/tools/boot.sh"], bench.listing("base:v2", PLATFORMS[0])["/opt/tools/boot.sh"]);
}

/// An image made by another tool on top of `base:v1`, of one layer.
fn foreign(bench: &Bench, layer: impl Fn() -> vast_testkit::image::Layer) {
    let images: Vec<_> = PLATFORMS
        .iter()
        .map(|platform| {
            let base = bench.image("base:v1", platform);
            let own = vast_testkit::image::gzip(&layer().tar());
            let mut config: serde_json::Value = serde_json::from_slice(&base.raw_config).unwrap();
            let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
            diff_ids.push(json!(vast_testkit::image::digest(&layer().tar())));
            config["history"].as_array_mut().unwrap().push(json!({"created_by": "COPY x / # buildkit"}));
            config["config"]["Labels"] = json!({
                "org.opencontainers.image.base.name": bench.at("base:v1"),
                "org.opencontainers.image.base.digest": base.raw.digest().to_string(),
            });
            let config = serde_json::to_vec(&config).unwrap();
            let mut manifest: serde_json::Value = serde_json::from_slice(&base.raw.bytes).unwrap();
            let describe = |kind: &serde_json::Value, bytes: &[u8]| {
                json!({"mediaType": kind, "digest": vast_testkit::image::digest(bytes), "size": bytes.len()})
            };
            manifest["config"] = describe(&manifest["config"]["mediaType"], &config);
            let layer_type = manifest["layers"][0]["mediaType"].clone();
            let mut layers = Vec::new();
            for digest in bench.layers("base:v1", platform) {
                layers.push(bench.registry.blob("base", &digest).unwrap());
            }
            manifest["layers"].as_array_mut().unwrap().push(describe(&layer_type, &own));
            layers.push(own);
            let manifest = serde_json::to_vec(&manifest).unwrap();
            let media_type = base.raw.media_type.clone();
            vast_testkit::image::TestImage { manifest, media_type, config, layers, platform: (*platform).to_owned() }
        })
        .collect();
    bench.registry.push_index("app", "v1", &images);
}

#[test]
fn deletions_opaque_directories_and_hard_links_are_paths_as_well() {
    use vast_testkit::image::Layer;
    type Case<'a> = (&'a str, fn() -> Layer, &'a [(&'a str, Option<&'a str>)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "a deleted file that the base changed",
            || Layer::new().file("opt/tools/.wh.boot.sh", b""),
            &[("ROOT/opt/tools/boot.sh", Some("fixed"))],
            &["path: /opt/tools/boot.sh is changed by the new base, and the image has its own"],
        ),
        (
            "a deleted file that the base deleted as well",
            || Layer::new().file("opt/tools/.wh.doomed", b""),
            &[("ROOT/opt/tools/doomed", None)],
            &[],
        ),
        (
            "a deleted directory in which the base added something",
            || Layer::new().file("opt/.wh.data", b""),
            &[("ROOT/opt/data/two", Some("2"))],
            &["path: /opt/data/two is added by the new base, and the image has its own"],
        ),
        (
            "an emptied directory in which the base changed something",
            || Layer::new().file("opt/data/.wh..wh..opq", b"").file("opt/data/own", b"own"),
            &[("ROOT/opt/data/one", Some("fixed"))],
            &["path: /opt/data/one is changed by the new base, and the image has its own"],
        ),
        (
            "a hard link to a file that the base changed",
            || Layer::new().hard_link("opt/own", "opt/data/one"),
            &[("ROOT/opt/data/one", Some("fixed"))],
            &["path: /opt/data/one is changed by the new base, and the image has its own"],
        ),
        (
            "a directory that the base replaced by a link",
            || Layer::new().file("opt/data/own", b"own"),
            &[("ROOT/opt/data/one", None), ("ROOT/opt/data", Some("-> /srv"))],
            &["path: /opt/data leads elsewhere in the new base"],
        ),
        (
            "a directory that is gone and that the image needs",
            || Layer::new().file("opt/data/own", b"own"),
            &[("ROOT/opt/data/one", None)],
            &["path: /opt/data is removed by the new base, and the image needs or has its own"],
        ),
        (
            "a file in place of a directory in which the base changed something",
            || Layer::new().file("opt/data", b"now a file"),
            &[("ROOT/opt/data/one", Some("fixed"))],
            &["path: /opt/data/one is changed by the new base, and the image has its own"],
        ),
        (
            "a change beside what the image does",
            || Layer::new().file("opt/.wh.data", b"").file("opt/own", b"own"),
            &[("ROOT/opt/tools/boot.sh", Some("fixed"))],
            &[],
        ),
    ];
    for (name, layer, changes, expected) in cases {
        let bench = Bench::new();
        bench.build("base:v1", BASE, ROOT);
        foreign(&bench, layer);
        bench.build("base:v2", BASE, &changed(changes));
        let outcomes = bench.rebase("app:v1", "base:v2", &[], "app:v2").unwrap();
        let told: Vec<String> = outcomes[0].conflicts.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected, "{name}");
        assert_eq!(bench.registry.tag("app", "v2").is_some(), expected.is_empty(), "{name}");
    }
}

#[test]
fn environments_may_differ_only_where_nothing_was_built_against_them() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    derivative(&bench, "one:v1", "COPY a /opt/one/a\nRUN env-hash > /.env_hash\n", &[("a", "a")]);
    let release = changed(&[("ROOT/etc/os-release", Some("VERSION_ID=\"13\"\n"))]);
    bench.build("base:v2", BASE, &release);
    // Files that were copied depend on nothing: the new environment is the base's, and the hash is written anew.
    let mark = bench.mark();
    let outcomes = bench.rebase("one:v1", "base:v2", &[], "one:v2").unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.possible), "{outcomes:?}");
    let own =
        format!("referrers/{}?artifactType=application%2Fvnd.vast", bench.image("one:v1", PLATFORMS[0]).raw.digest());
    assert_eq!(bench.fetched_since(mark, &own), 1, "path indexes: its own environment is not asked for");
    let (base, own) = (bench.listing("base:v2", PLATFORMS[0]), bench.listing("one:v2", PLATFORMS[0]));
    assert_eq!(own["/.env_hash"], base["/.env_hash"]);
    assert_ne!(own["/.env_hash"], bench.listing("one:v1", PLATFORMS[0])["/.env_hash"]);
    // A process may have built against all of it.
    process_made(&bench);
    assert_eq!(bench.refused("three:v1", "base:v2"), ["environment: system: VERSION_ID \"12\" -> \"13\""]);
}

/// `three:v1`: what `one:v1` is, but its layer was made by a process.
fn process_made(bench: &Bench) {
    foreign(bench, || vast_testkit::image::Layer::new().file("opt/compiled.so", b"elf"));
    let images: Vec<_> = PLATFORMS
        .iter()
        .map(|platform| {
            let image = bench.image("app:v1", platform);
            let mut config: serde_json::Value = serde_json::from_slice(&image.raw_config).unwrap();
            let history = config["history"].as_array_mut().unwrap();
            history.last_mut().unwrap()["created_by"] = json!("RUN /bin/sh -c make install # buildkit");
            let config = serde_json::to_vec(&config).unwrap();
            let mut manifest: serde_json::Value = serde_json::from_slice(&image.raw.bytes).unwrap();
            manifest["config"]["digest"] = json!(vast_testkit::image::digest(&config));
            manifest["config"]["size"] = json!(config.len());
            let manifest = serde_json::to_vec(&manifest).unwrap();
            let layers = bench
                .layers("app:v1", platform)
                .iter()
                .map(|digest| bench.registry.blob("app", digest).unwrap())
                .collect();
            let media_type = image.raw.media_type.clone();
            vast_testkit::image::TestImage { manifest, media_type, config, layers, platform: (*platform).to_owned() }
        })
        .collect();
    bench.registry.push_index("three", "v1", &images);
}

#[test]
fn fields_that_both_sides_changed_are_listed_exactly() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    derivative(&bench, "app:v1", "ENV A=own B=1\nCOPY a /a\n", &[("a", "a")]);
    bench.build("base:v2", &BASE.replace("A=1", "A=2 B=2").replace("USER old", "USER new"), ROOT);
    assert_eq!(
        bench.refused("app:v1", "base:v2"),
        [
            "configuration: Env A is \"1\" in the old base, \"2\" in the new one and \"own\" in the image",
            "configuration: Env B is null in the old base, \"2\" in the new one and \"1\" in the image",
        ]
    );
    bench.rebase("app:v1", "base:v2", &[Kind::Configuration], "app:v2").unwrap();
    let config = bench.config("app:v2", PLATFORMS[0]);
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "A=own", "B=1"]));
    assert_eq!(config["config"]["User"], "new");
}

#[test]
fn a_base_without_the_platform_is_refused() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    derivative(&bench, "app:v1", "COPY a /a\n", &[("a", "a")]);
    let amd64 = bench.image("base:v1", PLATFORMS[0]).raw.digest();
    let outcomes = bench.rebase("app:v1", &format!("base@{amd64}"), &[Kind::Path], "app:v2").unwrap();
    let told: Vec<String> = outcomes[1].conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["platform: the new base has only linux/amd64"]);
    assert!(!outcomes[1].possible && outcomes[0].current);
    assert_eq!(bench.registry.tag("app", "v2"), None);
}

#[test]
fn an_image_that_does_not_say_its_base_needs_to_be_told() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    let error = bench.rebase("base:v1", "base:v1", &[], "app:v2").unwrap_err();
    assert!(told(&error).contains("it does not say on which base it was built"), "{}", told(&error));
    assert_eq!(error.hint().unwrap(), "name the base with --from");
}

#[test]
fn missing_records_are_read_from_the_layers_once_and_kept() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/tools/boot.sh", Some("fixed"))]));
    derivative(&bench, "app:v1", "COPY a /a\n", &[("a", "a")]);
    bench.without_records("app:v1", "plain:v1");
    let mark = bench.mark();
    bench.rebase("plain:v1", "base:v2", &[], "one:v2").unwrap();
    assert!(!bench.layers_fetched_since(mark).is_empty());
    let mark = bench.mark();
    bench.rebase("plain:v1", "base:v2", &[], "one:v3").unwrap();
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
    assert_eq!(bench.listing("one:v3", PLATFORMS[0]), bench.listing("one:v2", PLATFORMS[0]));
}

#[test]
fn records_that_are_listed_and_gone_are_made_again() {
    let bench = Bench::with(Behaviour { referrers: None, ..Behaviour::default() });
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/tools/boot.sh", Some("fixed"))]));
    derivative(&bench, "app:v1", "COPY a /a\n", &[("a", "a")]);
    bench.clean_up("app:v1");
    let outcomes = bench.rebase("app:v1", "base:v2", &[], "app:v2").unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.possible), "{outcomes:?}");
}

#[test]
fn images_share_the_reading_of_their_base_and_nothing_else_is_kept_in_memory() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/tools/boot.sh", Some("fixed"))]));
    for name in ["one", "two"] {
        derivative(&bench, &format!("{name}:v1"), "COPY a /a\n", &[("a", name)]);
    }
    let old = bench.image("base:v1", PLATFORMS[0]).raw.digest();
    let indexes = bench.recorded_indexes("one:v1", PLATFORMS[0]);
    let mark = bench.mark();
    for from in [None, Some("base:v1")] {
        let options = bench.rebase_options("base:v2", from, &[]);
        let mark = bench.mark();
        run(async {
            let rebasing = Rebasing::new(&options, &bench.transports).await.unwrap();
            for name in ["one:v1", "two:v1", "one:v1"] {
                let rebased = rebasing.rebase(&bench.at(name).parse().unwrap()).await.unwrap();
                assert!(rebased.built.is_some());
            }
        });
        assert_eq!(bench.fetched_since(mark, &format!("/base/manifests/{old}")), 1, "{from:?}");
        assert_eq!(bench.fetched_since(mark, &indexes[0]), 1, "of the old base's layer");
        assert_eq!(bench.fetched_since(mark, indexes.last().unwrap()), 2, "of the image's own, once for each turn");
    }
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
}

#[test]
fn images_that_are_looked_at_together_share_the_reading_of_their_base() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/tools/boot.sh", Some("fixed"))]));
    let names = ["one", "two", "three"];
    for name in names {
        derivative(&bench, &format!("{name}:v1"), "COPY a /a\n", &[("a", name)]);
        bench.without_records(&format!("{name}:v1"), &format!("plain:{name}"));
    }
    let base = bench.image("base:v1", PLATFORMS[0]);
    let layer = base.manifest.layers()[0].digest().to_string();
    let index = bench.recorded_indexes("base:v1", PLATFORMS[0]).remove(0);
    let options = bench.rebase_options("base:v2", None, &[]);
    for (images, shared) in
        [(names.map(|name| format!("{name}:v1")), &index), (names.map(|name| format!("plain:{name}")), &layer)]
    {
        let references: Vec<_> = images.iter().map(|name| bench.at(name).parse().unwrap()).collect();
        let mark = bench.mark();
        run(async {
            let rebasing = Rebasing::new(&options, &bench.transports).await.unwrap();
            let rebased = rebasing.rebase_all(&references).await;
            assert!(rebased.iter().all(|rebased| rebased.as_ref().is_ok_and(|rebased| rebased.built.is_some())));
        });
        assert_eq!(bench.fetched_since(mark, shared), 1, "{images:?}");
    }
}

#[test]
fn an_image_whose_base_is_not_known_costs_nothing_more() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    bench.build("base:v2", BASE, &changed(&[("ROOT/opt/tools/boot.sh", Some("fixed"))]));
    let mark = bench.mark();
    bench.rebase("base:v1", "base:v2", &[], "app:v2").unwrap_err();
    assert_eq!(bench.fetched_since(mark, "/referrers/"), 0);
}
