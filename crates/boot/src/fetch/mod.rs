//! Scripts that the user names: by URL or path, with an optional checksum.
//!
//! A script runs as root, so what comes back is judged before it is used: its size, its checksum when one was given, and whether it is
//! a web page instead of a script.

mod client;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use client::{Answer, Client, Retry, retry_after};

use crate::redact;

/// A script larger than this is a mistake in the address, or an attempt to fill the disk.
pub const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Why a script could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server refused, or went on failing.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status of the last try.
        status: u16,
    },
    /// The server could not be reached, or the transfer broke off.
    #[error("the transfer failed")]
    Transport {
        /// The failure of the last try.
        source: Box<ureq::Error>,
    },
    /// The address, or one that a redirect led to, is not a complete URL.
    #[error("the address, or one that it leads to, is not a URL that can be fetched")]
    BadAddress,
    /// What came is no HTTP, or broken in the middle.
    #[error("the server's answer is not valid HTTP")]
    NotHttp,
    /// The server's certificate is not one that this system trusts.
    #[error("the server's certificate is not trusted: {reason}")]
    Untrusted {
        /// What is wrong with it.
        reason: String,
    },
    /// A local file could not be read.
    #[error("the file cannot be read")]
    File {
        /// The cause.
        source: io::Error,
    },
    /// There is more than [`LIMIT_BYTES`] of it.
    #[error("it is larger than {LIMIT_BYTES} bytes")]
    TooLarge,
    /// There is nothing of it.
    #[error("it is empty")]
    Empty,
    /// A page, not a script.
    #[error("it is an HTML page, not a script")]
    HtmlPage {
        /// Whether the address is that of a file view on a code host.
        of_code_host: bool,
    },
    /// The checksum in the address is not 64 hexadecimal digits.
    #[error("the checksum after `#sha256=` is not 64 hexadecimal digits")]
    BadChecksum,
    /// The content is not what the checksum promises.
    #[error("its SHA-256 is {actual}, not {expected}")]
    ChecksumMismatch {
        /// What the address promises.
        expected: String,
        /// What the content has.
        actual: String,
    },
    /// A stop was asked for between two tries.
    #[error("stopped by a signal")]
    Cancelled,
}

impl FetchError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::HtmlPage { of_code_host: true } => "use the address of the raw file",
            Self::HtmlPage { of_code_host: false } => {
                "open the address in a private window: it must show the script alone"
            }
            Self::BadAddress | Self::Status { status: 401 | 403 | 404 } => {
                "check the address, and that it needs no login"
            }
            Self::Untrusted { .. } => "check the address and the clock, and that the image has `ca-certificates`",
            Self::ChecksumMismatch { .. } => "the script changed; read it again, then update the checksum",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Where a script is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Behind `http://` or `https://`.
    Url(String),
    /// On this machine, as an absolute path in the container.
    Path(PathBuf),
}

/// A script's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Where it is.
    pub place: Place,
    /// The SHA-256 that its content must have, in lower case.
    pub sha256: Option<String>,
}

