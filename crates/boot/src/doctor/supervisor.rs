//! Supervisor: whether it answers, and which of its programs do not run as they should.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::civil::DateTime;

use super::{Area, Finding, Look, Severity, quoted};
use crate::supervisor::states::{self, State};
use crate::supervisor::{CONFIG, SOCKET};

/// Supervisor's own log.
const LOG: &str = "/var/log/supervisord.log";

/// What is read of it.
const LOG_BYTES: u64 = 64 * 1024;

/// Under the guide's template (`autorestart`, `startsecs=0`) a program that ends at once never becomes `FATAL`: it is started again
/// for ever. This many unexpected ends within [`CRASH_WINDOW_S`] give it away.
const CRASHES: usize = 3;

/// See [`CRASHES`], in seconds.
const CRASH_WINDOW_S: i64 = 600;

/// Lines of a log that tell why.
const EVIDENCE_LINES: usize = 5;

/// What is known of Supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its programs, or why it says nothing.
    pub programs: Result<Vec<Program>, Silence>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { programs: Ok(Vec::new()) }
    }
}

/// Why Supervisor says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// There is no socket.
    NoSocket,
    /// Who asks may not ask.
    Forbidden,
    /// The socket is there, and nobody answers; with the last lines of Supervisor's log.
    NoAnswer(String, Vec<String>),
}

/// A program under Supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What Supervisor says of it.
    pub state: State,
    /// How it ended lately although it should not have, by Supervisor's log: `exit status 1`.
    pub crashes: Vec<String>,
    /// The log that tells most, by its path in the instance.
    pub log: Option<PathBuf>,
    /// Its last lines.
    pub last_lines: Vec<String>,
}

impl Facts {
    /// A program by its name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.as_ref().ok()?.iter().find(|program| program.state.name == name)
    }

    pub(super) fn summary(&self) -> String {
        match &self.programs {
            Ok(programs) => {
                let running = programs.iter().filter(|program| program.state.state == "RUNNING").count();
                format!("{running} of {} programs running", programs.len())
            }
            Err(_) => "silent".to_owned(),
        }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let socket = look.root.join(SOCKET);
    let log = look.root.join(LOG);
    let programs = match states::ask(&socket, look.patience) {
        Ok(states) => {
            let mut crashes = crashes(look, &quoted::tail(&log, LOG_BYTES).map(|tail| tail.text).unwrap_or_default());
            let program = |state: State| {
                let crashes = crashes.remove(own_name(&state)).unwrap_or_default();
                let (log, last_lines) = last_lines(look, &state).unzip();
                Program { state, crashes, log, last_lines: last_lines.unwrap_or_default() }
            };
            Ok(states.into_iter().map(program).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Silence::NoSocket),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Silence::Forbidden),
        Err(error) => {
            Err(Silence::NoAnswer(error.to_string(), quoted::last_lines(&log, EVIDENCE_LINES, look.redactor)))
        }
    };
    Facts { programs }
}

/// The program's name without its group's.
fn own_name(state: &State) -> &str {
    state.name.rsplit(':').next().unwrap_or_default()
}

/// From the first log that says anything: what `logging.sh` writes, else what Supervisor itself does.
fn last_lines(look: &Look<'_>, state: &State) -> Option<(PathBuf, Vec<String>)> {
    // A program's name becomes a file name; one with a slash would leave the directory.
    let name = own_name(state).replace('/', "_");
    let ours = ["/var/log/portal", "/var/log"].map(|folder| PathBuf::from(format!("{folder}/{name}.log")));
    ours.into_iter().chain(state.log.clone()).find_map(|log| {
        let lines = quoted::last_lines(&look.root.join(&log), EVIDENCE_LINES, look.redactor);
        (!lines.is_empty()).then_some((log, lines))
    })
}

