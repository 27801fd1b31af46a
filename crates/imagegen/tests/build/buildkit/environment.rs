//! The environment of what `BuildKit` built: recorded as the container has it, and without reading a base for nothing.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Command;

use vast_envhash::Inventory;
use vast_imagegen::build::{DEFAULT_EPOCH, Stamp};
use vast_imagegen::extend::extend;
use vast_imagegen::layer::Compression;
use vast_imagegen::rebase::{Kind, Rebasing};
use vast_imagegen::record::{ENVIRONMENT, PACKAGES};
use vast_imagegen::source::{Image, ImageSource};

use super::*;

const BOOKWORM: &str = "dir etc 755 0:0\nfile etc/os-release 644 0:0 VERSION_ID=\"12\"\n";
const TRIXIE: &str = "file etc/os-release 644 0:0 VERSION_ID=\"13\"\n";
const TIME: &str = "2030-01-01T00:00:00Z";

/// What `vast-envhash` says in a container of the image in `layout`, and what `/.env_hash` says there.
fn container(layout: &Path) -> (Inventory, Option<String>) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    let image = format!("{}:v1", layout.display());
    let unpacked = Command::new("umoci").args(["raw", "unpack", "--image", &image]).arg(&root).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let machine = if Platform::host().architecture == "arm64" { "aarch64" } else { "x86_64" };
    let options = vast_envhash::Options { machine: Some(machine.to_owned()), ..Default::default() };
    let said = fs::read_to_string(root.join(".env_hash")).ok();
    (vast_envhash::hash(&root, &options).unwrap(), said.map(|text| text.trim().to_owned()))
}

fn in_container(layout: &Path) -> Inventory {
    container(layout).0
}

/// The hash of an image of these layers.
fn hash_of(lines: &[&str]) -> String {
    let layout = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> = lines.iter().map(|lines| archive("a layer", lines)).collect();
    write_image(layout.path(), &json!({}), &layers, &json!({}));
    in_container(layout.path()).hash.to_string()
}

/// A base of one layer in a registry.
struct Base {
    registry: Registry,
    reference: Reference,
    layer: String,
}

impl Base {
    /// Pushes the base of `workplace`, and records its environment with it if `recorded`.
    fn of(workplace: &Workplace, recorded: bool) -> Self {
        let (registry, layout) = (Registry::start(), workplace.path("base"));
        let image = push(&layout, &registry, "v1");
        let reference: Reference = registry.reference("base:v1").parse().unwrap();
        if recorded {
            let inventory = serde_json::to_vec(&in_container(&layout)).unwrap();
            record(&reference, ENVIRONMENT, describe(ENVIRONMENT, &inventory), &inventory);
        }
        Self { registry, reference, layer: image.manifest.layers()[0].digest().to_string() }
    }

    /// How often its layer was fetched: once is the publication's, which copies it.
    fn fetched(&self) -> usize {
        let log = self.registry.log();
        log.iter().filter(|entry| entry.method == "GET" && entry.target.contains(&self.layer)).count()
    }
}

/// Pushes the image of a layout as `base`.
fn push(layout: &Path, registry: &Registry, tag: &str) -> Image {
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        registry.push_blob("base", &fs::read(blob.unwrap().path()).unwrap());
    }
    let image = super::super::support::image(&format!("oci:{}:v1", layout.display()).parse().unwrap());
    registry.push_manifest("base", Some(tag), &image.raw.media_type, &image.raw.bytes);
    image
}

/// A build on the base, whose own layer is of these lines.
struct Outcome {
    workplace: Workplace,
    base: Base,
    recorded: Option<Inventory>,
}

impl Outcome {
    fn of(below: &str, recorded: bool, own: &str) -> Self {
        let (mut workplace, docker) = prepared_on(below, &[below, own], TIME);
        let base = Base::of(&workplace, recorded);
        workplace.runner = docker;
        let change = |options: &mut vast_imagegen::build::Options| {
            options.contexts.insert("base".to_owned(), NamedContext::Image(base.reference.clone()));
            options.engine = Engine::Buildkit;
        };
        let built = workplace.build_as("result", change).unwrap();
        let recorded = environment(&built.reference);
        Self { workplace, base, recorded }
    }

    fn hash(&self) -> Option<String> {
        self.recorded.as_ref().map(|inventory| inventory.hash.to_string())
    }

    fn warnings(&self) -> Vec<String> {
        self.workplace.warnings.0.lock().unwrap().clone()
    }
}

