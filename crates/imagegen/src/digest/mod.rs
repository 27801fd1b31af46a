//! Content digests: `sha256:<64 hex digits>`, the only algorithm that registries must support (OCI image spec, "Digests").

mod pair;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use pair::HashingPair;

/// A SHA-256 digest of a blob. Displayed, parsed and serialized as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Text that is not `sha256:` and 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest of the form sha256:<64 hex digits>")]
pub struct ParseDigestError(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that was stored as its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDigestError(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error());
        }
        let mut raw = [0; 32];
        hex::decode_to_slice(digits, &mut raw).map_err(|_| error())?;
        Ok(Self(raw))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes and counts what passes through it, as a reader or a writer.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The wrapped value, the digest of what passed, and its size in bytes.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest(self.hasher.finalize().into()), self.bytes)
    }

    /// The bytes that have passed so far.
    pub fn passed_bytes(&self) -> u64 {
        self.bytes
    }

    fn note(&mut self, passed: &[u8]) {
        self.hasher.update(passed);
        self.bytes += passed.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.note(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A reader that fails at its end, instead of ending, when what it gave is not what `digest` and `size_bytes` promise.
///
/// Whatever reads a blob through it either got the right bytes or an error: nothing is used unverified.
#[derive(Debug)]
pub struct Verified<R> {
    inner: Option<Hashing<R>>,
    digest: Digest,
    size_bytes: u64,
}

impl<R: Read> Verified<R> {
    /// Reads `inner`, which must hold `size_bytes` bytes of this `digest`.
    pub fn new(inner: R, digest: Digest, size_bytes: u64) -> Self {
        Self { inner: Some(Hashing::new(inner)), digest, size_bytes }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = self.inner.as_mut() else { return Ok(0) };
        let read = inner.read(buffer)?;
        if inner.passed_bytes() > self.size_bytes {
            return Err(mismatch(&self.digest, &format!("it is longer than its {} bytes", self.size_bytes)));
        }
        if read == 0 && !buffer.is_empty() {
            let Some(inner) = self.inner.take() else { return Ok(0) };
            let (_, digest, bytes) = inner.finish();
            if bytes != self.size_bytes {
                return Err(mismatch(&self.digest, &format!("it ended after {bytes} of {} bytes", self.size_bytes)));
            }
            if digest != self.digest {
                return Err(mismatch(&self.digest, &format!("its content has the digest {digest}")));
            }
        }
        Ok(read)
    }
}

fn mismatch(digest: &Digest, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("blob {digest} is not what it claims to be: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_malformed_text_is_refused() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "sha256:", "sha512:00", &digest.hex(), &digest.to_string().to_uppercase()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_verified_reader_fails_on_short_long_and_altered_content() {
        let digest = Digest::of(b"layer");
        for (content, fails) in [(&b"layer"[..], false), (b"laye", true), (b"layers", true), (b"Layer", true)] {
            let mut out = Vec::new();
            let result = Verified::new(content, digest, 5).read_to_end(&mut out);
            assert_eq!(result.is_err(), fails, "{content:?}");
        }
    }
}
