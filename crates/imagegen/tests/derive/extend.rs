//! `extend`: what it makes, what it reads for that, and what it refuses.

use vast_imagegen::environment::inventory;
use vast_testkit::image::{ImageBuilder, Layer};
use vast_testkit::registry::Behaviour;

use crate::support::{Bench, Files, PLATFORMS, run, told};

const BASE: &str = "FROM scratch\nCOPY ROOT /\nENV A=1\nLABEL org.opencontainers.image.version=7\nENTRYPOINT [\"/run\"]\nRUN env-hash > /.env_hash\n";
const ROOT: Files<'_> = &[
    ("ROOT/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
    ("ROOT/usr/lib/lib.so", "library"),
    ("ROOT/lib", "-> usr/lib"),
    ("ROOT/run", "/"),
    ("ROOT/var/run", "-> /run"),
    ("ROOT/opt/app/run.sh", "old"),
];
const OVERLAY: Files<'_> =
    &[("opt/app/run.sh", "new"), ("lib/more.so", "more"), ("var/run/app/pid", "1"), ("etc/app/deep/conf", "c")];

/// What building the overlay onto the image gives.
fn built(bench: &Bench, image: &str, overlay: Files<'_>) -> String {
    let named: Vec<(String, &str)> =
        overlay.iter().map(|(name, content)| (format!("overlay/{name}"), *content)).collect();
    let files: Vec<(&str, &str)> = named.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    bench.build("built:v1", &format!("FROM REGISTRY/{image}\nCOPY overlay /\n"), &files);
    "built:v1".to_owned()
}

#[test]
fn an_extended_image_is_what_a_build_gives_and_nothing_of_it_was_pulled() {
    for behaviour in [Behaviour::default(), Behaviour { referrers: None, ..Behaviour::default() }] {
        let bench = Bench::with(behaviour);
        bench.build("base:v1", BASE, ROOT);
        let mark = bench.mark();
        let extended = bench.extend("base:v1", OVERLAY, false, "app:v1").unwrap();
        assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
        assert!(extended.platforms.iter().all(|report| report.tree_known && report.indexed.is_empty()));
        let compared = built(&bench, "base:v1", OVERLAY);
        for platform in PLATFORMS {
            assert_eq!(bench.listing("app:v1", platform), bench.listing(&compared, platform));
            let (base, app) = (bench.layers("base:v1", platform), bench.layers("app:v1", platform));
            assert_eq!(app[..base.len()], base);
            assert_eq!(app, bench.layers(&compared, platform), "the very same layer");
            let (ours, theirs) = (bench.config("app:v1", platform), bench.config(&compared, platform));
            for field in ["Env", "Entrypoint", "Cmd", "WorkingDir"] {
                assert_eq!(ours["config"][field], theirs["config"][field], "{field}");
            }
            let label = |config: &serde_json::Value, name: &str| config["config"]["Labels"][name].clone();
            for name in ["org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"] {
                assert_eq!(label(&ours, name), label(&theirs, name));
            }
            assert_eq!(label(&ours, "org.opencontainers.image.version"), "7", "it is still the same software");
        }
        // It is recorded as a built one is, so it can be extended again.
        let mark = bench.mark();
        bench.extend("app:v1", &[("lib/again", "x")], false, "app:v2").unwrap();
        assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
        assert!(bench.listing("app:v2", PLATFORMS[0]).contains_key("/usr/lib/again"));
    }
}

/// A base with every awkward thing, made by another tool: links, modes, a file in the way.
fn awkward(bench: &Bench) {
    let images: Vec<_> = PLATFORMS
        .iter()
        .map(|platform| {
            let layer = Layer::new()
                .folder("usr")
                .folder("usr/lib")
                .link("lib", "usr/lib")
                .folder("run")
                .folder("var")
                .link("var/run", "/run")
                .folder_of_mode("tmp", 0o1777)
                .folder_of_mode("root", 0o700)
                .file("opt/thing", b"a file")
                .file("etc/hosts", b"hosts");
            ImageBuilder::new().platform(platform).layer(layer).layer(Layer::new().file("etc/more", b"more")).build()
        })
        .collect();
    bench.registry.push_index("plain", "v1", &images);
}

const AWKWARD: Files<'_> = &[
    ("lib/x", "1"),
    ("var/run/x", "2"),
    ("tmp/x", "3"),
    ("root/.bashrc", "4"),
    ("etc/app/conf", "5"),
    ("srv/new", "/"),
];

