//! What drifted, told to people and programs; environments named in every way there is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::bad_input::root_with_python;
use crate::command_line::{run, small_root, text, write, write_program};
use crate::fixture::PROGRAM;

const IMAGEGEN: &str = env!("CARGO_BIN_EXE_vast-imagegen");

/// Another version of one package, and one package more.
const LATER: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1.22\n\n\
                     Package: libnccl2\nStatus: install ok installed\nArchitecture: arm64\nVersion: 2.26\n\n\
                     Package: libx\nStatus: install ok installed\nArchitecture: arm64\nVersion: 2\n";

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn hash(root: &Path) -> String {
    text(&run(&["--root", root.to_str().unwrap()]).stdout).trim().to_owned()
}

/// Stores the root's hash, and its inventory beside it.
fn store(root: &Path) {
    let path = root.to_str().unwrap();
    fs::write(root.join(".env_hash"), run(&["--root", path]).stdout).unwrap();
    fs::write(root.join(".env_hash.json"), run(&["--root", path, "--json"]).stdout).unwrap();
}

#[test]
fn a_check_sums_up_and_names_every_change() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    store(root.path());
    let before = hash(root.path());
    write(root.path(), "var/lib/dpkg/status", LATER);
    let after = hash(root.path());

    let drifted = run(&["--root", path, "--check"]);
    assert_eq!(drifted.status.code(), Some(1));
    let expected = format!(
        "{path}/.env_hash is {before}, this environment is {after}: 1 changed, 1 added\n\
         apt: + libnccl2 2.26\napt: libx 1 -> 2\n"
    );
    assert_eq!(text(&drifted.stdout), expected);

    let drifted = run(&["--root", path, "--check", "--json"]);
    assert_eq!(drifted.status.code(), Some(1));
    let changes = json!([
        { "place": "apt", "what": "libnccl2", "before": null, "after": "2.26" },
        { "place": "apt", "what": "libx", "before": "1", "after": "2" },
    ]);
    assert_eq!(json(&drifted), json!({ "equal": false, "before": before, "after": after, "changes": changes }));
}

#[test]
fn a_check_against_a_hash_alone_says_that_no_more_is_known_and_how_to_know_it() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    fs::write(root.path().join(".env_hash"), "000000000000\n").unwrap();
    let drifted = run(&["--root", path, "--check"]);
    assert_eq!(drifted.status.code(), Some(1));
    assert!(text(&drifted.stdout).contains("what changed is not known"), "{}", text(&drifted.stdout));
    assert!(text(&drifted.stderr).contains("hint: `vast-envhash --json >"), "{}", text(&drifted.stderr));
    assert_eq!(json(&run(&["--root", path, "--check", "--json"]))["changes"], Value::Null);
    let difference = run(&["diff", &format!("{path}/.env_hash"), path]);
    assert_eq!(difference.status.code(), Some(2));
    assert!(text(&difference.stderr).contains("no inventory is stored beside it"), "{}", text(&difference.stderr));
}

#[test]
fn colours_are_for_terminals_alone() {
    let root = small_root();
    store(root.path());
    write(root.path(), "var/lib/dpkg/status", LATER);
    let diff = |variable: Option<(&str, &str)>| {
        let mut command = Command::new(PROGRAM);
        command.arg("diff").args([root.path().join(".env_hash"), root.path().to_owned()]);
        command.env_remove("NO_COLOR").envs(variable).output().unwrap().stdout
    };
    assert!(!diff(None).contains(&0x1b));
    let coloured = diff(Some(("CLICOLOR_FORCE", "1")));
    assert!(text(&coloured).contains("\u{1b}[32mapt: + libnccl2 2.26\u{1b}[0m\n"), "{:?}", text(&coloured));
}

