//! A real `sshd` in a container, asked for by a real `ssh`, with the checks it makes of modes and owners.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{Run, run, tool};
use crate::container::{Container, Kind};
use crate::overlay::Overlay;
use crate::tree::set_mode;

/// Makes a container in which root and a user may log in with one key, and returns where its private half is.
fn prepare(root: &Path, aside: &Path) {
    let key = aside.join("key");
    let host = root.join("etc/ssh_host_key");
    for path in [&key, &host] {
        tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
    }
    let public = fs::read(key.with_extension("pub")).unwrap();
    for home in ["root", "home/user"] {
        fs::write(root.join(home).join(".ssh/authorized_keys"), &public).unwrap();
    }
    let passwd =
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1001:0::/home/user:/bin/sh\nsshd:x:105:65534::/run/sshd:/bin/false\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
    fs::write(root.join("etc/shadow"), "root:*:1::::::\nuser:*:1::::::\nsshd:!:1::::::\n").unwrap();
    let config = "HostKey /etc/ssh_host_key\nUsePAM no\nStrictModes yes\nPermitRootLogin prohibit-password\n\
                  PasswordAuthentication no\nPidFile none\n";
    fs::write(root.join("etc/sshd_config"), config).unwrap();
    for directory in ["usr", "dev", "proc", "run/sshd"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        set_mode(&root.join(directory), 0o755);
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(Path::new("usr").join(link), root.join(link)).unwrap();
    }
    set_mode(root, 0o755);
    set_mode(&root.join("home"), 0o755);
}

/// Logs in as that user, over a pipe: no network, and no server that outlives it.
fn log_in(root: &Path, aside: &Path, user: &str) -> Run {
    let server = aside.join("server.sh");
    let script = format!(
        "#!/bin/sh\nset -eu\ncd '{}'\nmount --bind /usr usr\nmount --bind /dev dev\nmount --bind /proc proc\n\
         exec chroot . /usr/sbin/sshd -i -e -f /etc/sshd_config 2>>'{}'\n",
        root.display(),
        aside.join("server.log").display()
    );
    fs::write(&server, script).unwrap();
    set_mode(&server, 0o755);
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"]).arg(aside.join("key"));
    ssh.arg("-o").arg(format!("ProxyCommand=unshare --mount {}", server.display()));
    ssh.arg(format!("{user}@container")).arg("cd && pwd -P && cat notes .bashrc 2>/dev/null; true");
    run(&mut ssh)
}

#[track_caller]
fn assert_both_log_in(root: &Path, aside: &Path, homes: [&str; 2], context: &str) {
    for (user, home, text) in [("root", homes[0], "alias ll='ls -l'\n"), ("user", homes[1], "mine\n")] {
        let session = log_in(root, aside, user);
        let said = || fs::read_to_string(aside.join("server.log")).unwrap_or_default();
        assert_eq!(session.code, Some(0), "{context}: {user}: {session:?} {}", said());
        assert_eq!(session.stdout, format!("{home}\n{text}"), "{context}: {user}");
    }
}

const IN_CONTAINER: [&str; 2] = ["/root", "/home/user"];
const ON_VOLUME: [&str; 2] = ["/workspace/home/root", "/workspace/home/user"];

#[test]
fn keys_open_the_door_before_and_after_and_brought_back() {
    let aside = tempfile::tempdir().unwrap();
    let overlay = Overlay::with(|image| prepare(image, aside.path()));
    let root = overlay.root();
    assert_both_log_in(&root, aside.path(), IN_CONTAINER, "before");
    // A volume whose directory everyone may write to must not matter: the keys are not on it.
    set_mode(&root.join("workspace"), 0o777);
    assert_eq!(overlay.run(Kind::Home, "").code, Some(0));
    assert_both_log_in(&root, aside.path(), ON_VOLUME, "after");
    let mut undo = crate::container::command(&root, Kind::Home, "1");
    assert_eq!(run(undo.arg("--undo")).code, Some(0));
    assert_both_log_in(&root, aside.path(), IN_CONTAINER, "brought back");
}

#[test]
fn keys_open_the_door_whatever_happens() {
    for (fault, code) in [
        ("fail:stage.create@2=28", Some(2)),
        ("fail:flush.syncfs@1=5", Some(2)),
        ("kill-before:claim.rename", None),
        ("kill-before:publish.rename@1", None),
        ("kill-after:publish.rename@3", None),
        ("kill-after:ssh.rename@1", None),
        ("kill-after:journal.rename@1", None),
        ("kill-before:relink.remove@1", None),
        ("kill-after:relink.rename@1", None),
        ("kill-after:journal.unlink@2", None),
    ] {
        let aside = tempfile::tempdir().unwrap();
        let overlay = Overlay::with(|image| prepare(image, aside.path()));
        let root = overlay.root();
        let run = overlay.run(Kind::Home, fault);
        assert_eq!(run.code, code, "{fault}: {run:?}");
        for user in ["root", "user"] {
            let session = log_in(&root, aside.path(), user);
            let said = fs::read_to_string(aside.path().join("server.log")).unwrap_or_default();
            assert_eq!(session.code, Some(0), "{fault}: {user}: {session:?} {said}");
        }
        assert_eq!(overlay.run(Kind::Home, "").code, Some(0), "{fault}");
        assert_both_log_in(&root, aside.path(), ON_VOLUME, fault);
    }
}

#[test]
fn keys_open_the_door_while_an_older_image_never_finishes() {
    let aside = tempfile::tempdir().unwrap();
    let container = Container::new();
    prepare(container.root(), aside.path());
    fs::create_dir_all(container.shared(Kind::Home)).unwrap();
    fs::write(container.shared(Kind::Home).join(".syncing"), "").unwrap();
    let waited = run(container.command(Kind::Home).args(["--wait", "0.2"]));
    assert_eq!(waited.code, Some(2), "{waited:?}");
    assert_both_log_in(container.root(), aside.path(), IN_CONTAINER, "timed out");
}