/// What is recorded with an image.
fn environment(reference: &Reference) -> Option<Inventory> {
    let image = super::super::support::image(reference);
    run(async {
        let source = open_source(reference, &transports()).await.unwrap();
        let entries = source.referrers(&image.raw.digest(), Some(ENVIRONMENT)).await.unwrap();
        assert!(entries.len() < 2, "one record");
        let record = source.manifest(entries.first()?).await.unwrap();
        let record = vast_imagegen::artifact::parse(&record, ENVIRONMENT, "a build").unwrap();
        let mut bytes = Vec::new();
        source.open_blob(&record.layers()[0]).await.unwrap().read_to_end(&mut bytes).unwrap();
        Some(serde_json::from_slice(&bytes).unwrap())
    })
}

#[test]
fn what_is_recorded_of_the_base_is_handed_on_where_the_build_leaves_it_so() {
    for (recorded, own) in
        [(true, MADE.to_owned()), (true, format!("{MADE}file .env_hash 644 0:0 {}\n", hash_of(&[BOOKWORM])))]
    {
        let outcome = Outcome::of(BOOKWORM, recorded, &own);
        assert_eq!(outcome.recorded, Some(in_container(&outcome.workplace.path("result"))));
        assert_eq!(outcome.hash(), Some(hash_of(&[BOOKWORM])));
        assert_eq!(outcome.base.fetched(), 1, "nothing of the base is read");
        assert_eq!(outcome.warnings(), [""; 0]);
    }
}

#[test]
fn an_environment_that_the_build_changes_or_hashes_is_taken_from_the_layers() {
    let changed = hash_of(&[BOOKWORM, TRIXIE]);
    assert_ne!(changed, hash_of(&[BOOKWORM]));
    for (recorded, own, expected) in [
        (false, format!("{TRIXIE}file .env_hash 644 0:0 {changed}\n"), &changed),
        (true, format!("{TRIXIE}file .env_hash 644 0:0 {changed}\n"), &changed),
        (true, TRIXIE.to_owned(), &changed),
        (true, "file etc/.wh.os-release 644 0:0\nfile etc/os-release 644 0:0 VERSION_ID=\"13\"\n".to_owned(), &changed),
        (false, format!("file .env_hash 644 0:0 {}\n", hash_of(&[BOOKWORM])), &hash_of(&[BOOKWORM])),
    ] {
        let outcome = Outcome::of(BOOKWORM, recorded, &own);
        assert_eq!(outcome.hash().as_ref(), Some(expected), "{own}");
        assert_eq!(outcome.recorded, Some(in_container(&outcome.workplace.path("result"))), "{own}");
        assert_eq!(outcome.warnings(), [""; 0], "{own}");
    }
}

#[test]
fn all_packages_of_a_database_that_the_build_replaced_are_recorded_with_its_layer() {
    let status = |version: &str| {
        let stanza = |name: &str, version: &str| {
            format!("Package: {name}\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: {version}\\n\\n")
        };
        format!("file var/lib/dpkg/status 644 0:0 {}{}\n", stanza("curl", version), stanza("dpkg", "1.22"))
    };
    let below = format!("{BOOKWORM}dir var 755 0:0\ndir var/lib 755 0:0\ndir var/lib/dpkg 755 0:0\n{}", status("8.0"));
    let own = format!("{}file .env_hash 644 0:0 0123456789ab\n", status("8.1"));
    let outcome = Outcome::of(&below, false, &own);
    let reference: Reference = format!("oci:{}:v1", outcome.workplace.path("result").display()).parse().unwrap();
    let image = super::super::support::image(&reference);
    let lists: Vec<(String, Value)> = run(async {
        let source = open_source(&reference, &transports()).await.unwrap();
        let records = source.referrers(&image.raw.digest(), Some(PATH_INDEXES)).await.unwrap();
        let record = source.manifest(&records[0]).await.unwrap();
        let record = vast_imagegen::artifact::parse(&record, PATH_INDEXES, "a build").unwrap();
        let mut lists = Vec::new();
        for blob in record.layers().iter().filter(|blob| blob.media_type().as_ref() == PACKAGES) {
            let list = serde_json::from_reader(source.open_blob(blob).await.unwrap()).unwrap();
            lists.push((blob.annotations().as_ref().unwrap()[DIFF_ID].clone(), list));
        }
        lists
    });
    let expected = json!([{"name": "curl", "version": "8.1"}, {"name": "dpkg", "version": "1.22"}]);
    assert_eq!(lists, [(image.config.rootfs().diff_ids()[1].clone(), expected)]);
}

