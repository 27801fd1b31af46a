//! The commands that scripts call by their own names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;

use vast_boot::certificate;

use super::harness::{Fake, VAST_BOOT};

#[test]
fn the_certificate_is_judged_by_exit_code_under_both_names() {
    let fake = Fake::new();
    let make = |start: &str| {
        let key = certificate::new_key().unwrap();
        fs::write(fake.path("/etc/instance.key"), key.serialize_pem()).unwrap();
        let signed = certificate::self_signed(&key, start.parse().unwrap()).unwrap();
        fs::write(fake.path("/etc/instance.crt"), signed).unwrap();
    };
    let link = fake.out("cert-usable");
    symlink(VAST_BOOT, &link).unwrap();
    let codes = || {
        let own = fake.run(&["cert", "check"]).status.code();
        let linked =
            fake.command(link.to_str().unwrap(), ["--root".as_ref(), fake.root().as_os_str()]).output().unwrap();
        assert_eq!(own, linked.status.code());
        own
    };
    assert_eq!(codes(), Some(1));
    make(&jiff::Timestamp::now().to_string());
    assert_eq!(codes(), Some(0));
    make("2020-01-01T00:00:00Z");
    assert_eq!(codes(), Some(3));
    fs::write(fake.path("/etc/instance.crt"), "<html>").unwrap();
    assert_eq!(codes(), Some(1));
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// The exit code, and what was printed.
type Answer = (Option<i32>, String);

/// A program of the image family under the name that scripts call it by.
fn tool(fake: &Fake, name: &str) -> impl Fn(&[&str], Variables<'_>) -> Answer {
    let program = fake.out(name);
    symlink(VAST_BOOT, &program).unwrap();
    move |arguments, env| {
        let root = fake.root();
        let own = ["--root".as_ref(), root.as_os_str()];
        let mut command =
            fake.command(program.to_str().unwrap(), own.into_iter().chain(arguments.iter().map(OsStr::new)));
        let output = command.envs(env.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn keys_are_propagated_under_their_scripts_name() {
    let fake = Fake::new();
    let propagate = tool(&fake, "propagate_ssh_keys.sh");
    fs::create_dir_all(fake.path("/home/user")).unwrap();
    assert_eq!(propagate(&[], &[]), (Some(0), String::new()), "a missing `.ssh` is no error");
    fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
    for _ in 0..2 {
        assert_eq!(propagate(&[], &[]), (Some(0), String::new()));
        let keys = fs::read_to_string(fake.path("/home/user/.ssh/authorized_keys")).unwrap();
        assert_eq!(keys, "ssh-ed25519 AAAA me\n");
    }
    // Something that is no directory of keys: they cannot be propagated.
    fs::create_dir_all(fake.path("/home/other")).unwrap();
    fake.write("/home/other/.ssh", "");
    assert_eq!(propagate(&[], &[]).0, Some(2));
    assert_eq!(propagate(&["--frobnicate"], &[]).0, Some(64));
}

#[test]
fn venvs_are_backed_up_under_their_scripts_name() {
    let fake = Fake::new();
    let back_up = tool(&fake, "venv-backup.sh");
    assert_eq!(back_up(&[], &[]), (Some(0), String::new()), "without a venv there is nothing to do");
    let python = fs::canonicalize("/usr/bin/python3").unwrap();
    let version = python.file_name().unwrap().to_str().unwrap().strip_prefix("python").unwrap();
    fs::copy(&python, fake.path(&format!("/usr/bin/python{version}"))).unwrap();
    fake.write(&format!("/usr/lib/python{version}/os.py"), "");
    fake.write(
        "/venv/main/pyvenv.cfg",
        &format!("home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}.2\n"),
    );
    fs::create_dir_all(fake.path("/venv/main/bin")).unwrap();
    symlink(format!("/usr/bin/python{version}"), fake.path("/venv/main/bin/python")).unwrap();
    let metadata = "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n";
    fake.write(&format!("/venv/main/lib/python{version}/site-packages/greeting-1.0.dist-info/METADATA"), metadata);
    let (code, said) = back_up(&[], &[("VAST_CONTAINERLABEL", "C.7")]);
    assert_eq!((code, said.lines().count()), (Some(0), 1), "{said}");
    assert!(said.contains("/workspace/.venv-backups/7/venv-main-"), "{said}");
    assert!(fs::read_to_string(said.trim()).unwrap().contains("greeting==1.0"));
    assert_eq!(back_up(&[], &[("VENV_BACKUP_COUNT", "0")]), (Some(0), String::new()));
    assert_eq!(back_up(&[], &[("VENV_BACKUP_COUNT", "many")]), (Some(2), String::new()));
    assert_eq!(back_up(&["--frobnicate"], &[]).0, Some(64));
}

#[test]
fn a_wrong_question_is_a_usage_error() {
    for arguments in [&["plan", "--frobnicate"][..], &["cert"], &["status", "x"]] {
        assert_eq!(Fake::new().run(arguments).status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(Fake::new().command(VAST_BOOT, ["run", "--help"]).output().unwrap().status.code(), Some(0));
}
