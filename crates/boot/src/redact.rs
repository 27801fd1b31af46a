//! Keeping secrets out of what we say and record.

use crate::environment::Environment;

/// Values shorter than this are too likely to be ordinary words; replacing them would garble messages.
const SHORTEST_SECRET_BYTES: usize = 5;

/// What stands in a secret's place.
const MASK: &str = "***";

/// Replaces the values of secret variables in messages.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another goes whole.
    secrets: Vec<String>,
}

impl Redactor {
    /// Knows the secrets of this environment.
    #[must_use]
    pub fn new(env: &Environment) -> Self {
        let mut secrets: Vec<String> = env
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?.trim())))
            .filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST_SECRET_BYTES && *value != "false")
            .map(|(_, value)| value.to_owned())
            .collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// `text` without secrets.
    ///
    /// ```
    /// use vast_boot::{environment::Environment, redact::Redactor};
    /// let env: Environment = [("HF_TOKEN", "hf_abcdef")].into_iter().collect();
    /// assert_eq!(Redactor::new(&env).redact("curl -H hf_abcdef"), "curl -H ***");
    /// ```
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

/// Whether a variable of this name holds a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let inside = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY", "PRIVATE_KEY"];
    let last = ["KEY", "PASS", "PAT", "PWD"];
    inside.iter().any(|word| name.contains(word))
        || (name.rsplit('_').next().is_some_and(|word| last.contains(&word)) && name != "PWD" && name != "OLDPWD")
}

/// A URL as it may be shown: without user, query and fragment, where tokens travel.
#[must_use]
pub fn url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (rest, hidden) = rest.split_at(end);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let more = if hidden.starts_with('?') { "?…" } else { "" };
    if scheme.is_empty() { format!("{rest}{more}") } else { format!("{scheme}://{host}{path}{more}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "OPEN_BUTTON_TOKEN",
            "WEB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "CONTAINER_API_KEY",
            "jupyter_token",
            "KEY",
            "GITHUB_PAT",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PATH", "PWD", "AUTH_EXCLUDE", "ENABLE_AUTH", "KEYBOARD", "PORTAL_CONFIG"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_longer_secret_goes_whole_and_short_words_stay() {
        let env: Environment = [("A_TOKEN", "abcdef"), ("B_TOKEN", "abcdef-ghi"), ("C_TOKEN", "true"), ("D_TOKEN", "")]
            .into_iter()
            .collect();
        assert_eq!(Redactor::new(&env).redact("abcdef-ghi abcdef true"), "*** *** true");
    }

    #[test]
    fn a_shown_url_has_no_credentials() {
        for (full, shown) in [
            ("https://user:pw@host:1/p/x.sh?token=1#sha256=2", "https://host:1/p/x.sh?…"),
            ("https://host", "https://host"),
            ("http://host/a#b", "http://host/a"),
            ("https://u@h?x", "https://h?…"),
            ("/local/path.sh", "/local/path.sh"),
        ] {
            assert_eq!(url(full), shown);
        }
    }
}
