//! `vast-logtee` and `vast-pty`, as programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const LOGTEE: &str = env!("CARGO_BIN_EXE_vast-logtee");
const PTY: &str = env!("CARGO_BIN_EXE_vast-pty");

/// A directory with the logs of an application.
struct Logs {
    directory: tempfile::TempDir,
}

impl Logs {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn raw(&self) -> PathBuf {
        self.directory.path().join("portal/app.log")
    }

    fn plain(&self) -> PathBuf {
        self.directory.path().join("app.log")
    }

    fn start(&self) -> Child {
        Command::new(LOGTEE)
            .args(["--name", "app", "--plain"])
            .args([self.plain(), self.raw()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// One start of the application, which writes these parts.
    fn run(&self, parts: &[&[u8]]) -> Output {
        let mut child = self.start();
        let mut input = child.stdin.take().unwrap();
        for part in parts {
            input.write_all(part).unwrap();
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

#[test]
fn the_portal_log_keeps_every_byte_and_the_others_get_clean_text() {
    let logs = Logs::new();
    let bytes = "\u{1b}[32mready\u{1b}[0m\r\n10%\r100%\n\u{e9}t\u{e9}\n".as_bytes();
    // Byte by byte, so that every sequence and character is split.
    let parts: Vec<&[u8]> = bytes.chunks(1).collect();
    let output = logs.run(&parts);
    assert_eq!(fs::read(logs.raw()).unwrap(), bytes);
    assert_eq!(read(&logs.plain()), "ready\n100%\n\u{e9}t\u{e9}\n");
    assert_eq!(output.stdout, "ready\n100%\n\u{e9}t\u{e9}\n".as_bytes());
}

#[test]
fn a_line_without_an_end_is_shown_while_the_application_waits() {
    let logs = Logs::new();
    let mut child = logs.start();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Loading the model...").unwrap();
    let mut shown = [0; 20];
    child.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"Loading the model...");
    input.write_all(b" done\n").unwrap();
    drop(input);
    assert_eq!(child.wait_with_output().unwrap().stdout, b" done\n");
    assert_eq!(read(&logs.plain()), "Loading the model... done\n");
}

#[test]
fn the_previous_logs_become_old() {
    let logs = Logs::new();
    logs.run(&[b"first\n"]);
    logs.run(&[b"second\n"]);
    for path in [logs.raw(), logs.plain()] {
        assert_eq!(read(&path), "second\n");
        assert_eq!(read(&old(&path)), "first\n");
    }
}

#[test]
fn a_start_that_skips_itself_does_not_rotate() {
    let logs = Logs::new();
    logs.run(&[b"older run\n"]);
    logs.run(&[b"useful\n"]);
    for _ in 0..3 {
        let output = logs.run(&[b"Skipping app ", b"startup (not in /etc/portal.yaml)\n"]);
        assert_eq!(output.stdout, b"Skipping app startup (not in /etc/portal.yaml)\n");
        logs.run(&[]);
    }
    for path in [logs.raw(), logs.plain()] {
        assert_eq!(read(&path), "useful\nSkipping app startup (not in /etc/portal.yaml)\n");
        assert_eq!(read(&old(&path)), "older run\n");
    }
    logs.run(&[b"Skipping app startup", b" screen\n", b"running\n"]);
    assert_eq!(read(&logs.plain()), "Skipping app startup screen\nrunning\n");
    assert!(read(&old(&logs.plain())).starts_with("useful\n"));
}

#[test]
fn fifty_megabytes_pass_and_the_logs_stay_small() {
    let logs = Logs::new();
    let mut child = logs.start();
    let mut input = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).unwrap());
    let line = "\u{1b}[33m".to_owned() + &"x".repeat(200) + "\u{1b}[0m\n";
    let block = line.repeat(1000);
    let blocks = 50_000_000 / block.len() + 1;
    for _ in 0..blocks {
        input.write_all(block.as_bytes()).unwrap();
    }
    input.write_all(b"the last line\n").unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(reader.join().unwrap(), (blocks * 1000 * 201 + 14) as u64);
    for path in [logs.raw(), logs.plain()] {
        let text = read(&path);
        assert!(text.len() <= 5_000_000 && text.ends_with("x\n") | text.ends_with("the last line\n"), "{}", text.len());
        assert!(text.starts_with(['x', '\u{1b}']) && !old(&path).exists());
    }
}

#[test]
fn a_full_disk_does_not_stop_the_application() {
    // A file system of its own in a mount namespace, so that it can be filled and emptied.
    let script = r#"
        set -euo pipefail
        mount -t tmpfs -o size=256k none "$1"
        mkfifo "$1/input"
        "$2" --name app --plain "$1/app.log" "$1/raw.log" < "$1/input" > "$1/../out" 2> "$1/../err" &
        exec 3> "$1/input"
        echo before >&3
        until grep -q before "$1/app.log" 2> /dev/null; do :; done
        head -c 1000000 /dev/zero > "$1/filler" 2> /dev/null || true
        for ((line = 0; line < 3000; line++)); do echo "line $line of many that fill a full disk"; done >&3
        until grep -q 'line 2999' "$1/../out"; do :; done
        rm "$1/filler"
        # A failed log is tried again with each write.
        echo after >&3
        until grep -q after "$1/../out"; do :; done
        exec 3>&-
        wait
        cat "$1/app.log"
    "#;
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path().join("disk");
    fs::create_dir(&mount).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", script, "bash"])
        .arg(&mount)
        .arg(LOGTEE)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.starts_with("before\n") && log.ends_with("after\n"), "{}", &log[log.len().saturating_sub(300)..]);
    assert!(log.contains("bytes of the log are missing here"), "{}", log.len());
    assert_eq!(read(&directory.path().join("out")).lines().count(), 3002, "standard output has every line");
    assert!(read(&directory.path().join("err")).contains("app.log"));
}

#[test]
fn a_deleted_log_directory_and_a_closed_output_do_not_stop_the_application() {
    let logs = Logs::new();
    let mut child = logs.start();
    let mut input = child.stdin.take().unwrap();
    let mut byte = [0];
    input.write_all(b"one\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    drop(child.stdout.take());
    fs::remove_dir_all(logs.directory.path()).unwrap();
    for _ in 0..1000 {
        input.write_all(&[b'x'; 1000]).unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn nobody_can_aim_the_log_at_another_file() {
    let logs = Logs::new();
    let target = logs.directory.path().join("target");
    fs::write(&target, "precious\n").unwrap();
    fs::create_dir(logs.raw().parent().unwrap()).unwrap();
    for name in [logs.raw(), old(&logs.raw()), logs.raw().with_extension("log.trim")] {
        symlink(&target, name).unwrap();
    }
    logs.run(&[b"text\n"]);
    logs.run(&[b"text\n"]);
    assert_eq!(read(&target), "precious\n");
    assert_eq!(read(&logs.raw()), "text\n");
}

#[test]
fn signals_for_the_application_do_not_end_its_log() {
    let logs = Logs::new();
    let mut child = logs.start();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"before\n").unwrap();
    // It answers only once it runs, and so has its handlers.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    for signal in ["TERM", "INT", "HUP"] {
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
    }
    input.write_all(b"last words\n").unwrap();
    drop(input);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"last words\n");
    assert_eq!(read(&logs.plain()), "before\nlast words\n");
}

#[test]
fn log_tee_is_the_same_program() {
    let logs = Logs::new();
    let link = logs.directory.path().join("log-tee");
    symlink(LOGTEE, &link).unwrap();
    let log = logs.directory.path().join("some.log");
    let mut child = Command::new(link)
        .arg(&log)
        .env_remove("PROC_NAME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x1b[1mtext\x1b[0m\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"text\n");
    assert_eq!(read(&log), "\x1b[1mtext\x1b[0m\n");
}

fn pty(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(PTY);
    command.args(arguments).env_remove("TERM").env_remove("COLUMNS").env_remove("LINES");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_command_on_a_pseudo_terminal_sees_a_terminal_and_its_bytes_pass_unchanged() {
    let output =
        pty(&["sh", "-c", r"test -t 0 && test -t 1 && test -t 2 && printf 'a\nb\r' && stty size && echo $TERM"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\nb\r30 120\nxterm-256color\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_pseudo_terminal_passes_exit_codes_on() {
    for (command, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("true", 0)] {
        assert_eq!(pty(&["sh", "-c", command], b"").status.code(), Some(code), "{command}");
    }
    assert_eq!(pty(&["/nowhere/program"], b"").status.code(), Some(127));
    assert_eq!(pty(&["/etc/passwd"], b"").status.code(), Some(126));
    assert_eq!(pty(&[], b"").status.code(), Some(64));
}

#[test]
fn input_reaches_the_command_and_ends() {
    let output = pty(&["sh", "-c", "read -r line; echo \"got $line\"; cat"], b"one\ntwo\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got one\ntwo\n");
}

#[test]
fn a_process_left_behind_does_not_hold_the_pseudo_terminal() {
    // Ended by the test, so that a program that waits for it does not pass.
    let mut child = Command::new(PTY)
        .args(["sh", "-c", "(trap '' HUP; exec sleep 300) & echo $!"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    let mut left = String::new();
    child.stdout.take().unwrap().read_to_string(&mut left).unwrap();
    Command::new("kill").arg(left.trim()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_reaches_the_command_which_decides_how_to_end() {
    let script = "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        Command::new(PTY).args(["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    // The shell may say how its `sleep` ended, which gets the signal too.
    assert!(output.stdout.ends_with(b"stopping\n"), "{output:?}");
}
