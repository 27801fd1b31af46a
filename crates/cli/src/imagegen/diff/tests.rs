//! The text of a difference that was made up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use vast_imagegen::diff::{
    Aspect, FileChange, FileState, Kind, Layer, Layers, PackageChange, Packages, Part, Parts, Recompressed, Setting,
    Side,
};
use vast_imagegen::digest::Digest;

use super::*;

fn state(size_bytes: u64) -> FileState {
    FileState {
        file_type: "file",
        mode: 0o644,
        uid: 0,
        gid: 0,
        size_bytes: Some(size_bytes),
        digest: None,
        target: None,
        device: None,
        attributes: BTreeMap::new(),
        modified: 0,
    }
}

fn link(target: &str) -> FileState {
    FileState { file_type: "symlink", size_bytes: None, target: Some(target.into()), ..state(0) }
}

fn change(path: &str, before: Option<FileState>, after: Option<FileState>, aspects: &[Aspect]) -> FileChange {
    let kind = match (&before, &after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        _ => Kind::Changed,
    };
    FileChange { path: PathBuf::from(path), kind, aspects: aspects.to_vec(), before, after }
}

fn package(place: &str, name: &str, kind: Kind, before: Option<&str>, after: Option<&str>) -> PackageChange {
    let version = |version: Option<&str>| version.map(str::to_owned);
    PackageChange {
        place: place.into(),
        name: name.into(),
        renamed: None,
        kind,
        before: version(before),
        after: version(after),
    }
}

fn setting(field: &str, name: Option<&str>, before: &Value, after: &Value) -> Setting {
    Setting {
        field: field.into(),
        name: name.map(str::to_owned),
        kind: if before.is_null() { Kind::Added } else { Kind::Changed },
        before: before.clone(),
        after: after.clone(),
        hidden: *before == "***",
        parts: None,
    }
}

fn layer(name: &str, size_bytes: u64, command: &str) -> Layer {
    let digest = Digest::of(name.as_bytes()).to_string();
    Layer { number: 0, digest, size_bytes, created_by: Some(command.to_owned()) }
}

fn platform(name: &str) -> PlatformDifference {
    let files = vec![
        change("etc/a\u{1b}[31m\nb", Some(state(10)), Some(state(25)), &[Aspect::Content]),
        change("usr/bin/sudo", None, Some(FileState { mode: 0o4755, ..state(2_000_000) }), &[]),
        change("usr/bin/python", Some(link("python3.11")), Some(link("python3.12")), &[Aspect::Target]),
        change(
            "usr/lib/x",
            Some(state(5)),
            Some(FileState { mode: 0o755, uid: 7, ..state(5) }),
            &[Aspect::Content, Aspect::Mode, Aspect::Owner],
        ),
        change(
            "venv/main/lib/python3.12/site-packages/torch/a",
            Some(state(1_000_000)),
            Some(state(3_000_000)),
            &[Aspect::Content],
        ),
        change("venv/main/lib/python3.12/site-packages/torch/b", Some(state(7)), None, &[]),
    ];
    let path = Setting {
        parts: Some(Parts {
            added: vec![Part { position: 0, text: "/venv/bin".into() }],
            removed: vec![Part { position: 2, text: "/old".into() }],
            reordered: false,
            repeated: false,
        }),
        ..setting("Env", Some("PATH"), &json!("/bin:/sbin:/old"), &json!("/venv/bin:/bin:/sbin"))
    };
    PlatformDifference {
        platform: name.parse().unwrap(),
        before: Digest::of(b"before"),
        after: Digest::of(name.as_bytes()),
        layers: Some(Layers {
            shared: 7,
            shared_bytes: 1_200_000_000,
            reordered: false,
            recompressed: vec![Recompressed { before: layer("gzip", 900, "x"), after: layer("zstd", 800, "x") }],
            only_before: vec![layer("old", 5_000_000, "RUN  one\n  two")],
            only_after: vec![layer("new", 7_500_000, "COPY a /")],
            before_bytes: 1_205_000_900,
            after_bytes: 1_207_500_800,
        }),
        packages: Some(Packages {
            changes: vec![
                package("apt", "curl", Kind::Changed, None, None),
                package("apt", "libssl3", Kind::Changed, Some("3.0.1"), Some("3.0.2")),
                package("main", "python", Kind::Changed, Some("3.11.2"), Some("3.12.3")),
                package("main", "torch", Kind::Changed, Some("2.9.1"), Some("2.10.0")),
                package("main", "uv", Kind::Added, None, Some("0.9")),
                package("venv", "jupyter", Kind::Removed, Some("3.11.2"), None),
                package("jupyter", "notebook", Kind::Removed, Some("7.0"), None),
                package("jupyter", "traitlets", Kind::Removed, Some("5.0"), None),
            ],
            notes: vec!["docker://r.io/app:v1: cannot read `/venv/x`".into()],
        }),
        files: Some(files),
        configuration: Some(vec![
            setting("Cmd", None, &json!(["a"]), &json!(["b"])),
            path,
            setting("Env", Some("HF_TOKEN"), &json!("***"), &json!("***")),
            setting("Labels", Some("maintainer"), &Value::Null, &json!("someone\nelse")),
            setting("Annotations", Some("maintainer"), &Value::Null, &json!("someone\nelse")),
        ]),
    }
}

fn difference(platforms: Vec<PlatformDifference>) -> Difference {
    let side =
        |name: &str| Side { reference: format!("docker://r.io/app:{name}"), digest: Digest::of(name.as_bytes()) };
    Difference {
        equal: false,
        before: side("v1"),
        after: side("v2"),
        only_before: vec!["linux/riscv64".parse().unwrap()],
        only_after: Vec::new(),
        annotations: Vec::new(),
        platforms,
    }
}