/// Builds an image whose files are `overlay` into a layout, and gives its reference.
fn image(folder: &Path, overlay: &Path) -> String {
    let image = folder.join("image");
    fs::create_dir(&image).unwrap();
    fs::write(image.join("Dockerfile"), "FROM scratch\nCOPY ROOT /\n").unwrap();
    // Behind a link, by a name that alone would not tell that it is read.
    for (file, place) in [("etc/os-release", "etc/release.d/current"), ("var/lib/dpkg/status", "var/lib/dpkg/status")] {
        write(&image.join("ROOT"), place, fs::read(overlay.join(file)).unwrap());
    }
    std::os::unix::fs::symlink("release.d/current", image.join("ROOT/etc/os-release")).unwrap();
    write_program(&image.join("ROOT"), "usr/bin/dpkg");
    let reference = format!("oci:{}:app", folder.join("layout").display());
    let output = Command::new(IMAGEGEN)
        .args(["build", image.to_str().unwrap(), "--to", &reference, "--engine", "native"])
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    reference
}

/// A root whose release is a file: a link out of the overlay would be refused by the build.
fn plain_root() -> tempfile::TempDir {
    let root = small_root();
    fs::remove_file(root.path().join("etc/os-release")).unwrap();
    fs::copy(root.path().join("usr/lib/os-release"), root.path().join("etc/os-release")).unwrap();
    write(root.path(), "var/lib/dpkg/status", LATER.replace("arm64", architecture()));
    root
}

/// This machine's, as the image is for its platform.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn an_image_is_compared_by_its_reference() {
    let (folder, root) = (tempfile::tempdir().unwrap(), plain_root());
    let reference = image(folder.path(), root.path());
    let path = root.path().to_str().unwrap();
    let same = run(&["diff", &reference, path]);
    assert_eq!((same.status.code(), text(&same.stdout)), (Some(0), ""), "{}", text(&same.stderr));
    write(root.path(), "etc/os-release", "VERSION_ID=\"26.04\"\nVERSION_CODENAME=noble\n");
    let other = run(&["diff", &reference, path]);
    assert_eq!((other.status.code(), text(&other.stdout)), (Some(1), "system: VERSION_ID \"24.04\" -> \"26.04\"\n"));

    let missing = run(&["diff", &format!("{reference}-not"), path]);
    assert_eq!((missing.status.code(), text(&missing.stdout)), (Some(2), ""));
    assert!(text(&missing.stderr).contains("app-not"), "{}", text(&missing.stderr));
}

#[test]
fn an_inventory_of_another_scheme_is_refused() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    let other = text(&run(&["--root", path, "--json"]).stdout).replace("\"scheme\": 1", "\"scheme\": 7");
    let file = root.path().join("other.json");
    fs::write(&file, other).unwrap();
    for arguments in [&["--root", path, "--check", file.to_str().unwrap()][..], &["diff", file.to_str().unwrap(), path]]
    {
        let output = run(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        assert!(text(&output.stderr).contains("unknown scheme 7"), "{}", text(&output.stderr));
    }
}

/// A stored hash belongs to its root: where a link of the root leads, it leads inside.
#[test]
fn the_stored_hash_of_a_root_is_looked_for_inside_it() {
    let (root, outside) = (small_root(), tempfile::tempdir().unwrap());
    let path = root.path().to_str().unwrap();
    let decoy = outside.path().join("hash");
    fs::write(&decoy, run(&["--root", path]).stdout).unwrap();
    std::os::unix::fs::symlink(&decoy, root.path().join(".env_hash")).unwrap();
    assert_eq!(run(&["--root", path, "--check"]).status.code(), Some(2), "only outside is there such a file");
    write(root.path(), decoy.to_str().unwrap().trim_start_matches('/'), "000000000000\n");
    assert_eq!(run(&["--root", path, "--check"]).status.code(), Some(1));
}

