//! Runs a program and measures it.

use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// The largest resident set, in bytes. Not less than this program's own at the time of the start, which the
    /// kernel counts in: keep that small.
    pub(crate) peak_resident_bytes: u64,
    /// From start to end.
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
}

/// Runs `command` to its end; an error unless it succeeds.
pub(crate) fn measure(command: &mut Command) -> Result<Measured> {
    let line = process::describe(command);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
    let (status, usage) = wait(child.id()).with_context(|| format!("cannot wait for `{line}`"))?;
    let wall = start.elapsed();
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(Measured {
        // `ru_maxrss` is in KiB on Linux.
        peak_resident_bytes: u64::try_from(usage.ru_maxrss).context("negative memory")? * 1024,
        wall,
        cpu: duration(usage.ru_utime)? + duration(usage.ru_stime)?,
    })
}

fn duration(time: libc::timeval) -> Result<Duration> {
    let seconds = u64::try_from(time.tv_sec).context("negative time")?;
    Ok(Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).context("negative time")?))
}

/// Waits for one child, as `std` does, but asks for its resource usage too.
#[allow(unsafe_code, reason = "neither std nor rustix offers wait4, the one call that tells a single child's usage")]
fn wait(id: u32) -> Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(id).context("process id out of range")?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live values of the right types; the child is ours and has not been waited for.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == pid {
            // SAFETY: `rusage` is plain integers, for which the zeros it began with are valid too.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_a_program_touches_is_in_its_peak() {
        // `dd` fills a buffer of the block's size.
        let dd = |block: &str| {
            let block = format!("bs={block}");
            measure(Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "count=1", "status=none", &block]))
                .unwrap()
        };
        let (small, large) = (dd("4K").peak_resident_bytes, dd("256M").peak_resident_bytes);
        assert!(large >= 256 << 20, "{large}");
        assert!(small < 200 << 20, "{small}");
    }

    #[test]
    fn a_failed_program_is_an_error() {
        let error = measure(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed: exit status: 7");
    }
}
