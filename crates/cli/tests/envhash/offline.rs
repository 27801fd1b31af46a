//! Another root: its links stay inside it, and nothing from it is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::bad_input::root_with_python;
use crate::command_line::{small_root, text, write};
use crate::fixture::{PROGRAM, agreed, all_agree};

/// Every place that is read, behind links that were made for a system that has the root as `/`. Followed on the machine
/// that hashes, each would lead elsewhere or nowhere.
#[test]
fn links_mean_places_inside_the_root() {
    let climb = "../../../../../../../../../../..";
    all_agree(&[
        // Absolute.
        r#"
        mkdir -p /opt/moved; make_venv main; dist "$site" a 1; echo /opt/added > "$site/a.pth"; mkdir /opt/added; dist /opt/added b 2
        mv /etc/os-release /opt/moved/release; ln -s /opt/moved/release /etc/os-release
        mv /var/lib/dpkg/status /opt/moved/status; ln -s /opt/moved/status /var/lib/dpkg/status
        mv /var/lib/dpkg/updates /opt/moved/updates; ln -s /opt/moved/updates /var/lib/dpkg/updates
        mv "$site/a-1.dist-info/METADATA" /opt/moved/metadata; ln -s /opt/moved/metadata "$site/a-1.dist-info/METADATA"
        mv "$site/a.pth" /opt/moved/pth; ln -s /opt/moved/pth "$site/a.pth"
        mv /venv/main/pyvenv.cfg /opt/moved/cfg; ln -s /opt/moved/cfg /venv/main/pyvenv.cfg
        mv /venv/main /opt/moved/main; ln -s /opt/moved/main /venv/main
        mv /venv /opt/moved/venv; ln -s /opt/moved/venv /venv
        "#,
        // The same, relative, and climbing above the root, which ends at the root.
        &format!(
            r#"
            relink() {{ rm "$1"; ln -s "{climb}$2" "$1"; }}
            relink /etc/os-release /opt/moved/release
            relink /var/lib/dpkg/status /opt/moved/status
            relink /var/lib/dpkg/updates /opt/moved/updates
            relink /venv /opt/moved/venv
            relink /venv/main /opt/moved/main
            site_of /venv/main
            relink "$site/a-1.dist-info/METADATA" /opt/moved/metadata
            relink "$site/a.pth" /opt/moved/pth
            relink /venv/main/pyvenv.cfg /opt/moved/cfg
            "#
        ),
        // Chains that go back and forth.
        r"
        ln -s ../opt/moved /etc/there; ln -s /etc/there/../../etc/there /opt/back
        rm /etc/os-release; ln -s /opt/back/release /etc/os-release
        ",
    ]);
}

/// What the machine that hashes has under the same path is never a substitute.
#[test]
fn what_the_root_lacks_is_not_taken_from_outside() {
    let outside = tempfile::tempdir().unwrap();
    let decoy = outside.path().join("release");
    fs::write(&decoy, "VERSION_ID=outside\n").unwrap();
    let root = small_root();
    fs::remove_file(root.path().join("etc/os-release")).unwrap();
    symlink(&decoy, root.path().join("etc/os-release")).unwrap();
    let output = Command::new(PROGRAM).arg("--root").arg(root.path()).arg("--json").output().unwrap();
    let inventory: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inventory["system"]["release"], serde_json::json!([]));
}

#[test]
fn links_in_a_circle_end() {
    agreed(
        r#"
        make_venv main; dist "$site" a 1
        ln -s . "$site/self"; ln -s ../site-packages "$site/again.egg-info"
        mkdir -p /venv/loop/bin; ln -s two /venv/loop/bin/one; ln -s one /venv/loop/bin/two; ln -s one /venv/loop/bin/python
        ln -s /venv/circle /venv/circle
        echo ./self > "$site/self.pth"
        "#,
    );
}

/// Counted where the kernel is asked: one program is started, the reader itself, in spite of an interpreter in the root.
#[test]
fn nothing_is_run() {
    let root = small_root();
    let venv = root.path().join("venv/main");
    fs::create_dir_all(venv.join("bin")).unwrap();
    symlink("/usr/bin/python3", venv.join("bin/python")).unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::copy("/usr/bin/env", root.path().join("usr/bin/python3")).unwrap();
    let trace = root.path().join("trace");
    let output = traced(root.path(), &trace);
    // The interpreter is none that states its version, which offline is an error and no reason to ask it.
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_one_program(&trace);
    // One that can be hashed, with code that only a run could decide.
    let (root, site) = root_with_python();
    write(root.path(), &format!("{site}/x.pth"), "import sys; sys.path.append('/' + 'x')\n");
    let trace = root.path().join("trace");
    let output = traced(root.path(), &trace);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("x.pth"), "{}", text(&output.stderr));
    assert_one_program(&trace);
}

fn traced(root: &Path, trace: &Path) -> Output {
    Command::new("strace")
        .args(["-f", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o"])
        .arg(trace)
        .arg(PROGRAM)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap()
}

fn assert_one_program(trace: &Path) {
    let calls = fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> = calls.lines().filter(|line| line.contains('(')).collect();
    assert!(calls.len() == 1 && calls[0].contains("vast-envhash"), "{calls:#?}");
}
