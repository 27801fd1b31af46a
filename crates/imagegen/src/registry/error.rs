//! What a registry can answer that is not what was asked for.

use std::fmt;

use oci_client::errors::OciEnvelope;
use reqwest::StatusCode;

use crate::digest::Digest;

/// Why a registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection came about.
    #[error("the registry {host} cannot be reached")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The innermost cause.
        #[source]
        source: Cause,
    },
    /// Connections came about and broke, every time.
    #[error("the connection to {host} was cut, {attempts} times in a row{}", asked_for(asked))]
    Cut {
        /// Host and port.
        host: String,
        /// What it was asked for: method and path.
        asked: String,
        /// How often it was tried.
        attempts: u32,
        /// The innermost cause of the last time.
        #[source]
        source: Cause,
    },
    /// 401 or 403.
    #[error("{host} {}", refusal(*status, asked, user.as_deref(), message))]
    Refused {
        /// Host and port.
        host: String,
        /// 401 or 403.
        status: u16,
        /// What it was asked for: method and path.
        asked: String,
        /// The user whose credentials were sent; none were where it is `None`.
        user: Option<String>,
        /// What the registry said, or why configured credentials could not be used.
        message: String,
    },
    /// The registry does not have it.
    #[error("{host} has no {what}")]
    NotFound {
        /// Host and port.
        host: String,
        /// `tag 2.9 in vastai/pytorch`, `blob sha256:…`, ….
        what: String,
    },
    /// 429 or 5xx, every time.
    #[error("{host} answered {status}, {attempts} times in a row{}{}", said(message), asked_for(asked))]
    Overloaded {
        /// Host and port.
        host: String,
        /// What it was asked for: method and path.
        asked: String,
        /// The last status, with its name.
        status: String,
        /// How often it was tried.
        attempts: u32,
        /// How many seconds the registry asked to wait, where that was longer than is waited.
        retry_after_seconds: Option<u64>,
        /// What the registry said.
        message: String,
    },
    /// Any other answer.
    #[error("{host} answered {status}{}{}", said(message), asked_for(asked))]
    Answer {
        /// Host and port.
        host: String,
        /// What it was asked for: method and path.
        asked: String,
        /// The status, with its name.
        status: String,
        /// What the registry said.
        message: String,
    },
    /// The registry sent something else than what was asked for.
    #[error("{host} sent {what} with the digest {actual} where {expected} was asked for")]
    Digest {
        /// Host and port.
        host: String,
        /// `a manifest`, ….
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The registry broke the protocol.
    #[error("{host} sent {what}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What it sent.
        what: String,
    },
    /// Credentials would have gone out readable by everyone on the way.
    #[error("the token service `{realm}` of {host} is not encrypted, so no credentials are sent to it")]
    PlainTokenService {
        /// Host and port.
        host: String,
        /// The token service's address.
        realm: String,
    },
    /// The HTTP client cannot be made, for example for lack of certificates.
    #[error("cannot prepare HTTPS connections")]
    Client(#[source] Cause),
}

impl RegistryError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.is_plain_http() => {
                Some("the registry seems to speak plain HTTP: allow it with --insecure".to_owned())
            }
            Self::Unreachable { host, .. } => Some(format!("check the name, and that a registry runs at {host}")),
            Self::Refused { host, user: None, .. } => {
                Some(format!("check the image's name, or log in with `docker login {host}`"))
            }
            Self::Refused { host, status: 401, .. } => Some(format!("log in again with `docker login {host}`")),
            Self::Refused { .. } => Some("the account needs the right to do this".to_owned()),
            Self::NotFound { .. } => Some("check the spelling of the repository and the tag".to_owned()),
            Self::Overloaded { retry_after_seconds: Some(seconds), .. } => {
                Some(format!("the registry asks to come back in {seconds} s"))
            }
            Self::Answer { message, .. } if message.contains("HTTP request to an HTTPS server") => {
                Some("the registry speaks HTTPS: leave out --insecure".to_owned())
            }
            Self::Digest { .. } => Some("the registry or something before it altered the content".to_owned()),
            Self::Overloaded { .. } => Some("try again later, or let it try more often with --attempts".to_owned()),
            Self::Cut { .. } => Some(
                "look for a proxy or a limit in between, or try again, more often with --attempts; what is there already is not sent again"
                    .to_owned(),
            ),
            Self::Answer { status, .. } if status.starts_with("413") => {
                Some("the registry or a proxy before it has a limit for what is sent: raise it there".to_owned())
            }
            Self::Answer { .. } | Self::Protocol { .. } => Some(
                "the registry, or a proxy before it, does not do as the OCI distribution specification says: look into its log"
                    .to_owned(),
            ),
            Self::PlainTokenService { .. } => {
                Some("have the token service speak HTTPS, or allow plain HTTP with --insecure".to_owned())
            }
            Self::Client(_) => Some("install the system's certificate authorities (ca-certificates)".to_owned()),
        }
    }
}

/// The innermost cause of a transport failure: the layers of HTTP libraries above it say nothing a user needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(String);

impl Cause {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The innermost cause of `error`.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(innermost.to_string())
    }

    fn is_plain_http(&self) -> bool {
        self.0.contains("InvalidContentType") || self.0.contains("corrupt message")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// `503 Service Unavailable`.
pub(super) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What the body of an error says, for people: the messages of the standard envelope, or the start of a short text.
pub(super) fn message_of(body: &[u8]) -> String {
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) {
        let messages: Vec<String> = envelope
            .errors
            .into_iter()
            .map(|error| {
                if error.message.is_empty() {
                    serde_json::to_string(&error.code).unwrap_or_default().trim_matches('"').to_owned()
                } else {
                    error.message
                }
            })
            .collect();
        return clean(&messages.join("; "));
    }
    let text = String::from_utf8_lossy(body);
    // Error pages of proxies say nothing that the status does not.
    if text.trim_start().starts_with('<') { String::new() } else { clean(&text) }
}

fn clean(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    line.trim_end().to_owned()
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn asked_for(asked: &str) -> String {
    if asked.is_empty() { String::new() } else { format!(" ({asked})") }
}

fn refusal(status: u16, asked: &str, user: Option<&str>, message: &str) -> String {
    let said = format!("{} ({status}{}{asked})", said(message), if asked.is_empty() { "" } else { " to " });
    match (user, status) {
        (Some(user), 401) => format!("refused the credentials of `{user}`{said}"),
        (Some(user), _) => format!("does not allow this to `{user}`{said}"),
        (None, 401) => format!("asks for credentials, and there are none for it{said}"),
        (None, _) => format!("does not allow this without credentials{said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_cut_down_to_what_it_says() {
        for (body, said) in [
            (r#"{"errors":[{"code":"DENIED","message":"no push here"}]}"#, "no push here"),
            (r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, "TOOMANYREQUESTS"),
            (r#"{"errors":[{"code":"SOMETHING_NEW","message":"a\nb"}]}"#, "a b"),
            ("slow down\n", "slow down"),
            ("<html><body>Bad gateway", ""),
            ("", ""),
        ] {
            assert_eq!(message_of(body.as_bytes()), said, "{body}");
        }
    }
}
