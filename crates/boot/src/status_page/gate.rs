//! Who may see the page, on which port it is, and over what: as the portal that comes after it will decide.

use std::collections::BTreeMap;
use std::path::Path;

use vast_portal::auth::{Authenticator, Credentials};
use vast_portal::caddy::{self, Settings};
use vast_portal_config::{PortMap, yaml};

use crate::env_vars;
use crate::environment::{Environment, says_true};
use crate::etc_environment;
use crate::root::Root;

/// Where the portal is while nothing says otherwise: external images set `PORTAL_CONFIG` in a stage of theirs.
const DEFAULT_PORT: u16 = 1111;

/// What has a say in the port and in who may pass, beside the ports that the platform publishes.
const NAMES: [&str; 9] = [
    env_vars::PORTAL_CONFIG,
    env_vars::SERVERLESS,
    env_vars::ENABLE_HTTPS,
    env_vars::VAST_CONTAINERLABEL,
    vast_portal::env_vars::ENABLE_AUTH,
    vast_portal::env_vars::AUTH_EXCLUDE,
    vast_portal::env_vars::WEB_USERNAME,
    vast_portal::env_vars::WEB_PASSWORD,
    vast_portal::env_vars::OPEN_BUTTON_TOKEN,
];

/// The variables that count, as the portal will find them.
pub(super) type Variables = BTreeMap<String, String>;

/// What the user wrote into `/etc/environment` on this instance. It counts before stage 10 has loaded it, and also where that is
/// told not to: a password that was changed must not open the door again for the length of a boot.
#[derive(Debug, Default)]
pub(super) struct Written {
    file: Environment,
    /// The environment that the boot began with.
    before: Environment,
}

impl Written {
    pub(super) fn read(root: &Root, env: &Environment) -> Self {
        let text = std::fs::read(root.join(etc_environment::PATH)).unwrap_or_default();
        let ours = etc_environment::belongs_to(&text, env.instance());
        let file = if ours { etc_environment::plain(&text) } else { Environment::new() };
        Self { file, before: env.clone() }
    }

    /// All of it: what the gate compares with must not be shown.
    pub(super) fn environment(&self) -> &Environment {
        &self.file
    }

    /// The variables that count. A value that a stage has changed is newer than the file.
    pub(super) fn variables(&self, env: &Environment) -> Variables {
        let counts = |name: &str| {
            NAMES.contains(&name) || name.starts_with(vast_portal::env_vars::VAST_TCP_PORT_PREFIX) || name == ORDER
        };
        let mut variables: Variables = env.to_map().into_iter().filter(|(name, _)| counts(name)).collect();
        for (name, value) in self.file.to_map().into_iter().filter(|(name, _)| counts(name)) {
            if env.get_os(&name) == self.before.get_os(&name) {
                variables.insert(name, value);
            }
        }
        variables
    }
}

const ORDER: &str = vast_portal_config::env_vars::PORTAL_PORT_ORDER;

/// The port on which Caddy will offer the portal; nothing when it will not.
pub(super) fn port(root: &Root, variables: &Variables) -> Option<u16> {
    if variables.get(env_vars::SERVERLESS).is_some_and(|value| says_true(value)) {
        return None;
    }
    let effective = yaml::read_effective(root.path(), variables);
    let applications = effective.map(|effective| effective.applications).unwrap_or_default();
    if applications.is_empty() {
        return Some(DEFAULT_PORT).filter(|port| PortMap::from_env(variables).is_published(*port));
    }
    caddy::plan(&applications).sites.iter().find(|site| site.is_portal()).map(|site| site.port)
}

/// Who may pass.
#[derive(Debug)]
pub(super) enum Gate {
    /// Everybody: so the user has set it.
    Open,
    /// Whoever has one of the secrets.
    Closed(Box<Authenticator>),
}

/// What the portal's settings say about a port.
pub(super) struct Rules {
    /// Who may pass; why nobody may, where that cannot be found out.
    pub(super) gate: Result<Gate, vast_portal::Error>,
    /// The pair that the port will speak TLS with.
    pub(super) tls: Option<caddy::Tls>,
    /// Whether the port is to speak TLS, with or without a pair.
    pub(super) https: bool,
}

