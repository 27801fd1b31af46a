//! One command of another engine, to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Progress;
use super::runner::{EngineError, Invocation, Runner};
use super::stack::blocking;
use crate::Error;

/// Lines of output that are kept for an error's message.
const KEPT_LINES: usize = 20;

/// How a command ended.
pub(super) struct Outcome<S> {
    pub succeeded: bool,
    /// The last lines that it printed.
    pub lines: Vec<String>,
    /// What was noted of all that it printed.
    pub noted: S,
}

/// Runs a command to its end, whatever that is. `note` sees each line and says whether the user should see it as well.
pub(super) async fn execute<S: Default + Send + 'static>(
    runner: &Arc<dyn Runner>,
    progress: &Arc<dyn Progress>,
    invocation: Invocation,
    note: fn(&mut S, &str) -> bool,
) -> Result<Outcome<S>, Error> {
    let (runner, progress) = (Arc::clone(runner), Arc::clone(progress));
    let program = invocation.program.clone();
    let (ended, mut outcome) = blocking(move || {
        let mut outcome = Outcome { succeeded: false, lines: Vec::new(), noted: S::default() };
        let ended = runner.run(&invocation, &mut |line| {
            if note(&mut outcome.noted, line) {
                progress.output(line);
            }
            if outcome.lines.len() == KEPT_LINES {
                outcome.lines.remove(0);
            }
            outcome.lines.push(line.to_owned());
        });
        (ended, outcome)
    })
    .await?;
    outcome.succeeded = ended.map_err(|source| EngineError::NotStarted { program, source })?;
    Ok(outcome)
}

/// `path` without links and relative parts, as another program in another directory needs it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(file("find", path))
}

/// The error of `action` on `path`.
pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
