use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::cancel::Cancel;
use crate::console::Console;
use crate::environment::Environment;
use crate::process::SystemRunner;
use crate::root::Root;

/// A console that remembers.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Console for Heard {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn raw(&self, _: &[u8]) {}
}

/// What a boot of `files` (in `/etc/vast_boot.d`) with `built_in` did.
struct Booted {
    _root: tempfile::TempDir,
    path: PathBuf,
    code: u8,
    env: Environment,
    said: Vec<String>,
    stages: Vec<(String, Outcome, Option<String>)>,
}

impl Booted {
    fn outcomes(&self) -> Vec<(&str, Outcome)> {
        self.stages.iter().map(|(name, outcome, _)| (name.as_str(), *outcome)).collect()
    }

    fn message(&self, stage: &str) -> &str {
        self.stages.iter().find(|(name, ..)| name == stage).and_then(|(.., message)| message.as_deref()).unwrap_or("")
    }
}

fn boot_with(
    files: &[(&str, &str)],
    built_in: &[BuiltIn],
    env: &[(&str, &str)],
    prepare: impl FnOnce(&mut Boot<'_>) -> Selection,
) -> Booted {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/vast_boot.d");
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(root.path().join("var/log")).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
    let heard = Arc::new(Heard::default());
    let cancel = Cancel::new();
    let runner = SystemRunner::new(cancel.clone(), heard.clone());
    let at = Root::new(root.path());
    let mut boot = Boot::new(at.clone(), env.iter().copied().collect(), &runner, cancel, heard.clone());
    let selection = prepare(&mut boot);
    let plan = plan::read(&at, built_in.iter().map(|stage| stage.name)).unwrap();
    let mut journal = Journal::start(&at, "1", true);
    let code = run(&mut boot, &plan, built_in, &selection, &mut journal);
    let stages = journal.record().stages.iter();
    let stages = stages.map(|record| (record.stage.clone(), record.outcome, record.message.clone())).collect();
    let said = heard.0.lock().unwrap().clone();
    Booted { path: root.path().to_owned(), _root: root, code, env: boot.env, said, stages }
}

fn boot(files: &[(&str, &str)], built_in: &[BuiltIn]) -> Booted {
    boot_with(files, built_in, &[], |_| Selection::default())
}

const GOOD: BuiltIn = BuiltIn {
    name: "20-good.sh",
    run: |boot| {
        boot.env.set("GOOD", "1");
        Ok(Verdict::done())
    },
};
const PANICS: BuiltIn = BuiltIn { name: "10-panics.sh", run: |_| panic!("on purpose") };
const FAILS: BuiltIn =
    BuiltIn { name: "11-fails.sh", run: |_| Err(Error::Refused { path: PathBuf::from("/x"), reason: "on purpose" }) };
const GIVES_UP: BuiltIn = BuiltIn { name: "12-gives-up.sh", run: |_| Ok(Verdict::GaveUp("no driver".to_owned())) };

#[test]
fn a_failing_or_panicking_stage_never_stops_the_sequence() {
    let files = [("13-exits.sh", "exit 9"), ("14-syntax.sh", "if then"), ("15-killed.sh", "kill -9 $$")];
    let booted = boot(&files, &[PANICS, FAILS, GIVES_UP, GOOD]);
    assert_eq!(
        booted.outcomes(),
        [
            ("10-panics.sh", Outcome::Panicked),
            ("11-fails.sh", Outcome::Failed),
            ("12-gives-up.sh", Outcome::GaveUp),
            ("13-exits.sh", Outcome::Failed),
            ("14-syntax.sh", Outcome::Failed),
            ("15-killed.sh", Outcome::Failed),
            ("20-good.sh", Outcome::Done),
        ]
    );
    assert_eq!(booted.code, 0);
    assert_eq!(booted.message("10-panics.sh"), "on purpose");
    assert_eq!(booted.message("13-exits.sh"), "exited with 9");
    assert!(booted.message("15-killed.sh").starts_with("was killed by signal 9"));
    assert_eq!(fs::read_to_string(booted.path.join("var/log/vast_boot_failures")).unwrap(), "12-gives-up: no driver\n");
}

#[test]
fn what_a_stage_exports_reaches_shell_and_built_in_stages_after_it() {
    let files =
        [("05-app-env.sh", "export A=1 PORTAL_CONFIG='x|y'"), ("30-after.sh", "export SEEN=$A-$GOOD-$PORTAL_CONFIG")];
    let booted = boot(&files, &[GOOD]);
    assert_eq!(booted.env.get("SEEN"), Some("1-1-x|y"));
}

#[test]
fn functions_options_and_directories_of_a_stage_end_with_it() {
    let files = [
        (
            "10-hostile.sh",
            "set -euf; cd /tmp; umask 077; shopt -s extglob; echo() { :; }; readonly -f echo; export PATH; exit 3",
        ),
        ("20-after.sh", "export AFTER=\"$(pwd) $(umask) $-\" TYPE=$(type -t echo)"),
    ];
    let booted = boot(&files, &[]);
    let after = booted.env.get("AFTER").unwrap();
    assert_eq!(after, format!("{} 0002 hBc", booted.path.canonicalize().unwrap().display()));
    assert_eq!(booted.env.get("TYPE"), Some("builtin"));
}

#[test]
fn a_masked_stage_is_recorded_and_not_run() {
    let root = tempfile::tempdir().unwrap();
    let entry = Entry::new(GOOD.name, Source::File("/etc/vast_boot.d/20-good.sh".into()), Why::Masked);
    let cancel = Cancel::new();
    let runner = SystemRunner::new(cancel.clone(), Arc::new(Heard::default()));
    let at = Root::new(root.path());
    let mut boot = Boot::new(at.clone(), Environment::new(), &runner, cancel, Arc::new(Heard::default()));
    let plan = Plan { stages: vec![entry], ignored: Vec::new() };
    let mut journal = Journal::start(&at, "1", true);
    run(&mut boot, &plan, &[GOOD], &Selection::default(), &mut journal);
    assert_eq!(journal.record().stages[0].outcome, Outcome::Masked);
    assert_eq!(boot.env.get("GOOD"), None);
}

#[test]
fn the_selection_decides_what_runs() {
    for (only, skip, expected) in [
        (&["20"][..], &[][..], &["20-good.sh"][..]),
        (&[], &["10-panics"], &["12-gives-up.sh", "20-good.sh"]),
        (&["12", "20-good.sh"], &["12"], &["20-good.sh"]),
    ] {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection { only: owned(only), skip: owned(skip) };
        let booted = boot_with(&[], &[PANICS, GIVES_UP, GOOD], &[], |_| selection);
        let ran: Vec<_> = booted.outcomes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(ran, expected);
    }
}

#[test]
fn a_stop_ends_the_running_stage_and_the_sequence() {
    let booted =
        boot_with(&[("10-long.sh", "export X=1; sleep 600"), ("20-never.sh", "export NEVER=1")], &[], &[], |boot| {
            let (cancel, path) = (boot.cancel.clone(), boot.root.join("/run/vast/boot.json"));
            std::thread::spawn(move || {
                while !fs::read_to_string(&path).is_ok_and(|text| text.contains("10-long")) {
                    std::thread::yield_now();
                }
                cancel.fire(rustix::process::Signal::TERM);
            });
            Selection::default()
        });
    assert_eq!(booted.code, STOPPED);
    assert_eq!(booted.outcomes(), [("10-long.sh", Outcome::Cancelled)]);
}

#[test]
fn work_that_cannot_be_interrupted_is_let_go_on_a_stop_and_its_panic_is_recorded() {
    const STUCK: BuiltIn = BuiltIn {
        name: "10-stuck.sh",
        run: |boot| {
            boot.cancel.fire(rustix::process::Signal::TERM);
            boot.interruptible(|| std::thread::sleep(Duration::from_hours(1)))?;
            Ok(Verdict::done())
        },
    };
    const PANICS_INSIDE: BuiltIn = BuiltIn {
        name: "05-panics-inside.sh",
        run: |boot| boot.interruptible(|| panic!("inside")).map(|()| Verdict::done()),
    };
    let booted = boot(&[], &[PANICS_INSIDE, STUCK]);
    assert_eq!(booted.outcomes(), [("05-panics-inside.sh", Outcome::Panicked), ("10-stuck.sh", Outcome::Cancelled)]);
    assert_eq!(booted.code, STOPPED);
}

#[test]
fn a_stage_beyond_the_users_limit_is_recorded_and_passed() {
    let files = [("10-long.sh", "sleep 600"), ("20-next.sh", "export NEXT=1")];
    let booted = boot_with(&files, &[], &[("VAST_BOOT_STAGE_TIMEOUT", "0.2")], |_| Selection::default());
    assert_eq!(booted.outcomes(), [("10-long.sh", Outcome::TimedOut), ("20-next.sh", Outcome::Done)]);
    boot_with(&[], &[], &[], |boot| {
        assert_eq!(boot.stage_limit().unwrap(), None, "there is no limit by default");
        Selection::default()
    });
    let booted = boot_with(&files[1..], &[], &[("VAST_BOOT_STAGE_TIMEOUT", "soon")], |_| Selection::default());
    assert!(booted.message("20-next.sh").contains("VAST_BOOT_STAGE_TIMEOUT"));
    assert_eq!(booted.env.get("NEXT"), Some("1"));
}

#[test]
fn secrets_are_in_no_message() {
    const TELLS: BuiltIn = BuiltIn {
        name: "10-tells.sh",
        run: |boot| {
            boot.say(&format!("token {}", boot.env.get("HF_TOKEN").unwrap()));
            panic!("with {}", boot.env.get("HF_TOKEN").unwrap())
        },
    };
    let booted = boot_with(&[], &[TELLS], &[("HF_TOKEN", "hf_secret")], |_| Selection::default());
    let record = fs::read_to_string(booted.path.join("var/log/vast_boot.jsonl")).unwrap();
    for text in booted.said.iter().chain([&record]) {
        assert!(!text.contains("hf_secret"), "{text}");
    }
    assert_eq!(booted.message("10-tells.sh"), "with ***");
}

#[test]
fn a_supervisor_of_a_replaced_stage_is_waited_for() {
    let marker = "marker";
    let files = [
        ("65-supervisor-launch.sh", "(sleep 0.3; touch marker) & supervisord_pid=$!"),
        ("70-after.sh", "export SEEN=$supervisord_pid"),
    ];
    let booted = boot(&files, &[]);
    assert!(booted.path.join(marker).exists(), "the sequence ended before Supervisor did");
    assert!(booted.env.get("SEEN").unwrap().parse::<u32>().is_ok());
    assert_eq!(booted.code, 0);
}
