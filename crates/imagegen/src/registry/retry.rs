//! When a failed request is made again, and after how long.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

/// How often and after which pauses a request is repeated that met 429, 5xx or a broken connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is made at most, the first time included.
    pub attempts: u32,
    /// How often a connection is tried that never came about: a wrong name or a stopped registry seldom mends itself.
    pub connect_attempts: u32,
    /// The pause after the first failure; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause that is chosen here.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is obeyed; a registry that asks for more is not waited for.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            connect_attempts: 3,
            first_pause: Duration::from_millis(300),
            longest_pause: Duration::from_secs(20),
            longest_retry_after: Duration::from_mins(2),
        }
    }
}

impl RetryPolicy {
    /// The policy with `attempts` in all, connections included.
    #[must_use]
    pub fn with_attempts(self, attempts: u32) -> Self {
        let attempts = attempts.max(1);
        Self { attempts, connect_attempts: self.connect_attempts.min(attempts), ..self }
    }

    /// The pause before the next attempt, when `failed` attempts have failed; `None` when it is not worth one.
    ///
    /// `jitter` is from 0 to 1: it spreads clients that failed together over the second half of the pause, or over one
    /// first pause after what the registry asked for.
    #[must_use]
    pub fn pause(&self, failed: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let jitter = jitter.clamp(0.0, 1.0);
        match retry_after {
            Some(asked) if asked > self.longest_retry_after => None,
            Some(asked) => Some(asked + self.first_pause.mul_f64(jitter)),
            None => {
                let doublings = failed.saturating_sub(1).min(16);
                let pause = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
                Some(pause.mul_f64(0.5 + jitter / 2.0))
            }
        }
    }
}

/// Time and chance, so that tests neither wait nor waver.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// Lets `pause` go by.
    async fn sleep(&self, pause: Duration);

    /// The time, for `Retry-After` dates and for the end of tokens.
    fn now(&self) -> SystemTime;

    /// A number from 0 to 1.
    fn jitter(&self) -> f64;
}

/// The clock on the wall and the kernel's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn jitter(&self) -> f64 {
        // Without random numbers the pauses are merely less spread.
        f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
    }
}

/// The pause that a `Retry-After` header asks for: seconds, or an HTTP date (RFC 9110, 10.2.3). A date in the past is none.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(header).ok()?;
    let seconds = u64::try_from(date.as_second()).ok()?;
    Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy { attempts: 10, ..RetryPolicy::default() };
        let pauses: Vec<u128> = (1..10).filter_map(|n| policy.pause(n, None, 1.0)).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [300, 600, 1200, 2400, 4800, 9600, 19200, 20000, 20000]);
        assert_eq!(policy.pause(10, None, 1.0), None);
        assert_eq!(policy.pause(1, None, 0.0), Some(Duration::from_millis(150)));
    }

    #[test]
    fn the_registrys_own_pause_is_obeyed_within_reason() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7)), 0.0), Some(Duration::from_secs(7)));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7)), 1.0), Some(Duration::from_millis(7300)));
        assert_eq!(policy.pause(1, Some(Duration::from_hours(1)), 0.0), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        for (header, seconds) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(header, now).map(|pause| pause.as_secs()), seconds, "{header}");
        }
    }
}
