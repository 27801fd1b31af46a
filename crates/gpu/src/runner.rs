//! What runs a program: questions to the driver's libraries, and the loader's cache.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::Error;
use crate::version::CudaVersion;

/// What a libcuda says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The newest CUDA version that it supports.
    pub version: CudaVersion,
    /// The file that was asked, as the kernel names what was mapped.
    pub library: PathBuf,
}

/// The programs that the set-up runs. Tests give their own answers.
pub trait Runner {
    /// The CUDA version of a libcuda, by `cuDriverGetVersion`. Why not, otherwise.
    ///
    /// # Errors
    /// Why it did not answer.
    fn driver_version(&self, library: &Path) -> Result<Answer, String>;

    /// Whether `cuInit(0)` succeeds with the libraries of a directory first.
    ///
    /// # Errors
    /// Why it did not.
    fn init_with_compat(&self, directory: &Path) -> Result<(), String>;

    /// Makes the loader's cache of the system under `root`.
    ///
    /// # Errors
    /// [`Error::Run`].
    fn ldconfig(&self, root: &Path) -> Result<(), Error>;
}

/// Asks the driver's libraries in a process of its own, within a time limit: a broken one can hang or crash.
#[derive(Debug, Clone)]
pub struct ChildProcess {
    /// A program that calls [`driver::answer`](crate::driver::answer) with its last two arguments.
    pub program: PathBuf,
    /// Its arguments before these.
    pub arguments: Vec<OsString>,
    /// For one question.
    pub limit: Duration,
}

/// A driver that is there answers in milliseconds; one that wakes its devices needs a few seconds.
const LIMIT: Duration = Duration::from_secs(15);

/// How long a killed process may take to go. One that hangs in the kernel does not, and is left behind.
const GRACE: Duration = Duration::from_secs(1);

/// Nobody says more.
const LONGEST_ANSWER: u64 = 64 * 1024;

impl ChildProcess {
    /// Asks through `vast-gpu`, which stands beside the running binary.
    ///
    /// # Errors
    /// When the running binary's place is unknown.
    pub fn beside_this_program() -> io::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("vast-gpu");
        Ok(Self { program, arguments: vec![crate::driver::SUBCOMMAND.into()], limit: LIMIT })
    }

    fn ask(&self, question: &str, library: &Path, search: Option<&Path>) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(question).arg(library);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(directory) = search {
            command.env("LD_LIBRARY_PATH", directory);
        }
        let mut child = command.spawn().map_err(|error| format!("cannot run `{}`: {error}", self.program.display()))?;
        let said = self.listen(&mut child);
        let code = end(&mut child, said.is_err());
        match (said, code) {
            (Ok(answer), Some(0)) => Ok(answer),
            (Ok(answer), Some(_)) if !answer.is_empty() => Err(answer),
            (Ok(_), _) => Err("the driver's library crashed".to_owned()),
            (Err(reason), _) => Err(reason),
        }
    }

    /// What the child says until it is done, or why it says nothing.
    fn listen(&self, child: &mut Child) -> Result<String, String> {
        let Some(mut output) = child.stdout.take() else { return Err("no output to read".to_owned()) };
        let deadline = Instant::now() + self.limit;
        let mut answer = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(&output, PollFlags::IN)];
            let limit = Timespec::try_from(left).map_err(|error| error.to_string())?;
            match rustix::event::poll(&mut ready, Some(&limit)) {
                Ok(0) => {
                    return Err(format!("the driver's library did not answer within {} s", self.limit.as_secs_f32()));
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
            }
            let mut chunk = [0; 4096];
            match output.read(&mut chunk) {
                Ok(0) => return Ok(String::from_utf8_lossy(&answer).trim().to_owned()),
                Ok(read) if (answer.len() + read) as u64 <= LONGEST_ANSWER => answer.extend_from_slice(&chunk[..read]),
                Ok(_) => return Err("the driver's library talks without end".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The exit code of a child that has closed its output, or is killed; None if it was a signal that ended it, or nothing did.
fn end(child: &mut Child, kill: bool) -> Option<i32> {
    if kill {
        // It may have ended by itself at this moment.
        let _ = child.kill();
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Ok(Some(status)) => return status.code(),
            Err(_) => return None,
        }
    }
    let _ = child.kill();
    None
}

impl Runner for ChildProcess {
    fn driver_version(&self, library: &Path) -> Result<Answer, String> {
        let answer = self.ask(crate::driver::VERSION, library, None)?;
        let (version, library) = answer.split_once(' ').unwrap_or((&answer, ""));
        let version = version.parse().map_err(|error: crate::BadVersion| error.to_string())?;
        Ok(Answer { version, library: library.into() })
    }

    fn init_with_compat(&self, directory: &Path) -> Result<(), String> {
        self.ask(crate::driver::INIT, &directory.join("libcuda.so.1"), Some(directory)).map(|_| ())
    }

    fn ldconfig(&self, root: &Path) -> Result<(), Error> {
        let mut command = Command::new("ldconfig");
        if root != Path::new("/") {
            command.arg("-r").arg(root);
        }
        let failed = |source| Error::Run { program: "ldconfig".to_owned(), source };
        let output = command.stdin(Stdio::null()).output().map_err(failed)?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
        }
    }
}
