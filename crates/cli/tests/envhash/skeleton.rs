//! A root laid out from what `may_read` asks for has the hash of the full root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use vast_envhash::{Need, Options, hash, may_read};

fn copy(from: &Path, to: &Path, inside: &Path, kept: &mut usize, left: &mut usize) {
    for entry in fs::read_dir(from.join(inside)).unwrap() {
        let path = inside.join(entry.unwrap().file_name());
        let (source, target) = (from.join(&path), to.join(&path));
        let kind = fs::symlink_metadata(&source).unwrap().file_type();
        if kind.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(from, to, &path, kept, left);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source).unwrap(), &target).unwrap();
        } else {
            match may_read(&path) {
                Need::Content => _ = fs::copy(&source, &target).unwrap(),
                Need::Name => fs::write(&target, "").unwrap(),
                Need::No => *left += 1,
            }
            *kept += 1;
        }
    }
}

#[test]
fn a_skeleton_has_the_hash_of_the_full_root() {
    let full = tempfile::tempdir().unwrap();
    let root = full.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let program = fs::canonicalize("/usr/bin/python3").unwrap();
    let python = program.file_name().unwrap().to_str().unwrap();
    write("etc/os-release", "VERSION_ID=1\n");
    write("var/lib/dpkg/status", "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n");
    write(&format!("usr/bin/{python}"), "");
    fs::copy(&program, root.join("usr/bin").join(python)).unwrap();
    for file in ["os.py", "site.py", "json/decoder.py", "importlib/metadata/_adapters.py", "email/_policybase.py"] {
        let text = fs::read_to_string(Path::new("/usr/lib").join(python).join(file)).unwrap();
        write(&format!("usr/lib/{python}/{file}"), &text);
    }
    let site = format!("venv/main/lib/{python}/site-packages");
    write("venv/main/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true\n");
    write(&format!("{site}/a-1.dist-info/METADATA"), "Name: a\nVersion: 1\n  folded\n");
    write(&format!("{site}/a-1.dist-info/RECORD"), "a/__init__.py,,\n");
    write(&format!("{site}/a/__init__.py"), "");
    write(&format!("{site}/b.egg-info"), "Name: b\nVersion: 2\n");
    write(&format!("{site}/c.pth"), "/opt/c\n");
    write("opt/c/c.egg-info/PKG-INFO", "Name: c\nVersion: 3\n");
    write("usr/lib/python3/dist-packages/d-4.dist-info/METADATA", "Name: d\nVersion: 4\n");
    fs::create_dir_all(root.join("venv/main/bin")).unwrap();
    symlink(format!("/usr/bin/{python}"), root.join("venv/main/bin/python")).unwrap();

    let skeleton = tempfile::tempdir().unwrap();
    let (mut kept, mut left) = (0, 0);
    copy(root, skeleton.path(), Path::new(""), &mut kept, &mut left);
    assert!(left >= 3, "{left} of {kept} files are not needed");
    let inventory = hash(skeleton.path(), &Options::default()).unwrap();
    assert_eq!(inventory.venvs[0].packages.len(), 4);
    assert_eq!(inventory, hash(root, &Options::default()).unwrap());
}
