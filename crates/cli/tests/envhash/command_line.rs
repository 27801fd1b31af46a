//! Options, exit codes, and what goes where.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::PROGRAM;

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) const STATUS: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1.22\n\n\
                      Package: libx\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1\n";

/// A small root without environments.
pub(crate) fn small_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "usr/lib/os-release", "VERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\n");
    fs::create_dir(root.path().join("etc")).unwrap();
    symlink("/usr/lib/os-release", root.path().join("etc/os-release")).unwrap();
    write(root.path(), "var/lib/dpkg/status", STATUS);
    write_program(root.path(), "usr/bin/dpkg");
    root
}

/// A file that may be executed, and never is.
pub(crate) fn write_program(root: &Path, path: &str) {
    write(root, path, "");
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_hash_is_twelve_digits_and_a_newline() {
    let root = small_root();
    let output = run(&["--root", root.path().to_str().unwrap()]);
    let printed = text(&output.stdout);
    assert_eq!(printed.len(), 13, "{printed:?}");
    assert!(printed.ends_with('\n') && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_root_is_hashed_for_its_own_architecture() {
    let root = small_root();
    let output = run(&["--root", root.path().to_str().unwrap(), "--json"]);
    let inventory: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inventory["system"]["platform"], "linux-aarch64");
    assert_eq!(inventory["system"]["release"][0], "VERSION_CODENAME=noble");
    // Known from the specification's arithmetic, by `printf … | sha256sum`.
    assert_eq!(inventory["scheme"], 1);
}

#[test]
fn env_hash_is_the_same_program() {
    let (root, bin) = (small_root(), tempfile::tempdir().unwrap());
    let link = bin.path().join("env-hash");
    symlink(PROGRAM, &link).unwrap();
    let output = Command::new(link).arg("--root").arg(root.path()).output().unwrap();
    assert_eq!(output.stdout, run(&["--root", root.path().to_str().unwrap()]).stdout);
}

#[test]
fn check_tells_equal_from_different_and_what_drifted() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    let stored = root.path().join(".env_hash");
    assert_eq!(run(&["--root", path, "--check"]).status.code(), Some(2), "nothing stored yet");

    fs::write(&stored, run(&["--root", path]).stdout).unwrap();
    fs::write(root.path().join(".env_hash.json"), run(&["--root", path, "--json"]).stdout).unwrap();
    let equal = run(&["--root", path, "--check"]);
    assert_eq!((equal.status.code(), text(&equal.stdout)), (Some(0), ""));

    write(root.path(), "var/lib/dpkg/status", STATUS.replace("Version: 1\n", "Version: 2\n"));
    let drifted = run(&["--root", path, "--check"]);
    assert_eq!(drifted.status.code(), Some(1));
    assert!(text(&drifted.stdout).ends_with("\napt: libx 1 -> 2\n"), "{}", text(&drifted.stdout));

    let inventory = root.path().join(".env_hash.json");
    let difference = run(&["diff", inventory.to_str().unwrap(), path]);
    assert_eq!((difference.status.code(), text(&difference.stdout)), (Some(1), "apt: libx 1 -> 2\n"));
    assert_eq!(run(&["diff", path, path]).status.code(), Some(0));
}

#[test]
fn a_stored_inventory_that_was_edited_is_refused() {
    let root = small_root();
    let path = root.path().to_str().unwrap();
    let stored = root.path().join("stored.json");
    let inventory = text(&run(&["--root", path, "--json"]).stdout).replace("noble", "other");
    fs::write(&stored, inventory).unwrap();
    let output = run(&["--root", path, "--check", stored.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("stored.json"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_the_path_and_prints_nothing_else() {
    type Break = fn(&Path);
    let with_python = |root: &Path| {
        write(root, "usr/lib/python3.11/os.py", "");
        write(root, "usr/lib/python3.11/site.py", "");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), root.join("usr/bin/python3.11")).unwrap();
        fs::create_dir_all(root.join("venv/main/bin")).unwrap();
        symlink("/usr/bin/python3.11", root.join("venv/main/bin/python")).unwrap();
        write(root, "venv/main/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n");
    };
    let table: [(Break, &str); 4] = [
        (|root| write(root, "var/lib/dpkg/status", "nonsense\n"), "/var/lib/dpkg/status"),
        (
            |root| write(root, "venv/main/lib/python3.11/site-packages/a.dist-info/METADATA", b"Name: \xff\n"),
            "a.dist-info/METADATA",
        ),
        (|root| write(root, "venv/main/lib/python3.11/site-packages/a.pth", b"/opt/\xff\n"), "site-packages/a.pth"),
        (|root| fs::remove_dir_all(root.join("usr/lib/python3.11")).unwrap(), "/venv/main/bin/python"),
    ];
    for (break_it, path) in table {
        let root = small_root();
        with_python(root.path());
        let whole = run(&["--root", root.path().to_str().unwrap()]);
        assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
        break_it(root.path());
        let output = run(&["--root", root.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert_eq!(text(&output.stdout), "", "{path}");
        assert!(text(&output.stderr).contains(path), "{}", text(&output.stderr));
    }
}

#[test]
fn without_a_dpkg_no_package_counts_whatever_its_database_says() {
    let root = small_root();
    let apt = || -> serde_json::Value {
        let output = run(&["--root", root.path().to_str().unwrap(), "--json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["apt"].clone()
    };
    assert_eq!(apt()["packages"][0]["name"], "libx");
    fs::set_permissions(root.path().join("usr/bin/dpkg"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(apt()["hash"], "e3b0c44298fc");
    fs::remove_file(root.path().join("usr/bin/dpkg")).unwrap();
    assert_eq!(apt()["hash"], "e3b0c44298fc");
}

#[test]
fn nothing_from_another_root_is_run() {
    let root = small_root();
    let canary = root.path().join("canary");
    let script = format!("#!/bin/sh\ntouch {}\necho 3.11.2\n", canary.display());
    write(root.path(), "venv/main/bin/python", script);
    fs::set_permissions(root.path().join("venv/main/bin/python"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = run(&["--root", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/venv/main/bin/python"), "{}", text(&output.stderr));
    assert!(!canary.exists());
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for arguments in [&["--nonsense"][..], &["--json", "--explain"], &["--scheme", "2"]] {
        assert_eq!(run(arguments).status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(run(&["--root", "/nowhere/at/all"]).status.code(), Some(2));
}
