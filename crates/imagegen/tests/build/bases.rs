//! Building on images.

use std::fs;

use vast_testkit::image::ImageBuilder;
use vast_testkit::registry::Registry;

use super::support::Workplace;

/// A base like Debian's: merged `/usr`, private `/root`, sticky `/tmp`.
fn base(workplace: &Workplace) -> String {
    let archive = fs::File::create(workplace.path("image/base.tar")).unwrap();
    let mut tar = tar::Builder::new(archive);
    let mut directory = |path: &str, mode: u32| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, path, &[][..]).unwrap();
    };
    for (path, mode) in [("root/", 0o700), ("tmp/", 0o1777), ("usr/", 0o755), ("usr/bin/", 0o755)] {
        directory(path, mode);
    }
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    tar.append_link(&mut header, "bin", "usr/bin").unwrap();
    tar.finish().unwrap();
    fs::write(
        workplace.path("image/Dockerfile.base"),
        "FROM scratch\nADD base.tar /\nENV FROM_BASE=1\nCMD [\"/old\"]\n",
    )
    .unwrap();
    let built = workplace.build_as("base", |options| options.dockerfile = workplace.path("image/Dockerfile.base"));
    built.unwrap().reference()
}

#[test]
fn an_overlay_respects_the_base_it_is_put_on() {
    let workplace = Workplace::new("ARG BASE\nFROM $BASE\nCOPY ./ROOT /\nENTRYPOINT [\"/new\"]\n")
        .file("ROOT/root/.bashrc", "r")
        .file("ROOT/tmp/t", "t")
        .program("ROOT/bin/tool");
    let base = base(&workplace);
    let built = workplace
        .build_as("result", |options| {
            options.build_args.insert("BASE".into(), base.clone());
        })
        .unwrap();
    let listing = built.listing();
    assert_eq!(listing["/bin"], "777 0:0 -> usr/bin");
    assert_eq!(listing["/usr/bin/tool"], "755 0:0 file \"#!/bin/sh\\n\"");
    assert_eq!(listing["/root"], "700 0:0 dir");
    assert_eq!(listing["/tmp"], "1777 0:0 dir");
    assert_eq!(
        built.top_layer(),
        ["root", "root/.bashrc", "tmp", "tmp/t", "usr", "usr/bin", "usr/bin/tool"],
        "parents are part of the layer, so that no engine guesses their modes"
    );
    let config = built.config();
    assert_eq!(config["config"]["Env"][1], "FROM_BASE=1");
    assert!(config["config"].get("Cmd").is_none(), "a new entry point drops the inherited command");
    let of_base = super::support::image(&base.parse().unwrap());
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.base.digest"], of_base.raw.digest().to_string());
    assert!(
        config["config"]["Labels"].get("org.opencontainers.image.base.name").is_none(),
        "a path of this machine is no name"
    );
    assert_eq!(built.image().manifest.layers()[0], of_base.manifest.layers()[0], "the base's layer is taken as it is");
}

#[test]
fn an_index_is_kept_so_that_a_base_is_streamed_once() {
    let registry = Registry::start();
    let image = ImageBuilder::new().file("etc/hello", b"hello").build();
    registry.push("team/base", "v1", &image);
    let layer = vast_testkit::image::digest(&image.layers[0]);
    let reads = || registry.count("GET", &layer);
    let dockerfile = format!("FROM {}/team/base:v1\nCOPY Dockerfile /etc/\n", registry.host());
    let workplace = Workplace::new(&dockerfile);
    workplace.build_as("one", |_| ()).unwrap();
    let first = reads();
    let built = workplace.build_as("two", |_| ()).unwrap();
    assert_eq!(reads() - first, first - 1, "the second build reads the layer only to publish it");
    let labels = &built.config()["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.base.name"], format!("{}/team/base:v1", registry.host()));
    assert_eq!(labels["org.opencontainers.image.base.digest"], image.digest());
}

#[test]
fn records_of_the_base_are_not_inherited_and_own_labels_stay() {
    let workplace =
        Workplace::new("ARG BASE\nFROM $BASE\nLABEL org.opencontainers.image.version=mine inherited.not=1\n");
    fs::write(
        workplace.path("image/Dockerfile.base"),
        "FROM scratch\nLABEL org.opencontainers.image.revision=abc org.opencontainers.image.version=24.04 kept=1\nCOPY Dockerfile /\n",
    )
    .unwrap();
    let base =
        workplace.build_as("base", |options| options.dockerfile = workplace.path("image/Dockerfile.base")).unwrap();
    let built = workplace
        .build_as("result", |options| {
            options.build_args.insert("BASE".into(), base.reference());
            options.version = Some("from options".into());
        })
        .unwrap();
    let labels = built.config()["config"]["Labels"].clone();
    assert_eq!(labels["org.opencontainers.image.version"], "mine");
    assert!(labels.get("org.opencontainers.image.revision").is_none());
    assert_eq!(labels["kept"], "1");
    let annotations = built.image().manifest.annotations().clone().unwrap();
    assert_eq!(annotations["org.opencontainers.image.version"], "mine");
}

#[test]
fn a_base_with_triggers_is_refused() {
    let registry = Registry::start();
    let image = ImageBuilder::new().config("OnBuild", serde_json::json!(["RUN x"])).file("a", b"a").build();
    registry.push("team/base", "v1", &image);
    let (said, _) = Workplace::new(&format!("FROM {}/team/base:v1\n", registry.host())).refusal(|_| ());
    assert!(said.starts_with("image/Dockerfile:1: ") && said.contains("has the trigger `ONBUILD RUN x`"), "{said}");
}
