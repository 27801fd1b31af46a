//! The fingerprint: 12 hex digits of a SHA-256.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first 12 hex digits of a SHA-256, in lower case: of an environment, or of one of its components.
///
/// ```
/// use vast_envhash::EnvHash;
///
/// let hash = EnvHash::of(b"");
/// assert_eq!(hash.to_string(), "e3b0c44298fc");
/// assert_eq!("e3b0c44298fc".parse(), Ok(hash));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EnvHash([u8; 6]);

impl EnvHash {
    /// `h12` of the specification: the hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut head = [0; 6];
        head.copy_from_slice(&digest[..6]);
        Self(head)
    }
}

impl fmt::Display for EnvHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an environment hash (12 lower-case hex digits)")]
pub struct InvalidHash(String);

impl FromStr for EnvHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidHash(text.chars().take(40).collect());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut head = [0; 6];
        hex::decode_to_slice(text, &mut head).map_err(|_| invalid())?;
        Ok(Self(head))
    }
}

impl From<EnvHash> for String {
    fn from(hash: EnvHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for EnvHash {
    type Error = InvalidHash;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twelve_lower_case_hex_digits_parse() {
        for bad in ["", "e3b0c44298f", "e3b0c44298fc1", "E3B0C44298FC", "e3b0c44298fg", "e3b0c44298fc\n"] {
            assert!(bad.parse::<EnvHash>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hash_survives_json_as_its_text() {
        let json = serde_json::to_string(&EnvHash::of(b"x")).unwrap();
        assert_eq!(json, format!("\"{}\"", EnvHash::of(b"x")));
        assert_eq!(serde_json::from_str::<EnvHash>(&json).unwrap(), EnvHash::of(b"x"));
        assert!(serde_json::from_str::<EnvHash>("\"nonsense\"").is_err());
    }
}
