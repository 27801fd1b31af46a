//! Where to look, and with what.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use vast_portal::auth::{key_file, token_file};

use super::quoted;
use crate::environment::{Environment, is_identifier};
use crate::process::Runner;
use crate::redact::Redactor;
use crate::root::Root;
use crate::supervisor::{SOCKET, states};
use crate::{certificate, env_vars, etc_environment};

/// An instance to look at.
pub struct Look<'a> {
    /// Its files. `/proc` and `/sys` below it tell of its processes and limits; without them, less is known.
    pub root: &'a Root,
    /// Its environment; see [`Look::environment`].
    pub env: &'a Environment,
    /// Knows its secrets: see [`redactor`].
    pub redactor: &'a Redactor,
    /// Starts `vast_gpu`.
    pub runner: &'a dyn Runner,
    /// The program that asks the driver, in a process of its own: a broken driver hangs and crashes.
    pub vast_gpu: PathBuf,
    /// Now.
    pub now: Timestamp,
    /// The zone of the times in Supervisor's log.
    pub time_zone: TimeZone,
    /// How long to wait for any one answer: of Supervisor, of a volume, of the driver.
    pub patience: Duration,
}

impl Look<'_> {
    /// The environment of the instance's programs, which a login shell has only in part: what Supervisor was started with, else what
    /// `/etc/environment` says; what `asker` has beyond that stays.
    #[must_use]
    pub fn environment(root: &Root, asker: &Environment, patience: Duration) -> Environment {
        let supervisor = states::pid(&root.join(SOCKET), patience).ok().flatten();
        let started_with = supervisor
            .and_then(|pid| std::fs::read(root.join(format!("/proc/{}/environ", pid.as_raw_pid()))).ok())
            .map(|records| Environment::from_nul_separated(&records));
        let mut env = asker.clone();
        for (name, value) in started_with.unwrap_or_else(|| written(root)).iter() {
            env.set(name, value);
        }
        env
    }

    /// Whether the template asked for TLS: stage 55 sets the variable to `false` when there is no certificate, the file keeps the wish.
    pub(super) fn wants_https(&self) -> bool {
        self.env.is_true(env_vars::ENABLE_HTTPS) || written(self.root).is_true(env_vars::ENABLE_HTTPS)
    }

    /// What `work` finds, unless it takes longer than [`Look::patience`]: a volume whose server is gone never answers.
    pub(super) fn limited<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        limited(self.patience, work)
    }
}

fn limited<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    receiver.recv_timeout(patience).ok()
}

/// The plain assignments of `/etc/environment`, as PAM reads them.
fn written(root: &Root) -> Environment {
    let text = std::fs::read(root.join(etc_environment::PATH)).unwrap_or_default();
    etc_environment::plain(&text)
}

/// Files that hold nothing but secrets, beside the portal's own: the instance's private key, Hugging Face's login.
const SECRET_FILES: [&str; 3] = [certificate::KEY, "/root/.cache/huggingface/token", "/root/.huggingface/token"];

/// More than any of them holds.
const SECRETS_BYTES: u64 = 256 * 1024;

/// Knows the secrets of an instance: those of its environment, of `/etc/environment` and `$WORKSPACE/.env`, and of the files that hold
/// nothing else.
#[must_use]
pub fn redactor(root: &Root, env: &Environment, patience: Duration) -> Redactor {
    let mut redactor = Redactor::new(env);
    redactor.extend(&written(root));
    let hf_home = env.non_empty(env_vars::HF_HOME).map(|home| root.join(home).join("token"));
    let portals = [token_file(root.path()), key_file(root.path())];
    let files: Vec<PathBuf> = SECRET_FILES.iter().map(|file| root.join(file)).chain(portals).chain(hf_home).collect();
    let dotenv = root.join(env.workspace()).join(".env");
    let read = move || {
        let read = |path: &PathBuf| quoted::tail(path, SECRETS_BYTES).map(|tail| tail.text).ok();
        (files.iter().filter_map(read).collect::<Vec<_>>(), read(&dotenv).unwrap_or_default())
    };
    // Some of them are on the volume.
    if let Some((secrets, dotenv)) = limited(patience, read) {
        for secret in &secrets {
            redactor.learn(secret);
        }
        redactor.extend(&assignments(&dotenv));
    }
    redactor
}

fn assignments(text: &str) -> Environment {
    let pairs = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches(['"', '\''])));
    pairs.filter(|(name, _)| is_identifier(name.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        std::fs::create_dir_all(directory.path().join("workspace")).unwrap();
        let root = Root::new(directory.path());
        (directory, root)
    }

    #[test]
    fn without_supervisor_the_file_tells_the_environment_and_the_asker_the_rest() {
        let (_guard, root) = root();
        let text = "# Template controlled environment for C.7\nWORKSPACE=\"/data\"\nENABLE_HTTPS='true'\nODD\n";
        std::fs::write(root.join(etc_environment::PATH), text).unwrap();
        let asker: Environment = [("WORKSPACE", "/other"), ("MINE", "1")].into_iter().collect();
        let env = Look::environment(&root, &asker, Duration::from_secs(1));
        assert_eq!((env.get("WORKSPACE"), env.get("MINE")), (Some("/data"), Some("1")));
        assert!(env.is_true("ENABLE_HTTPS"));
    }

    #[test]
    fn what_never_answers_is_not_waited_for() {
        let (hold, never) = mpsc::channel::<()>();
        assert_eq!(limited(Duration::from_millis(10), move || never.recv().is_ok()), None);
        assert_eq!(limited(Duration::from_secs(30), || 1), Some(1));
        drop(hold);
    }

    #[test]
    fn secrets_are_known_from_files_too() {
        let (_guard, root) = root();
        for (file, text) in [
            ("/etc/vast-portal.token", "portal-token-1\n"),
            (etc_environment::PATH, "A_TOKEN=\"from-etc-env\"\n"),
            ("/workspace/.env", "export B_TOKEN='from-dotenv'\nC_PASSWORD=plain-dotenv\n"),
        ] {
            std::fs::write(root.join(file), text).unwrap();
        }
        let env: Environment = [("D_SECRET", "first line of a secret\nsecond line of a secret")].into_iter().collect();
        let redactor = redactor(&root, &env, Duration::from_secs(30));
        let text = "portal-token-1|from-etc-env|from-dotenv|plain-dotenv|second line of a secret|first line of a secret\\nsecond line of a secret";
        assert_eq!(redactor.scrub(text), "***|***|***|***|***|***");
    }
}
