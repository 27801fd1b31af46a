//! What a person sees, and what a log gets.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::command::{run, succeed, vast_sync};

/// A tree whose copy takes as long as its faults say.
fn tree(root: &Path) {
    fs::create_dir(root.join("from")).unwrap();
    for index in 0..100 {
        fs::write(root.join(format!("from/{index}")), vec![7; 50_000]).unwrap();
    }
}

fn copy(root: &Path) -> std::process::Command {
    let mut command = vast_sync();
    command.arg("copy").arg(root.join("from")).arg(root.join("to"));
    command
}

/// Runs with standard error on a terminal, and returns what that was sent.
fn on_a_terminal(command: &mut std::process::Command) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = command.env("TERM", "xterm").stderr(terminal).stdout(Stdio::null()).spawn().unwrap();
    // The command has held the terminal open as well.
    command.stderr(Stdio::null());
    let mut sent = Vec::new();
    // EIO: nobody has it open any more.
    let _ = File::from(master).read_to_end(&mut sent);
    assert!(child.wait().unwrap().success());
    String::from_utf8(sent).unwrap()
}

#[test]
fn on_a_terminal_there_is_a_bar_with_amounts_a_rate_and_the_time_left_and_in_the_end_it_is_gone() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path());
    // Slow enough for a bar to be drawn on its way.
    let sent = on_a_terminal(copy(root.path()).env("VAST_SYNC_FAULT", "delay:stage.create=20"));
    let drawn: Vec<_> = sent.split('\r').filter(|line| line.contains("/101 files")).collect();
    let half_way = drawn.iter().find(|line| line.contains("█████░")).unwrap_or_else(|| panic!("{sent:?}"));
    for part in ["iB/4.77 MiB ", "iB/s ", " left"] {
        assert!(half_way.contains(part), "{part}: {half_way:?}");
    }
    assert!(!half_way.contains(" 0/101 files"), "files are counted on the way: {half_way:?}");
    let last = sent.rsplit('\r').next().unwrap();
    assert!(!last.contains("files"), "cleared: {last:?}");
}

#[test]
fn warnings_are_printed_above_the_bar() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path());
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("from/socket")).unwrap();
    let sent = on_a_terminal(&mut copy(root.path()));
    assert!(sent.contains("warning: sockets are left out"), "{sent:?}");
}

#[test]
fn elsewhere_there_is_no_bar_and_one_sentence_in_the_end() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path());
    let dry = succeed(copy(root.path()).arg("--dry-run"));
    assert_eq!(dry.stdout, format!("would create `{}`: 4.77 MiB in 101 entries\n", root.path().join("to").display()));
    let run = run(&mut copy(root.path()));
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("copied 4.77 MiB in 101 entries\n", ""));
}