impl Rules {
    /// Reads them, and makes the portal's token and key where they are missing.
    pub(super) fn load(root: &Path, variables: &Variables, port: u16) -> Self {
        let settings = Settings::from_env(variables, root);
        let gate = if !settings.authentication || settings.open_ports.contains(&port) {
            Ok(Gate::Open)
        } else {
            Credentials::load(root, variables).map(|known| Gate::Closed(Box::new(Authenticator::new(known))))
        };
        Self { gate, tls: settings.tls, https: settings.https }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        let root = Root::new(directory.path());
        (directory, root)
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_port_is_the_one_on_which_caddy_will_offer_the_portal() {
        let (_guard, root) = root();
        let published = ("VAST_TCP_PORT_1111", "41111");
        for (pairs, expected) in [
            (&[][..], None),
            (&[published][..], Some(1111)),
            (&[published, ("SERVERLESS", "true")], None),
            (&[published, ("PORTAL_CONFIG", "localhost:1111:11111:/:Instance Portal")], Some(1111)),
            (&[published, ("PORTAL_CONFIG", "localhost:7860:17860:/:App")], None),
            (&[("PORTAL_CONFIG", "localhost:1111:11111:/:Instance Portal")], None),
            (&[("VAST_TCP_PORT_9000", "1"), ("PORTAL_CONFIG", "localhost:11111:9000:/:Instance Portal")], Some(9000)),
        ] {
            assert_eq!(port(&root, &variables(pairs)), expected, "{pairs:?}");
        }
        let text = "applications:\n  Instance Portal:\n    hostname: localhost\n    external_port: 2222\n    internal_port: 11111\n    open_path: /\n    name: Instance Portal\n";
        std::fs::write(root.join("/etc/portal.yaml"), text).unwrap();
        assert_eq!(port(&root, &variables(&[("VAST_TCP_PORT_2222", "1")])), Some(2222), "the user's file wins");
    }

    #[test]
    fn what_the_user_wrote_counts_until_a_stage_says_otherwise() {
        let (_guard, root) = root();
        let text = "# Template controlled environment for C.7\nWEB_PASSWORD=\"changed\"\nPATH=\"/bin\"\n";
        std::fs::write(root.join("/etc/environment"), text).unwrap();
        let env = |password: &str, id: &str| -> Environment {
            [("WEB_PASSWORD", password), ("CONTAINER_ID", id)].into_iter().collect()
        };
        let password = |written: &Written, env: &Environment| written.variables(env).get("WEB_PASSWORD").cloned();
        let written = Written::read(&root, &env("template", "7"));
        assert_eq!(password(&written, &env("template", "7")).as_deref(), Some("changed"));
        assert_eq!(password(&written, &env("from .env", "7")).as_deref(), Some("from .env"));
        // Whatever we wrote ourselves says nothing else than what it was made of.
        for value in ["it's $5", "a\\b\"'`c`", "two\nlines", "plain"] {
            let env = env(value, "7");
            std::fs::write(root.join("/etc/environment"), etc_environment::render(&env, "7")).unwrap();
            assert_eq!(password(&Written::read(&root, &env), &env).as_deref(), Some(value));
        }
        std::fs::write(root.join("/etc/environment"), text).unwrap();
        // A snapshot of another instance.
        let written = Written::read(&root, &env("template", "8"));
        assert_eq!(password(&written, &env("template", "8")).as_deref(), Some("template"));
    }

    #[test]
    fn the_door_is_open_only_where_the_user_opened_it() {
        let (_guard, root) = root();
        let gate = |pairs: &[(&str, &str)]| Rules::load(root.path(), &variables(pairs), 1111).gate;
        for open in [("ENABLE_AUTH", "false"), ("AUTH_EXCLUDE", "7860,1111")] {
            assert!(matches!(gate(&[open]), Ok(Gate::Open)), "{open:?}");
        }
        for closed in [("ENABLE_AUTH", "no"), ("AUTH_EXCLUDE", "11"), ("WEB_PASSWORD", "")] {
            assert!(matches!(gate(&[closed]), Ok(Gate::Closed(_))), "{closed:?}");
        }
        assert!(root.join("/etc/vast-portal.token").exists(), "without a secret the portal's own is made");
        std::fs::write(root.join("/etc/vast-portal.key"), "cut").unwrap();
        assert!(gate(&[("WEB_PASSWORD", "known")]).is_err());
    }
}
