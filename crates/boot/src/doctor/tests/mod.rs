//! Instances broken in many ways, as facts and as fake roots.

mod archive;
mod defects;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use vast_portal::certificate::Pair;
use vast_portal_config::Application;

use super::ports::Applications;
use super::supervisor::{Program, Silence};
use super::*;
use crate::cancel::Cancel;
use crate::console::Silent;
use crate::environment::Environment;
use crate::journal::{Outcome, Phase, StageRecord};
use crate::process::SystemRunner;
use crate::root::Root;
use crate::supervisor::states::State;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn healthy() -> Facts {
    let application = Application {
        label: "My App".to_owned(),
        host: "localhost".to_owned(),
        internal_port: 17860,
        external_port: 7860,
        path: "/".to_owned(),
        proxied: true,
    };
    let owned = |name: &str| BTreeSet::from([name.to_owned()]);
    let ports = ports::Facts {
        applications: Applications::Listed(vec![application]),
        listening: Some(BTreeMap::from([(17860, owned("python3")), (7860, owned("caddy"))])),
        serverless: false,
    };
    let programs = Ok(vec![program("caddy", "RUNNING"), program("app", "RUNNING")]);
    Facts { ports, supervisor: supervisor::Facts { programs }, ..Facts::healthy(now()) }
}

fn program(name: &str, state: &str) -> Program {
    let state = State {
        name: name.to_owned(),
        state: state.to_owned(),
        description: "pid 7, uptime 0:01:00".to_owned(),
        exit_status: 0,
        uptime_s: 60,
        log: None,
    };
    let log = Some(format!("/var/log/portal/{name}.log").into());
    Program { state, crashes: Vec::new(), log, last_lines: vec!["Traceback: it is broken".to_owned()] }
}

fn stage(name: &str, source: &str, outcome: Outcome, message: Option<&str>) -> StageRecord {
    StageRecord {
        stage: name.to_owned(),
        source: source.to_owned(),
        start: now() - 100.seconds(),
        duration_ms: 5.0,
        outcome,
        message: message.map(str::to_owned),
    }
}

fn with_stage(facts: &mut Facts, stage: StageRecord) {
    let record = facts.boot.record.as_mut().unwrap().as_mut().unwrap();
    if stage.outcome == Outcome::Running {
        record.phase = Phase::Booting;
    }
    record.stages.push(stage);
}

fn with_program(facts: &mut Facts, name: &str, change: impl FnOnce(&mut Program)) {
    let programs = facts.supervisor.programs.as_mut().unwrap();
    change(programs.iter_mut().find(|program| program.state.name == name).unwrap());
}

fn listening(facts: &mut Facts) -> &mut BTreeMap<u16, BTreeSet<String>> {
    facts.ports.listening.as_mut().unwrap()
}

/// A root in which a few files say all that is asked.
struct Fake(tempfile::TempDir);

impl Fake {
    fn new() -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        for directory in ["workspace", "tmp", "run/vast", "var/log/portal", "etc/supervisor/conf.d"] {
            fs::create_dir_all(fake.0.path().join(directory)).unwrap();
        }
        fake
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn look<T>(&self, env: &[(&str, &str)], work: impl FnOnce(&Look<'_>) -> T) -> T {
        let root = Root::new(self.0.path());
        let env: Environment = env.iter().copied().collect();
        let runner = SystemRunner::new(Cancel::new(), Arc::new(Silent));
        work(&Look {
            root: &root,
            env: &env,
            redactor: &redactor(&root, &env, Duration::from_secs(30)),
            runner: &runner,
            vast_gpu: root.join("/vast-gpu"),
            now: now(),
            time_zone: TimeZone::UTC,
            patience: Duration::from_secs(30),
        })
    }
}
