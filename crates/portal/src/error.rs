//! The crate's one error type.

use std::io;
use std::path::PathBuf;

/// What can go wrong around the portal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried, such as `read` or `publish`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that holds a secret is not usable.
    #[error("the secret in `{}` is not usable: {reason}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The root directory's name cannot be written into a Caddyfile.
    #[error("the path `{}` cannot be written into a Caddyfile", .0.display())]
    UnquotablePath(PathBuf),
    /// Caddy could not be started.
    #[error("cannot run `{}`: {source}", program.display())]
    CaddyNotRun {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Caddy refused the configuration; the one in place was kept.
    #[error("Caddy refuses the new configuration, `{}` is kept as it was: {said}", path.display())]
    CaddyRefused {
        /// The Caddyfile that was to be replaced.
        path: PathBuf,
        /// What Caddy said, its last lines.
        said: String,
    },
    /// The portal's configuration could not be resolved or written.
    #[error("cannot settle the portal's applications: {0}")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Supervisor did not answer.
    #[error("Supervisor does not answer on `{}`: {source}", socket.display())]
    SupervisorUnreachable {
        /// Its socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Supervisor answered with a fault.
    #[error("Supervisor refuses `{method}`: {fault} (code {code})")]
    SupervisorFault {
        /// The method called.
        method: String,
        /// Supervisor's fault code; 10 is an unknown name, 60 already started, 70 not running.
        code: i64,
        /// Supervisor's words.
        fault: String,
    },
    /// Supervisor's answer is not what the protocol promises.
    #[error("Supervisor's answer to `{method}` is not understood: {reason}")]
    SupervisorAnswer {
        /// The method called.
        method: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// An address could not be listened on.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The address or socket.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// No random bytes from the system.
    #[error("the system gives no random bytes: {0}")]
    Random(#[source] getrandom::Error),
}

impl Error {
    /// A file error, shaped for `map_err`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Secret { path, .. } => {
                Some(format!("remove `{}`; a new secret is made at the next start", path.display()))
            }
            Self::CaddyNotRun { .. } => Some("install Caddy, or name it with `--caddy`".to_owned()),
            Self::CaddyRefused { .. } => Some("run `vast-portal caddy --dry-run` to see the configuration".to_owned()),
            Self::SupervisorUnreachable { .. } => {
                Some("is supervisord running? `/etc/supervisor/supervisord.conf` names its socket".to_owned())
            }
            Self::Listen { .. } => {
                Some("another portal may be running: `supervisorctl status instance_portal`".to_owned())
            }
            _ => None,
        }
    }
}
