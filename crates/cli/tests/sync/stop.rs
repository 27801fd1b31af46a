//! Signals, and what a terminal shows.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{run, succeed};
use crate::container::{Container, Kind, assert_moved, assert_nothing_partial, command, contents};

const FAULT: &str = "VAST_SYNC_FAULT";

/// Waits until something is at a path, or the process has ended.
fn wait_for(path: &std::path::Path, child: &mut Child) {
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before there was `{}`", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_while_copying_releases_the_lease_and_the_next_instance_does_not_wait() {
    for kind in Kind::BOTH {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let container = Container::new();
            let before: Vec<_> = kind.trees().iter().map(|(path, _)| contents(&container.path(path))).collect();
            // Nobody would take this one over within an hour.
            let mut copier = command(container.root(), kind, "3600");
            let mut copier = copier.env(FAULT, "delay:stage.create=300").stderr(Stdio::piped()).spawn().unwrap();
            wait_for(&container.shared(kind).join(".syncing"), &mut copier);
            kill_process(Pid::from_child(&copier), signal).unwrap();
            let stopped = copier.wait_with_output().unwrap();
            assert_eq!(stopped.status.code(), Some(code), "{stopped:?}");
            assert!(String::from_utf8_lossy(&stopped.stderr).contains("the next run goes on from here"), "{stopped:?}");
            assert_nothing_partial(&container.shared(kind), kind, "stopped");
            let after: Vec<_> = kind.trees().iter().map(|(path, _)| contents(&container.path(path))).collect();
            assert_eq!(before, after);
            let lease = fs::read_to_string(container.shared(kind).join(".syncing")).unwrap();
            assert!(lease.contains("state released"), "{lease}");
            let next = succeed(command(container.root(), kind, "3600").arg("--json"));
            assert_eq!(next.event("done")["role"], "took_over");
            assert_moved(container.root(), kind, "after a stop");
        }
    }
}

#[test]
fn a_stop_ends_the_process_when_nobody_reads_what_it_says() {
    let container = Container::new();
    let mut copier = command(container.root(), Kind::Environment, "3600");
    let mut copier = copier.env(FAULT, "delay:stage.create=300").stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&container.shared(Kind::Environment).join(".syncing"), &mut copier);
    drop(copier.stderr.take());
    kill_process(Pid::from_child(&copier), Signal::TERM).unwrap();
    assert_eq!(copier.wait().unwrap().code(), Some(143));
}

#[test]
fn a_stop_waits_for_a_swap_that_has_begun() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let journal = container.path("var/lib/vast-sync/relink");
        let fault = "fail:relink.exchange=18,delay:relink.remove=20";
        let mut swapping = container.command(kind).env(FAULT, fault).stderr(Stdio::null()).spawn().unwrap();
        let begun = || {
            fs::read_dir(&journal)
                .into_iter()
                .flatten()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('%'))
        };
        while !begun() {
            assert!(swapping.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&swapping), Signal::TERM).unwrap();
        assert_eq!(swapping.wait().unwrap().code(), Some(143));
        assert!(!begun(), "what was begun is completed");
        let linked = kind.trees().iter().filter(|(path, _)| container.path(path).is_symlink()).count();
        assert!((1..kind.trees().len()).contains(&linked), "and no more than that: {linked}");
        succeed(&mut container.command(kind));
        assert_moved(container.root(), kind, "after a stop");
    }
}

#[test]
fn a_stop_while_waiting_ends_the_wait() {
    let container = Container::new();
    let shared = container.shared(Kind::Environment);
    fs::create_dir_all(&shared).unwrap();
    fs::write(shared.join(".syncing"), "").unwrap();
    let log = container.path("log");
    let mut waiter = container.command(Kind::Environment);
    let mut waiter = waiter.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    while !fs::read_to_string(&log).unwrap().contains("waiting for another instance") {
        assert!(waiter.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&waiter), Signal::TERM).unwrap();
    assert_eq!(waiter.wait().unwrap().code(), Some(143));
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1);
}

#[test]
fn a_terminal_shows_a_bar_and_a_pipe_gets_lines() {
    for kind in Kind::BOTH {
        let container = Container::new();
        let plain = container.command(kind);
        let words: Vec<String> = std::iter::once(plain.get_program())
            .chain(plain.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        // `script` gives it a pseudo-terminal.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null()).env(FAULT, "delay:stage.create=40");
        let shown = run(terminal.env("TERM", "xterm"));
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(shown.stdout.contains("files") && shown.stdout.contains("left"), "{shown:?}");
        assert!(shown.stdout.contains("\u{1b}["), "it draws over what it drew: {shown:?}");
        assert!(shown.stdout.contains("is on the volume now"), "{shown:?}");

        let container = Container::new();
        let piped = succeed(&mut container.command(kind));
        assert_eq!(piped.stderr, "", "nothing lasts ten seconds here");
        assert!(!piped.stdout.contains('\u{1b}'), "{piped:?}");
        assert_eq!(piped.stdout.lines().count(), 1 + kind.trees().len(), "{piped:?}");
    }
}

#[test]
fn a_run_where_all_is_in_place_looks_at_little() {
    for kind in Kind::BOTH {
        let container = Container::new();
        succeed(&mut container.command(kind));
        let log = container.path("calls");
        let mut traced = Command::new("strace");
        let plain = container.command(kind);
        traced.args(["-f", "-qq", "-e", "trace=%file,getdents64,fsync,syncfs", "-o"]).arg(&log);
        traced
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        assert_eq!(run(&mut traced).code, Some(0));
        let calls = fs::read_to_string(&log).unwrap();
        let root = container.root().to_str().unwrap();
        let ours: Vec<&str> = calls.lines().filter(|line| line.contains(root) && !line.contains("execve")).collect();
        assert!(ours.len() <= 30, "{}: {ours:#?}", ours.len());
        assert!(!calls.contains("syncfs") && !calls.contains("O_CREAT"), "{calls}");
        // A tree is one look: not its contents.
        assert!(!calls.contains("site-packages"), "{calls}");
    }
}
