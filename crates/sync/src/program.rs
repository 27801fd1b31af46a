//! Running a program to see whether it works.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What runs programs. Tests look at what is run, or answer themselves.
pub trait Programs: Sync {
    /// Runs a program to its end, without input.
    ///
    /// # Errors
    /// Why it does not work, as the end of a sentence.
    fn works(&self, program: &Path, arguments: &[&str]) -> Result<(), String>;
}

/// Runs programs for real.
#[derive(Debug, Clone, Copy)]
pub struct SystemPrograms {
    /// How long one may take. The first start of an interpreter on a slow volume takes many seconds.
    pub limit: Duration,
}

impl Default for SystemPrograms {
    fn default() -> Self {
        Self { limit: Duration::from_mins(2) }
    }
}

impl Programs for SystemPrograms {
    fn works(&self, program: &Path, arguments: &[&str]) -> Result<(), String> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`{}` does not start: {error}", program.display()))?;
        let stderr = child.stderr.take();
        // Read beside the wait: a program that says more than a pipe holds would wait for its reader.
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut said));
            String::from_utf8_lossy(&said).into_owned()
        });
        if !ends_within(&child, self.limit) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("`{}` did not end within {} s", program.display(), self.limit.as_secs()));
        }
        let status = child.wait().map_err(|error| format!("`{}` is lost: {error}", program.display()))?;
        if status.success() {
            return Ok(());
        }
        let said = said.join().unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim()));
        Err(format!("`{}` ended with {status}{}", program.display(), last.unwrap_or_default()))
    }
}

fn ends_within(child: &Child, limit: Duration) -> bool {
    let Ok(descriptor) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        // A kernel or a sandbox without them: wait without a limit rather than not at all.
        return true;
    };
    let limit = Timespec::try_from(limit).ok();
    loop {
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], limit.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_or_says_why_not() {
        let programs = SystemPrograms::default();
        let shell = Path::new("/bin/sh");
        assert_eq!(programs.works(shell, &["-c", "exit 0"]), Ok(()));
        let failed = programs.works(shell, &["-c", "echo first >&2; echo no module >&2; exit 3"]).unwrap_err();
        assert_eq!(failed, "`/bin/sh` ended with exit status: 3: no module");
        assert!(programs.works(Path::new("/nonexistent"), &[]).unwrap_err().contains("does not start"));
        let slow = SystemPrograms { limit: Duration::from_millis(1) };
        assert_eq!(
            slow.works(shell, &["-c", "read _ < /dev/zero; sleep 100"]).unwrap_err(),
            "`/bin/sh` did not end within 0 s"
        );
    }
}
