//! Who makes an unpublished copy: one attempt of one process.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use sha2::{Digest, Sha256};

/// An attempt's identity, unique among all instances: `5a1c9e02-4711-88213-9f00ab12`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// Where the process number means something: a digest of the boot and the process namespace.
    scope: String,
    pid: u32,
    /// When the process began, in the kernel's ticks since the boot: a number may be given again, with a later start.
    start: u64,
    /// Tells apart the attempts of one process, and what the rest cannot.
    random: String,
}

/// What is known of an owner from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Dead,
    /// It is of another machine, container or boot.
    Unknown,
}

impl Owner {
    /// A new attempt of this process.
    pub(crate) fn new() -> Self {
        let pid = getpid().as_raw_nonzero().get().unsigned_abs();
        let mut random = [0; 4];
        // Without randomness, the time does: it has to differ among instances, not to be a secret.
        if getrandom::fill(&mut random).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            random = now.subsec_nanos().to_ne_bytes();
        }
        let random = hex::encode(random);
        let scope = own_scope().unwrap_or_else(|| random.clone());
        Self { scope, pid, start: start_of(pid).unwrap_or(0), random }
    }

    /// Whether the process that made this attempt is alive, as far as that can be known from here.
    pub(crate) fn life(&self) -> Life {
        if own_scope().is_none_or(|scope| scope != self.scope) {
            return Life::Unknown;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid.map(test_kill_process) {
            None | Some(Err(Errno::SRCH)) => Life::Dead,
            // It is there: the same one, unless it began at another time.
            Some(_) => match start_of(self.pid) {
                Some(start) if start != self.start => Life::Dead,
                _ => Life::Alive,
            },
        }
    }

    /// The part that no other attempt has.
    pub(crate) fn random(&self) -> &str {
        &self.random
    }
}

/// A process number is unique within one process namespace of one boot.
fn own_scope() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let digest = Sha256::new().chain_update(boot.trim()).chain_update(namespace.as_os_str().as_encoded_bytes());
    Some(hex::encode(&digest.finalize()[..4]))
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    start_in(&stat)
}

/// Field 22 of `/proc/<pid>/stat`. The second is the program's name in parentheses and may contain anything, so fields are
/// counted from the last parenthesis.
fn start_in(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.scope, self.pid, self.start, self.random)
    }
}

/// The text is not an owner's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAnOwner;

impl FromStr for Owner {
    type Err = NotAnOwner;

    fn from_str(text: &str) -> Result<Self, NotAnOwner> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NotAnOwner);
        let is_digest = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (scope, pid, start, random) = (part()?, part()?, part()?, part()?);
        if parts.next().is_some() || !is_digest(scope) || !is_digest(random) {
            return Err(NotAnOwner);
        }
        let pid = pid.parse().map_err(|_| NotAnOwner)?;
        let start = start.parse().map_err(|_| NotAnOwner)?;
        Ok(Self { scope: scope.to_owned(), pid, start, random: random.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_back_and_two_attempts_differ() {
        let owner = Owner::new();
        assert_eq!(owner.to_string().parse(), Ok(owner.clone()));
        assert_ne!(Owner::new(), owner);
        for text in ["", "x", "1-2-3", "5a1c9e02-x-3-9f00ab12", "5a1c9e02-1-3-9f00ab12-5", "5a1c9e02-1-3-zzzzzzzz"] {
            assert_eq!(text.parse::<Owner>(), Err(NotAnOwner), "{text}");
        }
    }

    #[test]
    fn life_is_known_for_this_boot_and_namespace_alone() {
        let me = Owner::new();
        assert_eq!(me.life(), Life::Alive);
        assert_eq!(Owner { start: me.start + 1, ..me.clone() }.life(), Life::Dead, "the number was given again");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(Owner { pid, start: 1, ..me.clone() }.life(), Life::Dead);
        assert_eq!(Owner { scope: "00000000".to_owned(), ..me }.life(), Life::Unknown);
    }

    #[test]
    fn the_start_is_found_behind_any_program_name() {
        let fields = (3..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_in(&format!("4711 (a) b (c)) {fields}")), Some(22));
        assert_eq!(start_in("4711 (short) S 1"), None);
    }
}
