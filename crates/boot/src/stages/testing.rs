//! A boot of a fake root for the tests of the stages.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::console::Console;
use crate::error::Error;
use crate::fetch::Retry;
use crate::process::SystemRunner;
use crate::root::Root;
use crate::stage::{Boot, Verdict};

/// A console that remembers.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<String>>);

impl Console for Heard {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn raw(&self, _: &[u8]) {}
}

/// A directory that is booted.
pub(super) struct Fake {
    directory: tempfile::TempDir,
    pub(super) heard: Arc<Heard>,
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self { directory: tempfile::tempdir().unwrap(), heard: Arc::default() };
        for directory in ["etc", "var/log", "root", "run", "workspace"] {
            fs::create_dir_all(fake.path(directory)).unwrap();
        }
        fake
    }

    pub(super) fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// Writes a file and the directories above it.
    pub(super) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn said(&self) -> String {
        self.heard.0.lock().unwrap().join("\n")
    }

    /// Calls `work` with a boot of this root in an environment of these variables.
    pub(super) fn boot<T>(&self, env: &[(&str, &str)], work: impl FnOnce(&mut Boot<'_>) -> T) -> T {
        let cancel = Cancel::new();
        let runner = SystemRunner::new(cancel.clone(), self.heard.clone());
        let mut boot = Boot::new(self.root(), env.iter().copied().collect(), &runner, cancel, self.heard.clone());
        boot.env.set("PATH", std::env::var_os("PATH").unwrap());
        boot.retry = Retry { tries: 2, first_pause: Duration::from_millis(1), ..Retry::default() };
        work(&mut boot)
    }

    /// Runs one stage in an environment of these variables.
    pub(super) fn run(
        &self,
        stage: fn(&mut Boot<'_>) -> Result<Verdict, Error>,
        env: &[(&str, &str)],
    ) -> Result<Verdict, Error> {
        self.boot(env, stage)
    }
}
