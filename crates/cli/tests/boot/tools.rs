//! The commands that scripts call by their own names.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::harness::{Fake, VAST_BOOT};

#[test]
fn the_certificate_is_judged_by_exit_code_under_both_names() {
    let fake = Fake::new();
    let openssl = |days: &str| {
        let (certificate, key) = (fake.path("/etc/instance.crt"), fake.path("/etc/instance.key"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=x",
            "-days",
            days,
        ]);
        assert!(command.arg("-keyout").arg(key).arg("-out").arg(certificate).output().unwrap().status.success());
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
    openssl("30");
    assert_eq!(codes(), Some(0));
    openssl("-1");
    assert_eq!(codes(), Some(3));
    fs::write(fake.path("/etc/instance.crt"), "<html>").unwrap();
    assert_eq!(codes(), Some(1));
}

#[test]
fn keys_are_propagated_and_venvs_backed_up_under_their_scripts_names() {
    let fake = Fake::new();
    fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
    fs::create_dir_all(fake.path("/home/user")).unwrap();
    for name in ["propagate_ssh_keys.sh", "venv-backup.sh"] {
        symlink(VAST_BOOT, fake.out(name)).unwrap();
        let program = fake.out(name);
        let run = |arguments: &[&std::ffi::OsStr]| {
            fake.command(program.to_str().unwrap(), arguments).output().unwrap().status.code()
        };
        assert_eq!(run(&["--root".as_ref(), fake.root().as_os_str()]), Some(0), "{name}");
        assert_eq!(run(&["--frobnicate".as_ref()]), Some(64), "{name}");
    }
    assert_eq!(fs::read_to_string(fake.path("/home/user/.ssh/authorized_keys")).unwrap(), "ssh-ed25519 AAAA me\n");
}

#[test]
fn a_wrong_question_is_a_usage_error() {
    for arguments in [&["plan", "--frobnicate"][..], &["cert"], &["status", "x"]] {
        assert_eq!(Fake::new().run(arguments).status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(Fake::new().command(VAST_BOOT, ["run", "--help"]).output().unwrap().status.code(), Some(0));
}
