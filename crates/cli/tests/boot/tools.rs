//! The commands that scripts call by their own names.

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
