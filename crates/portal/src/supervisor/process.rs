//! A process as Supervisor describes it.

use std::fmt;

use serde::Serialize;

use super::Value;

/// Where a process is in its life: <http://supervisord.org/subprocess.html#process-states>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Stopped on request, or never started.
    Stopped,
    /// Started a moment ago.
    Starting,
    /// Running.
    Running,
    /// Ended too early; will be started again.
    Backoff,
    /// Asked to stop.
    Stopping,
    /// Ended by itself.
    Exited,
    /// Could not be started.
    Fatal,
    /// Supervisor does not know.
    Unknown,
}

impl State {
    fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Stopped,
            10 => Self::Starting,
            20 => Self::Running,
            30 => Self::Backoff,
            40 => Self::Stopping,
            100 => Self::Exited,
            200 => Self::Fatal,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Fatal => "fatal",
            Self::Unknown => "unknown",
        })
    }
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its name: the program's, or `group:name` where the two differ.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Its process id while it runs.
    pub pid: Option<i64>,
    /// For how long it has been running, in seconds.
    pub uptime_s: Option<i64>,
    /// The status that it last ended with.
    pub exit_status: Option<i64>,
    /// Supervisor's own words, such as `pid 42, uptime 0:01:00`.
    pub description: String,
}

impl Process {
    /// Reads one entry of `getAllProcessInfo`.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_text).unwrap_or_default();
        let int = |name| value.get(name).and_then(Value::as_int).unwrap_or_default();
        let (name, group) = (text("name"), text("group"));
        if name.is_empty() {
            return None;
        }
        let state = State::from_code(int("state"));
        let running = matches!(state, State::Running | State::Starting | State::Stopping);
        let error = text("spawnerr");
        Some(Self {
            name: if group.is_empty() || group == name { name.to_owned() } else { format!("{group}:{name}") },
            state,
            pid: Some(int("pid")).filter(|pid| *pid > 0),
            uptime_s: running.then(|| (int("now") - int("start")).max(0)),
            exit_status: (state == State::Exited).then(|| int("exitstatus")),
            description: if error.is_empty() { text("description") } else { error }.to_owned(),
        })
    }
}