impl Location {
    /// Reads the value of `PROVISIONING_SCRIPT` and its kin.
    ///
    /// ```
    /// use vast_boot::fetch::{Location, Place};
    /// let location = Location::parse("/workspace/set-up.sh")?;
    /// assert_eq!(location.place, Place::Path("/workspace/set-up.sh".into()));
    /// assert!(Location::parse("https://example.org/x.sh#sha256=12").is_err());
    /// # Ok::<(), vast_boot::fetch::FetchError>(())
    /// ```
    ///
    /// # Errors
    /// When there is a checksum that is none.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let text = text.trim();
        let (text, sha256) = match text.split_once("#sha256=") {
            None => (text, None),
            Some((text, digest)) => {
                let digest = digest.to_ascii_lowercase();
                if hex::decode(&digest).ok().is_none_or(|bytes| bytes.len() != 32) {
                    return Err(FetchError::BadChecksum);
                }
                (text, Some(digest))
            }
        };
        let place = if is_url(text) {
            Place::Url(text.to_owned())
        } else {
            let path = text.strip_prefix("file://").unwrap_or(text);
            Place::Path(PathBuf::from("/").join(path))
        };
        Ok(Self { place, sha256 })
    }

    /// The address as it may be shown.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Url(url) => redact::url(url),
            Place::Path(path) => path.display().to_string(),
        }
    }

    /// What to say before it is fetched over an unprotected connection.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match &self.place {
            Place::Url(url) if is_plain(url) && self.sha256.is_none() => Some(format!(
                "{} is fetched over plain http: anyone on the way can change it; use https, or add #sha256=<hex>",
                self.shown()
            )),
            _ => None,
        }
    }

    /// What to say of an address without protection that redirects led to, when the first one had it.
    fn warning_of_redirect(&self, addresses: &[String]) -> Option<String> {
        let plain = addresses.iter().find(|address| is_plain(address))?;
        (self.sha256.is_none() && self.warning().is_none()).then(|| {
            format!(
                "{} was redirected to {} over plain http: anyone on the way can change it; add #sha256=<hex>",
                self.shown(),
                redact::url(plain)
            )
        })
    }

    /// Judges the content that came from here.
    ///
    /// # Errors
    /// When it is not what the address promises, or no script.
    pub fn accept(&self, content: &[u8]) -> Result<(), FetchError> {
        if u64::try_from(content.len()).is_ok_and(|size| size > LIMIT_BYTES) {
            return Err(FetchError::TooLarge);
        }
        if let Some(expected) = &self.sha256 {
            let actual = hex::encode(Sha256::digest(content));
            if actual != *expected {
                return Err(FetchError::ChecksumMismatch { expected: expected.clone(), actual });
            }
        }
        if content.trim_ascii().is_empty() {
            return Err(FetchError::Empty);
        }
        if is_html(content) {
            let of_code_host = matches!(&self.place, Place::Url(url) if url.contains("/blob/"));
            return Err(FetchError::HtmlPage { of_code_host });
        }
        Ok(())
    }

    /// The content, judged.
    ///
    /// # Errors
    /// When it cannot be had or is not accepted.
    pub fn fetch(&self, root: &crate::root::Root, client: &Client) -> Result<Fetched, FetchError> {
        let (content, warning) = match &self.place {
            Place::Url(url) => {
                let Answer { content, addresses } = client.get(url)?;
                (content, self.warning_of_redirect(&addresses))
            }
            Place::Path(path) => (read(&root.join(path)).map_err(|source| FetchError::File { source })?, None),
        };
        self.accept(&content)?;
        Ok(Fetched { content, warning })
    }
}

/// A script that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes, as they came.
    pub content: Vec<u8>,
    /// What to say about the way that it came.
    pub warning: Option<String>,
}

/// Reads a file; of an endless one (a device, a pipe) no more than shows that it is too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(LIMIT_BYTES + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

/// Whether the URL is plain `http` to another host.
fn is_plain(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let local = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    scheme.eq_ignore_ascii_case("http") && !local
}

