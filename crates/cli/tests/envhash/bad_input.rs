//! What is broken: an error that names it, or the recipe's own answer; never a panic, never a hang, nothing on standard output.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::command_line::{STATUS, run, small_root, text, write};
use crate::fixture::{PROGRAM, agreed};

/// A root with one environment of the machine's own interpreter; gives the environment's site directory, inside the root.
fn root_with_python() -> (tempfile::TempDir, String) {
    let root = small_root();
    let program = fs::canonicalize("/usr/bin/python3").unwrap();
    let python = program.file_name().unwrap().to_str().unwrap().to_owned();
    for file in ["os.py", "site.py"] {
        let library = format!("usr/lib/{python}/{file}");
        write(root.path(), &library, fs::read(Path::new("/").join(&library)).unwrap());
    }
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::copy(&program, root.path().join("usr/bin").join(&python)).unwrap();
    fs::create_dir_all(root.path().join("venv/main/bin")).unwrap();
    symlink(format!("/usr/bin/{python}"), root.path().join("venv/main/bin/python")).unwrap();
    write(root.path(), "venv/main/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n");
    let site = format!("venv/main/lib/{python}/site-packages");
    write(root.path(), &format!("{site}/a-1.dist-info/METADATA"), "Name: a\nVersion: 1\n");
    (root, site)
}

/// An error that names `path`, and nothing else.
fn assert_refused(output: &Output, path: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(said.starts_with("vast-envhash: ") && said.contains(path), "{said}");
    assert!(said.lines().count() <= 2 && !said.contains("panicked"), "{said}");
}

fn hash(root: &Path) -> Output {
    run(&["--root", root.to_str().unwrap()])
}

