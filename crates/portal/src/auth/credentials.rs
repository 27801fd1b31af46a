//! What requests are compared with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use subtle::ConstantTimeEq as _;

use super::cookie::{COOKIE_DAYS, cookie_name, hmac_sha256, issue, verify};
use super::secret::{Generated, key_file, token_file};
use crate::{Error, env_vars};

/// A secret this long cannot be guessed, so guessing at it needs no limit: 24 characters of random hexadecimal digits
/// are 96 bits.
const UNGUESSABLE_LENGTH: usize = 24;

/// The accepted secrets, the user name, and the key that cookies are signed with.
pub struct Credentials {
    key: Vec<u8>,
    user: [u8; 32],
    secrets: Vec<Secret>,
    /// All secrets as one text without ambiguity, for the cookie.
    joined: Vec<u8>,
    cookie_name: String,
}

/// A secret's digest under our key: comparing digests takes the same time whatever was offered, of whatever length.
struct Secret {
    digest: [u8; 32],
    guessable: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("cookie_name", &self.cookie_name).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The credentials of an instance: `WEB_USERNAME`, `WEB_PASSWORD` and `OPEN_BUTTON_TOKEN`, or the kept random token
    /// where neither secret is set.
    ///
    /// # Errors
    /// When a file with a secret of ours cannot be read or made.
    pub fn load(root: &Path, env: &BTreeMap<String, String>) -> Result<Self, Error> {
        let value = |name| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let mut secrets: Vec<String> = [env_vars::WEB_PASSWORD, env_vars::OPEN_BUTTON_TOKEN]
            .into_iter()
            .filter_map(value)
            .map(str::to_owned)
            .collect();
        if secrets.is_empty() {
            secrets.push(Generated::load_or_create(&token_file(root))?.reveal().to_owned());
        }
        let key = Generated::load_or_create(&key_file(root))?;
        let label = value(env_vars::VAST_CONTAINERLABEL).unwrap_or_default();
        let user = value(env_vars::WEB_USERNAME).unwrap_or("vastai");
        Ok(Self::new(key.reveal().as_bytes(), user, &secrets, cookie_name(label)))
    }

    /// Credentials from their parts.
    #[must_use]
    pub fn new(key: &[u8], user: &str, secrets: &[String], cookie_name: String) -> Self {
        let guessable = |secret: &str| {
            let distinct = secret.bytes().collect::<std::collections::BTreeSet<u8>>().len();
            secret.len() < UNGUESSABLE_LENGTH || distinct < 8
        };
        let joined = secrets.iter().flat_map(|s| (s.len() as u64).to_be_bytes().into_iter().chain(s.bytes())).collect();
        Self {
            user: hmac_sha256(key, &[user.as_bytes()]),
            secrets: secrets
                .iter()
                .map(|secret| Secret { digest: hmac_sha256(key, &[secret.as_bytes()]), guessable: guessable(secret) })
                .collect(),
            key: key.to_vec(),
            joined,
            cookie_name,
        }
    }

    /// The cookie's name.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    /// Whether this is one of the secrets; while `limited`, only those that cannot be guessed are compared.
    #[must_use]
    pub fn accepts(&self, offered: &str, limited: bool) -> bool {
        let offered = hmac_sha256(&self.key, &[offered.as_bytes()]);
        let mut accepted = subtle::Choice::from(0);
        for secret in self.secrets.iter().filter(|secret| !(limited && secret.guessable)) {
            accepted |= secret.digest.ct_eq(&offered);
        }
        accepted.into()
    }

    /// Whether these are the user name and one of the secrets.
    pub(super) fn accepts_user(&self, user: &str, password: &str, limited: bool) -> bool {
        let user = self.user.ct_eq(&hmac_sha256(&self.key, &[user.as_bytes()]));
        bool::from(user & subtle::Choice::from(u8::from(self.accepts(password, limited))))
    }

    /// Whether this is a cookie's value that we gave.
    #[must_use]
    pub fn accepts_cookie(&self, value: &str, now: SystemTime) -> bool {
        verify(&self.key, &self.joined, value, now)
    }

    /// The `Set-Cookie` value that lets a browser in for a week.
    #[must_use]
    pub fn set_cookie(&self, secure: bool, now: SystemTime) -> String {
        let value = issue(&self.key, &self.joined, now);
        let (name, age) = (&self.cookie_name, COOKIE_DAYS * 86_400);
        let secure = if secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
    }
}
