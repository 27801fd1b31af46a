use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};

use super::*;
use crate::console::{Console, Silent};

fn shell(text: &str) -> Invocation {
    let env = std::env::vars_os().collect();
    Invocation::new("/bin/sh", env).argument("-c").argument(text)
}

fn runner(cancel: &Cancel) -> SystemRunner {
    SystemRunner::new(cancel.clone(), Arc::new(Silent))
}

#[test]
fn the_status_of_a_program_comes_back() {
    let runner = runner(&Cancel::new());
    for (text, code, signal) in [("exit 0", Some(0), None), ("exit 7", Some(7), None), ("kill -9 $$", None, Some(9))] {
        let Wait::Ended(status) = runner.run(&shell(text)).unwrap() else { panic!("{text} did not end") };
        assert_eq!((status.code(), status.signal()), (code, signal), "{text}");
    }
}

#[test]
fn a_stop_ends_a_running_program_and_one_that_starts_later() {
    let cancel = Cancel::new();
    let firing = cancel.clone();
    let directory = tempfile::tempdir().unwrap();
    let started = directory.path().join("started");
    let path = started.clone();
    let other = std::thread::spawn(move || {
        while !path.exists() {
            std::thread::yield_now();
        }
        firing.fire(Signal::TERM);
    });
    let outcome = runner(&cancel).run(&shell(&format!("touch {}; sleep 600", started.display()))).unwrap();
    other.join().unwrap();
    assert_eq!(outcome, Wait::Cancelled);
    assert_eq!(runner(&cancel).run(&shell("sleep 600")).unwrap(), Wait::Cancelled);
}

#[derive(Default)]
struct Heard(Mutex<Vec<u8>>);

impl Console for Heard {
    fn line(&self, _: &str) {}

    fn raw(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

#[test]
fn a_log_holds_all_output_at_the_programs_end_although_something_it_left_holds_the_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("portal/x.log");
    let heard = Arc::new(Heard::default());
    let mut invocation =
        shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo error >&2; sleep 600 & echo $!");
    invocation.output = Output::Log(log.clone());
    let runner = SystemRunner::new(Cancel::new(), heard.clone());
    assert!(matches!(runner.run(&invocation).unwrap(), Wait::Ended(status) if status.success()));
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2002);
    assert_eq!(lines[2000], "error");
    assert_eq!(heard.0.lock().unwrap().as_slice(), text.as_bytes());
    let left = Pid::from_raw(lines[2001].parse().unwrap()).unwrap();
    kill_process(left, Signal::KILL).unwrap();
}

#[test]
fn a_missing_program_is_named() {
    let error = runner(&Cancel::new()).run(&Invocation::new("/no/such/program", Environment::new())).unwrap_err();
    assert_eq!(error.to_string(), "cannot run `/no/such/program`");
    assert!(error.hint().is_some());
}

#[test]
fn a_status_reads_as_in_a_shell() {
    for (raw, code, text) in
        [(0, 0, "exited with 0"), (3 << 8, 3, "exited with 3"), (15, 143, "was killed by signal 15")]
    {
        let status = ExitStatus::from_raw(raw);
        assert_eq!((exit_code(status), describe(status).as_str()), (code, text));
    }
}
