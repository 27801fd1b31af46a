//! A volume that answers late, and fails when the test says so: a FUSE mount that passes everything on to a directory.
//!
//! It stands for a network filesystem. Every operation takes at least as long as [`Options::delay`], as it would over a
//! network, but many are under way at once: a server that took them one by one would measure itself. One of them can
//! [fail](Options::failing), after which the volume works again.
//!
//! ```no_run
//! use std::time::Duration;
//! use vast_testkit::volume::{Options, Volume};
//!
//! let volume = Volume::mount("/tmp/behind".as_ref(), "/tmp/volume".as_ref(), &Options::late(Duration::from_millis(1)));
//! std::fs::write(volume.path().join("file"), "a few milliseconds later").unwrap();
//! assert!(volume.operations() > 2);
//! ```

mod handles;
mod passthrough;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, Errno, MountOption};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use passthrough::Passthrough;

/// How many operations are under way at once, at most.
const AT_ONCE: usize = 64;

/// … when none is held up.
const AT_ONCE_PROMPT: usize = 4;

/// What is wrong with the volume.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long each operation takes at least.
    pub delay: Duration,
    /// Which operation fails, if one does.
    pub failing: Option<Failing>,
}

/// An operation that fails, and every later one if it [lasts](Failing::lasts).
#[derive(Debug, Clone, Copy)]
pub struct Failing {
    /// Which one, counted from one.
    pub nth: u64,
    /// Of which kind, such as `write`; of any if absent.
    pub operation: Option<&'static str>,
    /// With what number, such as 5 for `EIO`.
    pub errno: i32,
    /// Whether all that come after it fail as well.
    pub lasts: bool,
}

impl Options {
    /// A volume that answers late and is otherwise fine.
    #[must_use]
    pub fn late(delay: Duration) -> Self {
        Self { delay, failing: None }
    }

    /// A volume whose `nth` operation fails with that number.
    #[must_use]
    pub fn failing(nth: u64, errno: i32) -> Self {
        Self { delay: Duration::ZERO, failing: Some(Failing { nth, operation: None, errno, lasts: false }) }
    }
}

/// Counts operations, holds them up and fails them.
#[derive(Debug)]
struct Gate {
    options: Options,
    /// How many there were, by kind.
    passed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Gate {
    fn pass(&self, operation: &'static str) -> Result<(), Errno> {
        let (of_all, of_kind) = {
            let mut passed = self.passed();
            *passed.entry(operation).or_default() += 1;
            (passed.values().sum::<u64>(), passed[operation])
        };
        if !self.options.delay.is_zero() {
            std::thread::sleep(self.options.delay);
        }
        let Some(failing) = self.options.failing else { return Ok(()) };
        let at = match failing.operation {
            None => of_all,
            Some(kind) if kind == operation => of_kind,
            Some(_) => return Ok(()),
        };
        if at == failing.nth || (failing.lasts && at > failing.nth) {
            return Err(Errno::from_i32(failing.errno));
        }
        Ok(())
    }

    fn passed(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mounted volume; unmounted when the value is dropped.
#[derive(Debug)]
pub struct Volume {
    at: PathBuf,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

impl Volume {
    /// Mounts what is in `behind` on the directory `at`. Needs `/dev/fuse`, and to be root.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn mount(behind: &Path, at: &Path, options: &Options) -> Self {
        Self::try_mount(behind, at, options).unwrap_or_else(|error| panic!("cannot mount `{}`: {error}", at.display()))
    }

    /// Mounts it, or says why not.
    pub fn try_mount(behind: &Path, at: &Path, options: &Options) -> io::Result<Self> {
        // Each file that the kernel knows is kept open.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        let gate = Arc::new(Gate { options: options.clone(), passed: Mutex::default() });
        let filesystem = Passthrough::new(behind, Arc::clone(&gate))?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("vast-testkit".to_owned()), MountOption::DefaultPermissions];
        config.n_threads = Some(if options.delay.is_zero() { AT_ONCE_PROMPT } else { AT_ONCE });
        config.clone_fd = true;
        let session = fuser::spawn_mount(filesystem, at, &config)?;
        Ok(Self { at: at.to_owned(), gate, session: Some(session) })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.gate.passed().values().sum()
    }

    /// How many there were of a kind, by the kernel's name for it in lower case: `lookup`, `create`, `setattr`.
    #[must_use]
    pub fn operations_of(&self, kind: &str) -> u64 {
        self.gate.passed().get(kind).copied().unwrap_or(0)
    }

    /// Waits until someone else unmounts it.
    pub fn wait(mut self) -> io::Result<()> {
        match self.session.take() {
            Some(session) => session.join(),
            None => Ok(()),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Someone may have unmounted it already.
            let _ = session.umount_and_join();
        }
    }
}