#[test]
fn metadata_that_may_not_be_read_is_named() {
    let (root, site) = root_with_python();
    let metadata = root.path().join(&site).join("a-1.dist-info/METADATA");
    fs::set_permissions(&metadata, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: somebody else has to try, who may reach the root but not that file.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&metadata, Some(0), Some(0)).unwrap();
    let program = root.path().join("vast-envhash");
    fs::copy(PROGRAM, &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .arg("--root")
        .arg(root.path())
        .output()
        .unwrap();
    assert_refused(&output, "a-1.dist-info/METADATA");
    assert!(text(&output.stderr).to_lowercase().contains("permission denied"), "{}", text(&output.stderr));
}

#[test]
fn metadata_of_a_hundred_megabytes_is_named_and_not_read() {
    let (root, site) = root_with_python();
    let metadata = root.path().join(&site).join("a-1.dist-info/METADATA");
    // Sparse: it takes no room here, and would take all of it in memory.
    File::create(&metadata).unwrap().set_len(100 << 20).unwrap();
    let output = Command::new("prlimit").args(["--as=200000000", PROGRAM, "--root"]).arg(root.path()).output().unwrap();
    assert_refused(&output, "a-1.dist-info/METADATA");
    assert!(text(&output.stderr).contains("too large"), "{}", text(&output.stderr));
}

#[test]
fn pipes_and_devices_in_the_place_of_files_are_named_and_not_waited_for() {
    for file in ["var/lib/dpkg/status", "etc/os-release", "venv/main/pyvenv.cfg"] {
        let (root, _) = root_with_python();
        let path = root.path().join(file);
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_refused(&hash(root.path()), file);
    }
    let (root, site) = root_with_python();
    let metadata = root.path().join(&site).join("a-1.dist-info/METADATA");
    fs::remove_file(&metadata).unwrap();
    assert!(Command::new("mkfifo").arg(&metadata).status().unwrap().success());
    assert_refused(&hash(root.path()), "a-1.dist-info/METADATA");
}

#[test]
fn directories_in_the_place_of_files_have_the_recipes_answer() {
    agreed(
        r#"
        make_venv main; dist "$site" a 1
        rm "$site/a-1.dist-info/METADATA"; mkdir "$site/a-1.dist-info/METADATA" "$site/directory.pth"
        rm /etc/os-release; mkdir /etc/os-release
        "#,
    );
    agreed("rm /var/lib/dpkg/status; mkdir /var/lib/dpkg/status");
    agreed("make_venv main; rm /venv/main/pyvenv.cfg; mkdir /venv/main/pyvenv.cfg");
}

/// Wherever the file was cut: dpkg and this program refuse it, or both list the same.
#[test]
fn a_truncated_package_database_is_named_or_has_the_recipes_answer() {
    const WHOLE: &str = "Package: liba\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n\
                          Package: libb\nVersion: 1:2-3\nArchitecture: all\nMaintainer: x\nStatus: install ok installed\nDescription: x\n y\n";
    let mut refused = 0;
    let admin = tempfile::tempdir().unwrap();
    for file in ["updates", "info"] {
        fs::create_dir(admin.path().join(file)).unwrap();
    }
    write(admin.path(), "available", "");
    for cut in 1..WHOLE.len() {
        let root = small_root();
        write(root.path(), "var/lib/dpkg/status", &WHOLE[..cut]);
        write(admin.path(), "status", &WHOLE[..cut]);
        let listed = Command::new("dpkg").arg("--admindir").arg(admin.path()).arg("-l").output().unwrap();
        let ours = run(&["--root", root.path().to_str().unwrap(), "--json"]);
        if ours.status.code() == Some(0) {
            let inventory: serde_json::Value = serde_json::from_slice(&ours.stdout).unwrap();
            let names: Vec<&str> = inventory["apt"]["packages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|package| package["name"].as_str().unwrap())
                .collect();
            let theirs: Vec<&str> = text(&listed.stdout)
                .lines()
                .filter(|line| line.starts_with("ii"))
                .map(|line| line.split_whitespace().nth(1).unwrap())
                .collect();
            assert_eq!(names, theirs, "cut at {cut}: {}", text(&listed.stderr));
        } else {
            refused += 1;
            assert_refused(&ours, "/var/lib/dpkg/status");
            assert!(text(&ours.stderr).contains("line "), "{}", text(&ours.stderr));
            // dpkg overlooks a single character on the last line. The file is cut there all the same.
            let overlooked = WHOLE[..cut].rsplit('\n').next().is_some_and(|line| line.len() == 1);
            assert!(overlooked || listed.stdout.is_empty(), "cut at {cut}: {}", text(&ours.stderr));
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn bytes_that_are_no_text_are_named() {
    for (file, content) in [
        ("{site}/a-1.dist-info/METADATA", &b"Name: \xff\nVersion: 1\n"[..]),
        ("{site}/a-1.dist-info/METADATA", b"Name: a\nVersion: 1\n\n\xc3\x28"),
        ("{site}/x.pth", b"/opt/\xff\n"),
        ("venv/main/pyvenv.cfg", b"home = \xff\n"),
    ] {
        let (root, site) = root_with_python();
        let file = file.replace("{site}", &site);
        write(root.path(), &file, content);
        assert_refused(&hash(root.path()), &file);
    }
}

#[test]
fn a_damaged_program_is_named() {
    for bytes in [0, 4, 63, 64, 4096] {
        let (root, _) = root_with_python();
        let inside = fs::read_dir(root.path().join("usr/bin")).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&inside).unwrap();
        fs::write(&inside, &whole[..bytes]).unwrap();
        assert_refused(&hash(root.path()), "/venv/main/bin/python");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let root = small_root();
    // More than a pipe holds, so that the writer is still at it when the reader goes.
    let package =
        |number| format!("\nPackage: lib{number}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n");
    let packages = std::iter::once(STATUS.to_owned()).chain((0..5000).map(package)).collect::<Vec<_>>().concat();
    write(root.path(), "var/lib/dpkg/status", packages);
    let output = Command::new("bash")
        .args(["-c", "\"$0\" --root \"$1\" --explain | head -n 1; exit ${PIPESTATUS[0]}", PROGRAM])
        .arg(root.path())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn a_closed_output_is_an_error_and_no_panic() {
    let root = small_root();
    let output = Command::new("bash")
        .args(["-c", "exec \"$0\" --root \"$1\" --explain > /dev/full", PROGRAM])
        .arg(root.path())
        .output()
        .unwrap();
    assert_refused(&output, "cannot print");
}
