//! Keeping secrets out of what we say, record and hand out.
//!
//! Secrets are known in two ways: by value, from the variables that hold them ([`Redactor::redact`]: what our own messages pass), and by
//! what stands around them ([`Redactor::scrub`]: what is quoted from elsewhere, such as a program's log, passes both).

mod text;

use crate::environment::Environment;

pub(crate) use text::percent_encoded;

/// Values shorter than this are too likely to be ordinary words; replacing them would garble messages.
const SHORTEST_SECRET_BYTES: usize = 5;

/// Lines of a longer secret that are shorter than this could be anything.
const SHORTEST_LINE_BYTES: usize = 16;

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
        let mut redactor = Self::default();
        redactor.extend(env);
        redactor
    }

    /// Knows the secrets of one more environment.
    pub fn extend(&mut self, env: &Environment) {
        for (name, value) in env.iter().filter_map(|(name, value)| Some((name.to_str()?, value))) {
            // Bytes that are no text read the same wherever we quote them.
            let value = value.to_string_lossy();
            let counts = name.contains("TOKENS") && value.trim().parse::<f64>().is_ok();
            if is_secret(name) && !counts && value.trim() != "false" {
                self.learn(&value);
            }
        }
    }

    /// Knows one more secret: whole, line by line, and as an address and a JSON text spell it.
    pub fn learn(&mut self, secret: &str) {
        let secret = secret.trim();
        // The frame of a private key is no secret, and what tells others of its kind.
        let is_line = |line: &&str| line.len() >= SHORTEST_LINE_BYTES && !line.starts_with("-----");
        self.secrets.extend(secret.lines().map(str::trim).filter(is_line).map(str::to_owned));
        let spellings = [secret.to_owned(), percent_encoded(secret), text::json_escaped(secret)];
        self.secrets.extend(spellings.into_iter().filter(|spelling| spelling.len() >= SHORTEST_SECRET_BYTES));
        self.secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.secrets.dedup();
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

    /// A text whose end was cut off, without what may be the beginning of a secret there.
    #[must_use]
    pub fn redact_cut(&self, text: &str) -> String {
        let begins = self.secrets.iter().filter_map(|secret| {
            let from = text.floor_char_boundary(text.len().saturating_sub(secret.len()));
            let mut ends = (from..text.len().saturating_sub(SHORTEST_SECRET_BYTES - 1))
                .filter_map(|at| Some((at, text.get(at..)?)));
            ends.find(|(_, end)| secret.starts_with(end)).map(|(at, _)| at)
        });
        let mut text = text.to_owned();
        if let Some(at) = begins.min() {
            text.replace_range(at.., MASK);
        }
        text
    }

    /// Text from elsewhere without secrets: those that are known, and what looks like one by its name, its place or its shape. Rather
    /// too much goes than too little.
    ///
    /// ```
    /// use vast_boot::redact::Redactor;
    /// let told = Redactor::default().scrub("GET https://me:pw1@host/?token=abc&page=2");
    /// assert_eq!(told, "GET https://***@host/?token=***&page=2");
    /// ```
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        text::scrub(&self.redact(text))
    }
}

/// Whether a variable of this name holds a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let inside = [
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "APIKEY",
        "ACCESSKEY",
        "PRIVATEKEY",
        "PRIVATE_KEY",
    ];
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
    fn the_beginning_of_a_secret_at_the_end_of_a_text_that_was_cut_off_goes() {
        let env: Environment =
            [("A_TOKEN", "abcabcabcd"), ("B_TOKEN", "\u{e9}\u{e9}\u{e9}\u{e9}")].into_iter().collect();
        let redactor = Redactor::new(&env);
        for (text, expected) in [
            ("x abcabc", "x ***"),
            ("abcabcabcabc", "abc***"),
            ("x \u{e9}\u{e9}\u{e9}", "x ***"),
            ("x abca", "x abca"),
            ("abcabc x", "abcabc x"),
        ] {
            assert_eq!(redactor.redact_cut(text), expected);
        }
    }

    #[test]
    fn a_secret_of_several_lines_goes_line_by_line_and_leaves_the_frames_of_others() {
        let framed = |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let mut redactor = Redactor::default();
        redactor.learn(&framed("MIIEvknownknownknown\nknownknownknownknown"));
        assert_eq!(redactor.redact("x MIIEvknownknownknown y"), "x *** y");
        assert_eq!(redactor.scrub(&format!("a\n{}b", framed("unknown"))), "a\n***\nb");
    }

    #[test]
    fn a_count_of_tokens_is_no_secret() {
        let env: Environment = [("MAX_TOKENS", "16384"), ("PIN_PASSWORD", "16385")].into_iter().collect();
        assert_eq!(Redactor::new(&env).redact("16384 16385"), "16384 ***");
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