/// Whether the content is plainly a page: a document type or an `html` element where a script has its first line.
fn is_html(content: &[u8]) -> bool {
    let start = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii_start();
    let starts_with = |tag: &[u8]| start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag));
    [&b"<!doctype"[..], b"<html", b"<head", b"<body", b"<!--"].into_iter().any(starts_with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::root::Root;

    #[test]
    fn an_address_is_a_url_or_a_path_with_an_optional_checksum() {
        let digest = "AB".repeat(32);
        for (text, place, sha256) in [
            (" https://h/x.sh ".to_owned(), Place::Url("https://h/x.sh".into()), None),
            (format!("HTTP://h/x#sha256={digest}"), Place::Url("HTTP://h/x".into()), Some(digest.to_lowercase())),
            ("https://h/x#part".to_owned(), Place::Url("https://h/x#part".into()), None),
            ("/a/b.sh".to_owned(), Place::Path("/a/b.sh".into()), None),
            ("file:///a/b.sh".to_owned(), Place::Path("/a/b.sh".into()), None),
            (format!("a.sh#sha256={digest}"), Place::Path("/a.sh".into()), Some(digest.to_lowercase())),
        ] {
            assert_eq!(Location::parse(&text).unwrap(), Location { place, sha256 }, "{text}");
        }
        for text in ["x#sha256=", "x#sha256=zz", &format!("x#sha256={digest}00")] {
            assert!(matches!(Location::parse(text), Err(FetchError::BadChecksum)), "{text}");
        }
    }

    #[test]
    fn only_plain_http_to_another_host_without_a_checksum_is_warned_about() {
        let digest = "ab".repeat(32);
        for (text, warns) in [
            ("http://example.org/x", true),
            ("http://localhost.example.org/x", true),
            ("http://user@10.0.0.1:80/x", true),
            ("http://localhost:8000/x", false),
            ("http://127.0.0.1/x", false),
            ("http://[::1]:8000/x", false),
            ("https://example.org/x", false),
            ("/x", false),
            (&format!("http://example.org/x#sha256={digest}"), false),
        ] {
            assert_eq!(Location::parse(text).unwrap().warning().is_some(), warns, "{text}");
        }
    }

    #[test]
    fn a_redirect_away_from_protection_is_told_without_secrets() {
        let hops = |plain: &str| vec!["https://h/x".to_owned(), plain.to_owned(), "https://h/y".to_owned()];
        let digest = "ab".repeat(32);
        for (first, hop, warns) in [
            ("https://h/x?t=first", "http://other/x?t=second", true),
            ("http://127.0.0.1/x", "http://other/x", true),
            ("https://h/x", "https://other/x", false),
            ("https://h/x", "http://127.0.0.1/x", false),
            ("http://h/x", "http://other/x", false),
            (&format!("https://h/x#sha256={digest}"), "http://other/x", false),
        ] {
            let warning = Location::parse(first).unwrap().warning_of_redirect(&hops(hop));
            assert_eq!(warning.is_some(), warns, "{first} {hop}");
            assert!(!warning.unwrap_or_default().contains("t="), "{first}");
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        let page = Location::parse("https://h/user/repo/blob/main/x.sh").unwrap();
        for content in ["<!DOCTYPE html>", "\u{feff}\n <html lang=en>", "<HEAD>", "<!-- x -->"] {
            let error = page.accept(content.as_bytes()).unwrap_err();
            assert!(error.hint().unwrap().contains("raw"), "{content}");
        }
        assert!(matches!(page.accept(b" \n"), Err(FetchError::Empty)));
        let large = vec![b'#'; usize::try_from(LIMIT_BYTES).unwrap() + 1];
        assert!(matches!(page.accept(&large), Err(FetchError::TooLarge)));
        page.accept(b"#!/bin/sh\necho '<html>'\n").unwrap();
    }

    #[test]
    fn of_an_endless_file_no_more_is_read_than_a_script_may_have() {
        let client = Client::new("", &crate::environment::Environment::new(), Retry::default(), Cancel::new());
        let fetched = Location::parse("/dev/zero").unwrap().fetch(&Root::new("/"), &client);
        assert!(matches!(fetched, Err(FetchError::TooLarge)));
    }

    #[test]
    fn the_checksum_is_that_of_the_content_as_it_came() {
        let digest = hex::encode(Sha256::digest(b"echo\r\n"));
        let location = Location::parse(&format!("/x#sha256={digest}")).unwrap();
        location.accept(b"echo\r\n").unwrap();
        assert!(matches!(location.accept(b"echo\n"), Err(FetchError::ChecksumMismatch { .. })));
    }
}
