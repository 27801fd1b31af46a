//! What the environment asks of the Caddyfile, read once and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::auth::cookie_name;
use crate::certificate::{self, Pair};
use crate::env_vars;

/// Everything besides the applications that decides the Caddyfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether HTTPS is asked for, with or without a pair that can be served.
    pub https: bool,
    /// The pair to serve, when HTTPS is on and the pair can be served.
    pub tls: Option<Tls>,
    /// Whether requests must authenticate at all.
    pub authentication: bool,
    /// External ports that need no authentication.
    pub open_ports: BTreeSet<u16>,
    /// The authentication cookie's name; kept from applications.
    pub cookie_name: String,
    /// Caddy's `flush_interval`: `-1` or a duration.
    pub flush_interval: String,
    /// Whether answers are compressed.
    pub compression: bool,
    /// Who may call from other origins.
    pub cors: Cors,
    /// External ports whose applications are told that they are called as `localhost`.
    pub as_localhost: Ports,
    /// The socket on which [`auth`](crate::auth) answers.
    pub auth_socket: PathBuf,
    /// The socket of Caddy's admin endpoint, in a directory of root alone.
    pub admin_socket: PathBuf,
    /// The access log.
    pub access_log: PathBuf,
    /// What was asked for and not followed.
    pub warnings: Vec<Warning>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Whether plain HTTP on the same port is redirected; some builds of Caddy cannot.
    pub redirect_http: bool,
}

/// Who may call from other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Nobody: the applications' own answers stand.
    None,
    /// Everybody, without credentials.
    Any,
    /// These origins, with credentials.
    Origins(Vec<String>),
}

/// A set of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// These.
    Some(BTreeSet<u16>),
}

impl Ports {
    /// Whether the port is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Some(ports) => ports.contains(&port),
        }
    }
}

/// Something the environment asked for that was not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// HTTPS was asked for and the pair cannot be served: the ports speak plain HTTP.
    NoHttps(String),
    /// A value, or a part of a list, is not understood.
    NotUnderstood {
        /// The variable.
        name: &'static str,
        /// The value or the part.
        value: String,
        /// What is used instead.
        instead: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHttps(reason) => {
                write!(
                    formatter,
                    "HTTPS is off although ENABLE_HTTPS asks for it: {reason}; `vast-boot cert check` says more"
                )
            }
            Self::NotUnderstood { name, value, instead } => {
                write!(formatter, "{name}: {value:?} is not understood, {instead}")
            }
        }
    }
}

impl Settings {
    /// Reads the environment; the pair, sockets and log are those below `root`.
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>, root: &Path) -> Self {
        let mut reader = Reader { env, warnings: Vec::new() };
        let https = reader.flag(env_vars::ENABLE_HTTPS, false);
        let tls = https.then(|| reader.pair(root)).flatten();
        Self {
            https,
            tls,
            authentication: reader.flag(env_vars::ENABLE_AUTH, true),
            open_ports: reader.ports(env_vars::AUTH_EXCLUDE),
            cookie_name: cookie_name(reader.value(env_vars::VAST_CONTAINERLABEL).unwrap_or_default()),
            flush_interval: reader.flush_interval(),
            compression: reader.flag(env_vars::CADDY_ENABLE_COMPRESSION, true),
            cors: reader.cors(),
            as_localhost: reader.as_localhost(),
            auth_socket: auth_socket(root),
            admin_socket: root.join("run/vast/caddy/admin.sock"),
            access_log: root.join("var/log/caddy_access.log"),
            warnings: reader.warnings,
        }
    }
}

/// The socket on which the portal answers Caddy's questions.
#[must_use]
pub fn auth_socket(root: &Path) -> PathBuf {
    root.join("run/vast/portal-auth.sock")
}

struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn warn(&mut self, name: &'static str, value: &str, instead: &'static str) {
        self.warnings.push(Warning::NotUnderstood { name, value: value.to_owned(), instead });
    }

    /// `true` or `false` in any case. Anything else is the default, which for authentication is the safe side.
    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.value(name) {
            None => default,
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(value) => {
                self.warn(name, value, if default { "taken as true" } else { "taken as false" });
                default
            }
        }
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
    }

    fn ports(&mut self, name: &'static str) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        for item in self.list(name) {
            match item.parse() {
                Ok(port) => {
                    ports.insert(port);
                }
                Err(_) => self.warn(name, item, "ignored"),
            }
        }
        ports
    }

    fn pair(&mut self, root: &Path) -> Option<Tls> {
        let (certificate, key) = (root.join("etc/instance.crt"), root.join("etc/instance.key"));
        match certificate::check(&certificate, &key) {
            Pair::Usable | Pair::Expired => Some(Tls { certificate, key, redirect_http: true }),
            Pair::Unusable(reason) => {
                self.warnings.push(Warning::NoHttps(reason));
                None
            }
        }
    }

    fn flush_interval(&mut self) -> String {
        let value = self.value(env_vars::CADDY_FLUSH_INTERVAL).unwrap_or("-1");
        if value == "-1" || is_duration(value) {
            return value.to_owned();
        }
        self.warn(env_vars::CADDY_FLUSH_INTERVAL, value, "flushing at once");
        "-1".to_owned()
    }

    fn cors(&mut self) -> Cors {
        let mut origins = Vec::new();
        for item in self.list(env_vars::CADDY_CORS_ALLOWED_ORIGINS) {
            if item == "*" {
                return Cors::Any;
            }
            if is_origin(item) {
                origins.push(item.to_ascii_lowercase());
            } else {
                self.warn(env_vars::CADDY_CORS_ALLOWED_ORIGINS, item, "ignored");
            }
        }
        if origins.is_empty() { Cors::None } else { Cors::Origins(origins) }
    }

    fn as_localhost(&mut self) -> Ports {
        match self.value(env_vars::CADDY_HEADER_UP_LOCALHOST) {
            Some(value) if value.eq_ignore_ascii_case("true") => Ports::All,
            Some(value) if value.eq_ignore_ascii_case("false") => Ports::Some(BTreeSet::new()),
            _ => Ports::Some(self.ports(env_vars::CADDY_HEADER_UP_LOCALHOST)),
        }
    }
}

/// A duration of Go with one number, such as `100ms`.
fn is_duration(value: &str) -> bool {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    (1..=6).contains(&digits) && matches!(&value[digits..], "us" | "ms" | "s" | "m")
}

/// `scheme://host[:port]`, nothing more.
fn is_origin(value: &str) -> bool {
    let Some((scheme, authority)) = value.split_once("://") else { return false };
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "1"));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(fits)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_env(&env, Path::new("/nonexistent"))
    }

    #[test]
    fn an_empty_environment_is_the_safe_one() {
        let settings = settings(&[]);
        assert!(settings.authentication && settings.open_ports.is_empty() && settings.tls.is_none());
        assert_eq!((settings.flush_interval.as_str(), settings.compression), ("-1", true));
        assert_eq!((settings.cors, settings.as_localhost), (Cors::None, Ports::Some(BTreeSet::new())));
        assert_eq!(settings.warnings, []);
    }

    #[test]
    fn only_false_turns_authentication_off() {
        for (value, authentication) in [("false", false), ("FALSE", false), ("no", true), ("0", true), ("", true)] {
            assert_eq!(settings(&[("ENABLE_AUTH", value)]).authentication, authentication, "{value}");
        }
    }

    #[test]
    fn a_pair_that_cannot_be_served_costs_https_and_says_so() {
        let settings = settings(&[("ENABLE_HTTPS", "true")]);
        assert_eq!(settings.tls, None);
        assert!(settings.warnings[0].to_string().contains("instance.crt"), "{:?}", settings.warnings);
    }

    #[test]
    fn lists_keep_what_they_understand() {
        let settings = settings(&[
            ("AUTH_EXCLUDE", " 8080, x,70000,17860,"),
            ("CADDY_HEADER_UP_LOCALHOST", "8080"),
            ("CADDY_CORS_ALLOWED_ORIGINS", "https://A.example, http://b:8080, https://c/d, *.e, https://f:0, x`}\n{"),
            ("CADDY_FLUSH_INTERVAL", "100ms\n}"),
        ]);
        assert_eq!(settings.open_ports, [8080, 17860].into());
        assert!(settings.as_localhost.contains(8080) && !settings.as_localhost.contains(8081));
        assert_eq!(settings.cors, Cors::Origins(vec!["https://a.example".to_owned(), "http://b:8080".to_owned()]));
        assert_eq!(settings.flush_interval, "-1");
        assert_eq!(settings.warnings.len(), 7, "{:?}", settings.warnings);
    }

    #[test]
    fn durations_have_one_number_and_a_unit() {
        for good in ["100ms", "1s", "50us", "2m"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "1", "-1s", "1h", "1s 2", "ms", "1s\n", "9999999s"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
