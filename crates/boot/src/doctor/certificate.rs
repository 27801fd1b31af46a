//! The TLS pair, as boot and Caddy judge it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use vast_portal::certificate::Pair;

use super::{Area, Finding, Look, Severity};
use crate::certificate::{self, KEY};

/// What is known of the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is worth.
    pub pair: Pair,
    /// Whether the template asks for TLS.
    pub wanted: bool,
    /// Whether others than root can read the key.
    pub key_is_open: bool,
    /// Whether the key is there and may not be read by who asks.
    pub forbidden: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { pair: Pair::Usable, wanted: false, key_is_open: false, forbidden: false }
    }
}

impl Facts {
    pub(super) fn summary(&self) -> String {
        let pair = match &self.pair {
            Pair::Usable => "usable",
            Pair::Expired => "expired",
            Pair::Unusable(_) => "unusable",
        };
        if self.wanted { pair.to_owned() } else { format!("{pair}, not asked for (ENABLE_HTTPS)") }
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let key = look.root.join(KEY);
    Facts {
        pair: certificate::check(look.root),
        wanted: look.wants_https(),
        key_is_open: fs::metadata(&key).is_ok_and(|key| key.mode() & 0o077 != 0),
        forbidden: fs::File::open(&key).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied),
    }
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.certificate;
    let tell = |severity, what: &str, remedy: String| Finding::new(Area::Certificate, severity, what, remedy);
    let again = "`vast-boot run --only 55` asks the platform for one; then `supervisorctl restart caddy`".to_owned();
    let mut findings = Vec::new();
    match &facts.pair {
        _ if facts.forbidden => {
            findings.push(tell(
                Severity::Unknown,
                "only root may read the key",
                "run `sudo vast-boot doctor`".to_owned(),
            ));
        }
        Pair::Unusable(reason) if facts.wanted && !all.boot.is_under_way() => {
            let what =
                "there is no certificate to serve, so the applications speak plain HTTP although ENABLE_HTTPS is true";
            findings.push(tell(Severity::Problem, what, again).because([reason.clone()]));
        }
        Pair::Expired if facts.wanted => {
            findings.push(tell(Severity::Warning, "the certificate has expired; browsers warn of it", again));
        }
        _ => {}
    }
    if facts.key_is_open {
        findings.push(tell(
            Severity::Warning,
            "others than root can read the private key",
            format!("`chmod 600 {KEY}`"),
        ));
    }
    findings
}
