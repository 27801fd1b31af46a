//! The cookie: `<expires>.<digest>`, where the digest is keyed.
//!
//! Cookies ignore ports, so every server on the same address receives it, other people's containers included. It holds
//! an HMAC-SHA-256 over its end and the accepted secrets, under a random key that never leaves the instance: nobody can
//! search it for a weak password, it ends on the server too, and a changed password ends it at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How long a cookie is good for, in days.
pub const COOKIE_DAYS: u64 = 7;

/// The cookie's name for an instance's label: `C.123` gives `C.123_auth_token`.
///
/// Characters that could mean something in a cookie, a regular expression or a Caddyfile become `_`; no label gives
/// `instance_auth_token`.
#[must_use]
pub fn cookie_name(label: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    let label: String = label.trim().chars().take(64).map(|c| if plain(c) { c } else { '_' }).collect();
    format!("{}_auth_token", if label.is_empty() { "instance" } else { &label })
}

/// A cookie's value, good until [`COOKIE_DAYS`] after `now`.
pub(super) fn issue(key: &[u8], secrets: &[u8], now: SystemTime) -> String {
    let end = seconds(now + Duration::from_secs(COOKIE_DAYS * 86_400));
    format!("{end}.{}", hex::encode(digest(key, secrets, end)))
}

/// Whether a cookie's value is ours and not over.
pub(super) fn verify(key: &[u8], secrets: &[u8], value: &str, now: SystemTime) -> bool {
    let Some((end, mac)) = value.split_once('.') else { return false };
    let (Ok(end), Ok(mac)) = (end.parse::<u64>(), hex::decode(mac)) else { return false };
    bool::from(digest(key, secrets, end).as_slice().ct_eq(&mac)) && seconds(now) <= end
}

fn digest(key: &[u8], secrets: &[u8], end: u64) -> [u8; 32] {
    hmac_sha256(key, &[b"instance portal cookie 1", &end.to_be_bytes(), secrets])
}

/// HMAC-SHA-256 of the parts, one after the other.
pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length; the error type exists for other constructions.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_days_its_key_and_its_secrets_only() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let value = issue(b"key", b"secrets", now);
        let days = |days| now + Duration::from_secs(days * 86_400);
        assert!(verify(b"key", b"secrets", &value, now));
        assert!(verify(b"key", b"secrets", &value, days(COOKIE_DAYS)));
        assert!(!verify(b"key", b"secrets", &value, days(COOKIE_DAYS + 1)));
        assert!(!verify(b"other", b"secrets", &value, now));
        assert!(!verify(b"key", b"changed", &value, now));
        let (end, mac) = value.split_once('.').unwrap();
        let later = end.parse::<u64>().unwrap() + 1;
        for forged in [format!("{later}.{mac}"), format!("{end}."), mac.to_owned(), format!("{end}.{}", &mac[2..])] {
            assert!(!verify(b"key", b"secrets", &forged, now), "{forged}");
        }
    }

    #[test]
    fn a_name_has_only_harmless_characters() {
        for (label, name) in
            [("C.123", "C.123_auth_token"), ("", "instance_auth_token"), ("a b;c{env.X}\n", "a_b_c_env.X__auth_token")]
        {
            assert_eq!(cookie_name(label), name);
        }
    }
}