fn plain(difference: &Difference, all: bool, stat: bool) -> String {
    anstream::adapter::strip_str(&text(difference, all, stat)).to_string()
}

#[test]
fn a_difference_is_a_paragraph_and_what_it_stands_for() {
    let [old, new, gzip, zstd] = ["old", "new", "gzip", "zstd"].map(|name| Digest::of(name.as_bytes()).short());
    let mut found = difference(vec![platform("linux/amd64"), platform("linux/arm64")]);
    let expected = format!(
        "docker://r.io/app:v1  {}
docker://r.io/app:v2  {}
linux/amd64, linux/arm64: compared
linux/riscv64: only in the first image

packages: 1 added, 3 removed, 4 changed (main: python 3.11.2 → 3.12.3, main: torch 2.9.1 → 2.10.0, apt: curl and 5 more)
configuration: 1 added, 3 changed (Cmd, Env PATH, Env HF_TOKEN and 1 more)
files: 1 added, 1 removed, 4 changed (+4.0 MB)
layers: 1 added, 1 removed, 1 changed, 7 shared, 1.2 GB → 1.2 GB (+2.5 MB)

Packages
  ~ apt            curl           (version not recorded)
  ~ apt            libssl3        3.0.1 → 3.0.2
  ~ main           python         3.11.2 → 3.12.3
  ~ main           torch          2.9.1 → 2.10.0
  + main           uv             0.9
  - /venv/jupyter  Python 3.11.2  with 2 distributions
  (not all versions are recorded; --deep reads them from the layers)
  not compared: docker://r.io/app:v1: cannot read `/venv/x`

Configuration
  ~ Cmd                [\"a\"] → [\"b\"]
  ~ Env PATH           + /venv/bin (first), - /old
  ~ Env HF_TOKEN       (another value, which is not shown)
  + Labels maintainer  someone else

Files
  ~ /etc/a\\u{{1b}}[31m\\nb  content +15 B
  + /usr/bin/sudo  2.0 MB, mode 4755
  ~ /usr/bin/python  link python3.11 → python3.12
  ~ /usr/lib/x  content, mode 0644 → 0755, owner 0:0 → 7:0
  ~ files of main: torch 2.9.1 → 2.10.0  1 removed, 1 changed (+2.0 MB)

Layers
  - {old}     5.0 MB  RUN one two
  + {new}     7.5 MB  COPY a /
  ~ {gzip} → {zstd}  900 B → 800 B, the same content compressed otherwise
  7 shared (1.2 GB); together 1.2 GB → 1.2 GB (+2.5 MB)
",
        found.before.digest, found.after.digest
    );
    assert_eq!(plain(&found, false, false), expected);
    assert_eq!(plain(&found, false, true), expected.split("\n\nPackages").next().unwrap().to_owned() + "\n");
    assert!(text(&found, false, false).contains("\u{1b}[32m+ main "), "coloured for terminals");
    let all = plain(&found, true, false);
    assert!(all.contains("- jupyter        notebook") && all.contains("site-packages/torch/b  7 B"), "{all}");
    assert!(!all.contains("files of main"), "{all}");

    // What differs between the platforms is told apart, the rest still once.
    found.platforms[1].configuration = Some(Vec::new());
    let text = plain(&found, false, false);
    assert!(text.contains("\nfiles: 1 added") && text.contains("\nconfiguration (linux/arm64): the same\n"), "{text}");
    assert!(text.contains("\nConfiguration (linux/amd64)\n") && text.contains("\nPackages\n"), "{text}");
}

#[test]
fn what_weighs_most_is_shown_and_the_rest_counted() {
    let mut one = platform("linux/amd64");
    let mut files: Vec<FileChange> = (0..100)
        .map(|number| {
            change(&format!("f{number:03}"), Some(state(number)), Some(state(number + 1)), &[Aspect::Content])
        })
        .collect();
    files[3].aspects = vec![Aspect::Mode];
    one.files = Some(files);
    let found = difference(vec![one]);
    let text = plain(&found, false, false);
    let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("  ~ /f")).collect();
    assert_eq!(shown.len(), 40);
    assert_eq!(shown[0], "  ~ /f003  mode 0644 → 0644");
    assert_eq!(shown[1], "  ~ /f061  content +1 B");
    assert!(text.contains("\n  … and 60 more (use --all)\n"), "{text}");
    assert_eq!(plain(&found, true, false).lines().filter(|line| line.starts_with("  ~ /f")).count(), 100);
}

#[test]
fn files_that_claim_to_be_larger_than_anything_are_summed_up() {
    let mut one = platform("linux/amd64");
    one.packages = None;
    let huge = |path| change(path, None, Some(state(1 << 63)), &[]);
    one.files = Some(vec![huge("a"), huge("b"), change("c", Some(state(1)), None, &[])]);
    let text = plain(&difference(vec![one]), false, true);
    assert!(text.contains("\nfiles: 2 added, 1 removed (+18446744.1 TB)\n"), "{text}");
}

#[test]
fn images_that_differ_in_nothing_that_was_compared_are_said_to() {
    let mut one = platform("linux/amd64");
    one.packages = None;
    one.configuration = None;
    one.layers = None;
    one.files = Some(Vec::new());
    let text = plain(&Difference { equal: true, ..difference(vec![one]) }, false, false);
    assert!(text.ends_with("\n\nfiles: the same\nnothing that was compared differs\n"), "{text}");
    let mut same = difference(Vec::new());
    same.after.digest = same.before.digest;
    let text = plain(&same, false, false);
    assert_eq!(
        text,
        format!("docker://r.io/app:v1 and docker://r.io/app:v2 are the same image, {}\n", same.before.digest)
    );
}