#[test]
fn a_hash_that_is_not_the_environments_is_warned_of_and_not_recorded() {
    let (early, changed) = (hash_of(&[BOOKWORM]), hash_of(&[BOOKWORM, TRIXIE]));
    for recorded in [false, true] {
        let outcome = Outcome::of(BOOKWORM, recorded, &format!("file .env_hash 644 0:0 {early}\n{TRIXIE}"));
        assert_eq!(outcome.hash().as_ref(), Some(&changed));
        let expected =
            format!("`/.env_hash` for {} says `{early}`, but the environment is `{changed}`", Platform::host());
        assert_eq!(outcome.warnings(), [expected]);
    }
}

#[test]
fn where_nobody_asked_for_an_environment_none_is_taken() {
    let linked = "hard made 644 0:0 etc/os-release\n";
    for own in [MADE, TRIXIE, linked] {
        let outcome = Outcome::of(BOOKWORM, false, own);
        assert_eq!(outcome.recorded, None);
        assert_eq!(outcome.base.fetched(), 1, "nothing of the base is read");
    }
}

#[test]
fn an_environment_that_cannot_be_taken_is_warned_of_and_stops_no_build() {
    // A package database that dpkg refuses.
    let broken = "dir var 755 0:0\ndir var/lib 755 0:0\ndir var/lib/dpkg 755 0:0\n\
                  file var/lib/dpkg/status 644 0:0 no field\nfile .env_hash 644 0:0 0123456789ab\n";
    let outcome = Outcome::of(BOOKWORM, true, broken);
    assert_eq!(outcome.recorded, None);
    let warnings = outcome.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(" is not recorded: "), "{warnings:?}");
}

/// What the container, `/.env_hash` in it and the record say of the environment of the image in `layout`: one thing.
fn agreed(layout: &Path) -> String {
    let (inventory, said) = container(layout);
    assert_eq!(environment(&format!("oci:{}:v1", layout.display()).parse().unwrap()).as_ref(), Some(&inventory));
    let hash = inventory.hash.to_string();
    assert_eq!(said.as_ref(), Some(&hash));
    hash
}

#[test]
fn container_file_and_record_agree_after_extending_and_rebasing_a_build() {
    let before = hash_of(&[BOOKWORM]);
    let outcome = Outcome::of(BOOKWORM, true, &format!("{MADE}file .env_hash 644 0:0 {before}\n"));
    let path = |name: &str| outcome.workplace.path(name);
    let at = |name: &str| -> Reference { format!("oci:{}:v1", path(name).display()).parse().unwrap() };
    assert_eq!(agreed(&path("result")), before);
    let stamp = Stamp { epoch: DEFAULT_EPOCH, ..Stamp::default() };

    fs::create_dir_all(path("overlay/etc")).unwrap();
    fs::write(path("overlay/etc/os-release"), "VERSION_ID=\"14\"").unwrap();
    let options = vast_imagegen::extend::Options {
        overlay: path("overlay"),
        index: true,
        compression: Compression::Gzip,
        threads: 1,
        local: false,
        stamp: stamp.clone(),
        cache: None,
        work: path("work"),
    };
    run(async {
        let source: Arc<dyn ImageSource> = open_source(&at("result"), &transports()).await.unwrap().into();
        let extended = extend(&source, &at("result"), &options).await.unwrap();
        let sink = open_sink(&at("extended"), &transports()).await.unwrap();
        publish(&extended.built.publication(), &*sink, 1, &()).await.unwrap();
    });
    assert_eq!(agreed(&path("extended")), hash_of(&[BOOKWORM, "file etc/os-release 644 0:0 VERSION_ID=\"14\"\n"]));

    write_image(&path("newer"), &json!({}), &[archive("a layer", &format!("{BOOKWORM}{TRIXIE}"))], &json!({}));
    push(&path("newer"), &outcome.base.registry, "v2");
    let options = vast_imagegen::rebase::Options {
        onto: outcome.base.registry.reference("base:v2").parse().unwrap(),
        from: None,
        allow: BTreeSet::from([Kind::Environment]),
        compression: Compression::Gzip,
        stamp,
        cache: None,
        work: path("work"),
    };
    run(async {
        let transports = transports();
        let rebasing = Rebasing::new(&options, &transports).await.unwrap();
        let rebased = rebasing.rebase(&at("result")).await.unwrap();
        let built = rebased.built.unwrap_or_else(|| panic!("{:?}", rebased.outcomes));
        let sink = open_sink(&at("rebased"), &transports).await.unwrap();
        publish(&built.publication(), &*sink, 1, &()).await.unwrap();
    });
    assert_eq!(agreed(&path("rebased")), hash_of(&[BOOKWORM, TRIXIE]));
}