#[test]
fn a_stored_hash_that_is_no_file_is_named_and_not_waited_for() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    assert!(Command::new("mkfifo").arg(root.path().join(".env_hash")).status().unwrap().success());
    let output = run(&["--root", path, "--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(".env_hash"), "{}", text(&output.stderr));
    let endless = run(&["--root", path, "--check", "/dev/zero"]);
    assert_eq!(endless.status.code(), Some(2));
    assert!(text(&endless.stderr).contains("/dev/zero"), "{}", text(&endless.stderr));
}

#[test]
fn nothing_that_a_terminal_acts_on_is_printed() {
    let (before, after) = (small_root(), small_root());
    for (root, version) in [(&before, "1"), (&after, "2")] {
        write(root.path(), "etc/placeholder", "");
        fs::remove_file(root.path().join("etc/os-release")).unwrap();
        write(root.path(), "etc/os-release", format!("VERSION_ID=\u{1b}]0;title\u{7}{version}\u{202e}\n"));
    }
    let [before, after] = [&before, &after].map(|root| root.path().to_str().unwrap());
    let outputs = [run(&["--root", before, "--explain"]), run(&["diff", before, after])];
    for output in outputs {
        let printed = text(&output.stdout);
        assert!(printed.contains("\\u{1b}]0;title\\u{7}1\\u{202e}"), "{printed:?}");
        assert!(!printed.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{printed:?}");
    }
}

#[test]
fn without_the_program_that_reads_images_the_error_says_where_to_put_it() {
    let alone = tempfile::tempdir().unwrap();
    let program: PathBuf = alone.path().join("vast-envhash");
    fs::copy(PROGRAM, &program).unwrap();
    let output =
        Command::new(program).args(["diff", "registry.example/app:1", "/"]).env("PATH", alone.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("registry.example/app:1") && said.contains("hint: put `vast-imagegen` beside"), "{said}");
}

/// What the program itself prints, of a root with a real interpreter.
#[test]
fn printed_bills_of_materials_are_valid_against_the_published_schemas() {
    let schema = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envhash/tests/schemas").join(name);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let (root, site) = root_with_python();
    write(root.path(), &format!("{site}/b.egg-info"), "Name: b\u{7}\nVersion: 2\n  folded\n");
    let path = root.path().to_str().unwrap();
    let registry = jsonschema::Registry::new()
        .add("http://cyclonedx.org/schema/spdx.schema.json", schema("spdx.schema.json"))
        .and_then(|registry| {
            registry.add("http://cyclonedx.org/schema/jsf-0.82.schema.json", schema("jsf-0.82.schema.json"))
        })
        .and_then(jsonschema::RegistryBuilder::prepare)
        .unwrap();
    for (format, name) in [("cyclonedx", "bom-1.6.schema.json"), ("spdx", "spdx-2.3.schema.json")] {
        let bill = json(&run(&["--root", path, "--format", format]));
        let validator =
            jsonschema::options().with_registry(&registry).should_validate_formats(true).build(&schema(name)).unwrap();
        let violations: Vec<String> = validator.iter_errors(&bill).map(|error| error.to_string()).collect();
        assert_eq!(violations, [""; 0], "{format}");
        assert!(bill.to_string().contains("pkg:pypi/a@1"), "{bill}");
    }
}

#[test]
fn bills_of_materials_state_the_asked_time_and_every_package() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    let bill = |format: &str, epoch: &str| {
        Command::new(PROGRAM)
            .args(["--root", path, "--format", format])
            .env("SOURCE_DATE_EPOCH", epoch)
            .output()
            .unwrap()
    };
    let cyclonedx = json(&bill("cyclonedx", "1700000000"));
    assert_eq!(cyclonedx["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(cyclonedx["components"][0]["purl"], "pkg:deb/debian/libx@1");
    assert_eq!(cyclonedx["metadata"]["component"]["version"], hash(root.path()));
    let spdx = json(&bill("spdx", "1700000000"));
    assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    assert_eq!(spdx["packages"].as_array().unwrap().len(), 2);
    assert_eq!(bill("spdx", "1").stdout, bill("spdx", "1").stdout);
    let refused = bill("spdx", "yesterday");
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
    assert!(text(&refused.stderr).contains("SOURCE_DATE_EPOCH"), "{}", text(&refused.stderr));
}
