//! Limits guessing: after some wrong offers a client waits, each time twice as long.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Wrong offers that cost nothing: a person mistypes, a page sends several requests with a stale token.
const FREE: u32 = 10;
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// A client that was quiet for so long starts anew.
const FORGET: Duration = Duration::from_mins(15);
/// Clients remembered at most; beyond, the oldest goes. About 400 kB.
const CLIENTS: usize = 4096;

/// Counts wrong offers per client: an IPv4 address, or an IPv6 /64, which is what one customer is given.
#[derive(Debug, Default)]
pub struct Limiter {
    clients: Mutex<HashMap<Option<IpAddr>, Client>>,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    wrong: u32,
    last: SystemTime,
}

impl Client {
    fn wait(&self) -> Duration {
        match self.wrong.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1 << beyond.min(9)).min(LONGEST),
        }
    }
}

impl Limiter {
    /// How long this client still has to wait, if it has to.
    #[must_use]
    pub fn locked(&self, client: Option<IpAddr>, now: SystemTime) -> Option<Duration> {
        let clients = self.lock();
        let client = clients.get(&group(client))?;
        let passed = now.duration_since(client.last).unwrap_or_default();
        client.wait().checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// Counts one wrong offer.
    pub fn count_wrong(&self, client: Option<IpAddr>, now: SystemTime) {
        let mut clients = self.lock();
        if clients.len() >= CLIENTS {
            let recent = |client: &Client| now.duration_since(client.last).unwrap_or_default() < FORGET;
            clients.retain(|_, client| recent(client));
            if clients.len() >= CLIENTS
                && let Some(oldest) = clients.iter().min_by_key(|(_, client)| client.last).map(|(address, _)| *address)
            {
                clients.remove(&oldest);
            }
        }
        let entry = clients.entry(group(client)).or_insert(Client { wrong: 0, last: now });
        if now.duration_since(entry.last).unwrap_or_default() >= FORGET {
            entry.wrong = 0;
        }
        entry.wrong = entry.wrong.saturating_add(1);
        entry.last = now;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn group(client: Option<IpAddr>) -> Option<IpAddr> {
    client.map(|address| match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn waits_begin_after_the_free_offers_and_double() {
        let limiter = Limiter::default();
        let client = Some(address("192.0.2.1"));
        let mut now = 0;
        for _ in 1..FREE {
            limiter.count_wrong(client, at(now));
        }
        assert_eq!(limiter.locked(client, at(now)), None);
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            limiter.count_wrong(client, at(now));
            assert_eq!(limiter.locked(client, at(now)), Some(Duration::from_secs(wait)));
            assert_eq!(limiter.locked(Some(address("192.0.2.2")), at(now)), None);
            now += wait;
            assert_eq!(limiter.locked(client, at(now)), None);
        }
        limiter.count_wrong(client, at(now + FORGET.as_secs()));
        assert_eq!(limiter.locked(client, at(now + FORGET.as_secs())), None);
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let limiter = Limiter::default();
        for n in 0..=FREE {
            limiter.count_wrong(Some(address(&format!("2001:db8::{n}"))), at(0));
        }
        assert!(limiter.locked(Some(address("2001:db8::ffff")), at(0)).is_some());
        assert!(limiter.locked(Some(address("2001:db8:0:1::1")), at(0)).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        for n in 0..u32::try_from(2 * CLIENTS).unwrap() {
            limiter.count_wrong(Some(IpAddr::V4(n.into())), at(u64::from(n)));
        }
        assert!(limiter.lock().len() <= CLIENTS);
    }
}
