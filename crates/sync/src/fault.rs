//! Points where a test kills or stops the process, or has a system call refused or delayed.
//!
//! Crash safety is a claim about what is on the disk between two system calls, so it is proved by dying there. The calls
//! that decide what others see (staging, publishing, sweeping, locking, flushing) go through [`call`]. Without the feature
//! `fault-points` it is the call and nothing else; only the tests of the binaries turn the feature on, as a
//! development dependency, and cargo leaves that out of every build that is not a test.

#[cfg(not(feature = "fault-points"))]
use rustix::io::Errno;

/// Makes a system call that a test can interfere with. `point` names it: `publish.rename`.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub(crate) fn call<T>(_point: &'static str, system_call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    system_call()
}

#[cfg(feature = "fault-points")]
pub(crate) use armed::call;

#[cfg(feature = "fault-points")]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    use crate::env_vars::{VAST_SYNC_FAULT, VAST_SYNC_FAULT_LOG};

    #[derive(Debug, PartialEq)]
    enum Action {
        KillBefore,
        KillAfter,
        StopBefore,
        Fail(Errno),
        Delay(Duration),
    }

    #[derive(Debug, PartialEq)]
    struct Fault {
        action: Action,
        /// The point's name; `*` means any.
        point: String,
        /// At which of its calls, counted from one; absent means at each.
        nth: Option<u64>,
    }

    struct Armed {
        faults: Vec<(Fault, AtomicU64)>,
        log: Option<String>,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Reads `kill-before:publish.rename,kill-after:*@17,fail:lock.flock=37`; what it does not know it leaves out.
    fn parse(text: &str) -> Vec<Fault> {
        let one = |text: &str| -> Option<Fault> {
            let (verb, rest) = text.split_once(':')?;
            let (rest, action) = match verb {
                "kill-before" => (rest, Action::KillBefore),
                "kill-after" => (rest, Action::KillAfter),
                "stop-before" => (rest, Action::StopBefore),
                "delay" => {
                    let (rest, ms) = rest.split_once('=')?;
                    (rest, Action::Delay(Duration::from_millis(ms.parse().ok()?)))
                }
                "fail" => {
                    let (rest, errno) = rest.split_once('=')?;
                    (rest, Action::Fail(Errno::from_raw_os_error(errno.parse().ok()?)))
                }
                _ => return None,
            };
            let (point, nth) = match rest.split_once('@') {
                Some((point, nth)) => (point, Some(nth.parse().ok()?)),
                None => (rest, None),
            };
            Some(Fault { action, point: point.to_owned(), nth })
        };
        text.split(',').filter_map(one).collect()
    }

    fn armed() -> &'static Armed {
        ARMED.get_or_init(|| Armed {
            faults: parse(&std::env::var(VAST_SYNC_FAULT).unwrap_or_default())
                .into_iter()
                .map(|fault| (fault, AtomicU64::new(0)))
                .collect(),
            log: std::env::var(VAST_SYNC_FAULT_LOG).ok(),
        })
    }

    /// Neither signal can be caught: nothing is flushed, closed or unwound, as in a real death or a frozen machine.
    fn signal(signal: Signal) {
        let _ = kill_process(getpid(), signal);
    }

    pub(crate) fn call<T>(point: &'static str, system_call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let armed = armed();
        if let Some(log) = &armed.log
            && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(log)
        {
            // In one write: threads share the file.
            let _ = file.write_all(format!("{point}\n").as_bytes());
        }
        let (mut kill_after, mut refused) = (false, None);
        for (fault, calls) in &armed.faults {
            if fault.point != "*" && fault.point != point {
                continue;
            }
            let now = calls.fetch_add(1, Ordering::Relaxed) + 1;
            if fault.nth.is_some_and(|nth| nth != now) {
                continue;
            }
            match fault.action {
                Action::KillBefore => signal(Signal::KILL),
                Action::StopBefore => signal(Signal::STOP),
                Action::KillAfter => kill_after = true,
                Action::Fail(errno) => refused = Some(errno),
                Action::Delay(time) => std::thread::sleep(time),
            }
        }
        let result = refused.map_or_else(system_call, Err);
        if kill_after {
            signal(Signal::KILL);
        }
        result
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_list_of_faults_is_read() {
            let fault = |action, point: &str, nth| Fault { action, point: point.to_owned(), nth };
            assert_eq!(
                parse("kill-before:publish.rename,kill-after:*@17,fail:lock.flock=37,delay:*=2,nonsense,fail:x=y"),
                [
                    fault(Action::KillBefore, "publish.rename", None),
                    fault(Action::KillAfter, "*", Some(17)),
                    fault(Action::Fail(Errno::NOLCK), "lock.flock", None),
                    fault(Action::Delay(Duration::from_millis(2)), "*", None),
                ]
            );
        }
    }
}