/// How programs ended lately, by lines such as
/// `2026-01-02 03:04:05,678 WARN exited: app (exit status 1; not expected)`.
fn crashes(look: &Look<'_>, log: &str) -> BTreeMap<String, Vec<String>> {
    let mut crashes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines() {
        let Some((head, rest)) = line.split_once(" exited: ") else { continue };
        let Some((name, how)) = rest.split_once(" (") else { continue };
        let Some(how) = how.strip_suffix("; not expected)") else { continue };
        let time = head.get(..19).and_then(|time| time.parse::<DateTime>().ok());
        let Some(at) = time.and_then(|time| look.time_zone.to_timestamp(time).ok()) else { continue };
        if look.now.duration_since(at).as_secs() <= CRASH_WINDOW_S {
            crashes.entry(name.to_owned()).or_default().push(how.to_owned());
        }
    }
    crashes
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    match &all.supervisor.programs {
        Err(silence) => vec![silent(all, silence)],
        Ok(programs) => programs.iter().filter_map(|program| judge(all, program)).collect(),
    }
}

fn silent(all: &super::Facts, silence: &Silence) -> Finding {
    let tell = |severity, what: &str, remedy: String| Finding::new(Area::Supervisor, severity, what, remedy);
    match silence {
        Silence::Forbidden => {
            tell(Severity::Unknown, "only root may ask Supervisor", "run `sudo vast-boot doctor`".to_owned())
        }
        Silence::NoSocket if all.boot.is_under_way() => {
            tell(Severity::Note, "Supervisor is not started yet", "wait for the boot: `vast-boot status`".to_owned())
        }
        Silence::NoSocket => {
            let what = "Supervisor does not run, or has no socket";
            tell(
                Severity::Problem,
                what,
                format!(
                    "check its [unix_http_server] and start it: `supervisord -c {CONFIG}`, or restart the instance"
                ),
            )
        }
        Silence::NoAnswer(reason, log) => {
            let what = "Supervisor does not answer on its socket";
            let remedy = format!(
                "see {LOG}; `pgrep -a supervisord` shows whether it runs; if not, `supervisord -c {CONFIG}`, or restart the instance"
            );
            tell(Severity::Problem, what, remedy).because([reason.clone()]).because(log.clone())
        }
    }
}

fn judge(all: &super::Facts, program: &Program) -> Option<Finding> {
    let State { name, state, description, exit_status, .. } = &program.state;
    let restart = match &program.log {
        Some(log) => format!("mend what {} says, then `supervisorctl restart {name}`", log.display()),
        None => format!(
            "mend its file in /etc/supervisor/conf.d, then `supervisorctl update` and `supervisorctl restart {name}`"
        ),
    };
    let (what, evidence) = match state.as_str() {
        "FATAL" => (format!("{name} cannot be started (FATAL)"), vec![description.clone()]),
        "BACKOFF" => (format!("{name} ends as soon as it is started (BACKOFF)"), vec![description.clone()]),
        _ if program.crashes.len() >= CRASHES => {
            let (count, last) = (program.crashes.len(), program.crashes.last().map_or("", String::as_str));
            let what = format!(
                "{name} ends again and again: {count} times in {} minutes, last with {last}",
                CRASH_WINDOW_S / 60
            );
            (what, Vec::new())
        }
        "EXITED" if *exit_status != 0 => (format!("{name} ended with exit status {exit_status}"), Vec::new()),
        "STOPPED" if ["caddy", "instance_portal"].contains(&name.as_str()) && !all.ports.is_empty() => {
            let what = format!("{name} is stopped, so the applications cannot be reached from outside");
            let remedy = format!("`supervisorctl start {name}`");
            return Some(
                Finding::new(Area::Supervisor, Severity::Problem, what, remedy).because([description.clone()]),
            );
        }
        _ => return None,
    };
    let finding = Finding::new(Area::Supervisor, Severity::Problem, what, restart);
    Some(finding.because(evidence).because(program.last_lines.clone()))
}