#[test]
fn without_path_indexes_what_may_lie_elsewhere_is_refused_and_with_index_it_lies_right() {
    let bench = Bench::new();
    awkward(&bench);
    let mark = bench.mark();
    let error = bench.extend("plain:v1", AWKWARD, false, "app:v1").map(drop).unwrap_err();
    assert!(
        told(&error).ends_with("where these belong: `/lib/x`, `/root/.bashrc`, `/srv/new`, `/tmp/x`, `/var/run/x`"),
        "{}",
        told(&error)
    );
    assert!(error.hint().unwrap().contains("--index"));
    assert_eq!(bench.registry.tag("app", "v1"), None);
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);

    let extended = bench.extend("plain:v1", AWKWARD, true, "app:v1").unwrap();
    // Both platforms have the same layers, which are read once.
    let read: Vec<usize> = extended.platforms.iter().map(|report| report.indexed.len()).collect();
    assert_eq!(read, [2, 0]);
    let listing = bench.listing("app:v1", PLATFORMS[0]);
    for (path, expected) in [
        ("/lib", "777 0:0 -> usr/lib"),
        ("/var/run", "777 0:0 -> /run"),
        ("/tmp", "1777 0:0 dir"),
        ("/root", "700 0:0 dir"),
        ("/srv/new", "755 0:0 dir"),
    ] {
        assert_eq!(listing[path], expected, "{path}");
    }
    for path in ["/usr/lib/x", "/run/x", "/tmp/x", "/root/.bashrc", "/etc/app/conf"] {
        assert!(listing[path].starts_with("644 0:0 file"), "{path}");
    }
    // The indexes are with the image now.
    let mark = bench.mark();
    bench.extend("plain:v1", AWKWARD, false, "app:v2").unwrap();
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
    assert_eq!(bench.listing("app:v2", PLATFORMS[1]), bench.listing("app:v1", PLATFORMS[1]));
}

#[test]
fn harmless_overlays_need_no_path_index_and_lie_where_a_build_puts_them() {
    let bench = Bench::new();
    awkward(&bench);
    let overlay: Files<'_> = &[("etc/hosts", "own"), ("etc/app/conf", "5"), ("opt/app/run", "6")];
    let mark = bench.mark();
    let extended = bench.extend("plain:v1", overlay, false, "app:v1").unwrap();
    assert_eq!(bench.layers_fetched_since(mark), [""; 0]);
    assert!(extended.platforms.iter().all(|report| !report.tree_known));
    let compared = built(&bench, "plain:v1", overlay);
    for platform in PLATFORMS {
        assert_eq!(bench.listing("app:v1", platform), bench.listing(&compared, platform));
    }
}

#[test]
fn a_file_where_the_overlay_has_a_directory_is_refused_as_a_build_does() {
    let bench = Bench::new();
    awkward(&bench);
    for overlay in [&[("opt/thing/inside", "x")][..], &[("usr", "a file")]] {
        let error = bench.extend("plain:v1", overlay, true, "app:v1").map(drop).unwrap_err();
        assert!(told(&error).contains("cannot put"), "{}", told(&error));
        assert_eq!(bench.registry.tag("app", "v1"), None);
    }
}

#[test]
fn an_overlay_that_changes_the_environment_renews_its_hash() {
    let bench = Bench::new();
    bench.build("base:v1", BASE, ROOT);
    let environment = |name: &str| {
        let platform = PLATFORMS[0].parse().unwrap();
        run(async { inventory(&bench.source(name).await, &platform).await.unwrap() })
    };
    let before = environment("base:v1");
    bench.extend("base:v1", OVERLAY, false, "app:kept").unwrap();
    assert_eq!(environment("app:kept"), before, "recorded without being taken again");

    let release: Files<'_> = &[("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n")];
    let error = bench.extend("base:v1", release, false, "app:v1").map(drop).unwrap_err();
    assert!(told(&error).ends_with("reading layers: `/etc/os-release`"), "{}", told(&error));
    let extended = bench.extend("base:v1", release, true, "app:v1").unwrap();
    assert!(extended.platforms.iter().all(|report| report.environment_changed));
    let after = environment("app:v1");
    assert_ne!(after.hash, before.hash);
    // The same from the layers alone, and in the image's own record.
    bench.without_records("app:v1", "plain:v1");
    assert_eq!(environment("plain:v1"), after);
    let layers = bench.layers("app:v1", PLATFORMS[0]);
    let top = bench.registry.blob("app", layers.last().unwrap()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&top[..]), &mut text).unwrap();
    assert!(text.contains(&format!("{}\n", after.hash)));
}

#[test]
fn records_that_are_listed_and_gone_are_as_good_as_none() {
    let bench = Bench::with(Behaviour { referrers: None, ..Behaviour::default() });
    bench.build("base:v1", BASE, ROOT);
    bench.clean_up("base:v1");
    let extended = bench.extend("base:v1", &[("etc/app/conf", "c")], false, "app:v1").unwrap();
    assert!(extended.platforms.iter().all(|report| !report.tree_known && report.env_hash.is_none()));
}
