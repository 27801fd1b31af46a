//! The Instance Portal: what stands between the network and an instance's applications, and the page that shows them.
//!
//! ```text
//!              ┌ TLS pair: certificate        who may pass? ┌──────────────────────────────┐
//!  browser ───▶│ Caddy (its file: caddy) ──────────────────▶│ auth   on a socket of root's  │
//!              │   │                                         │ web    the page, on loopback  │ vast-portal serve
//!              │   ├── application                           │ supervisor · logs · metrics  │
//!              └───┴── Instance Portal ─────────────────────▶└──────────────────────────────┘
//! ```
//!
//! - [`certificate`] says whether a certificate and a key are a pair that can be served.
//! - [`caddy`] turns the applications into a Caddyfile and puts it in place if Caddy accepts it.
//! - [`auth`] decides about requests; Caddy asks it for each one and never lets one pass without its word.
//! - [`web`] is the application behind the portal's own port, on top of [`supervisor`] (processes), [`logs`] and
//!   [`metrics`].
//! - [`logtee`] and [`pty`] are how a process's output becomes the logs.
//!
//! The pure parts take text, maps and a root; nothing reads the process's environment or a fixed path. So the same
//! code serves an instance, `--root DIR` and a test:
//!
//! ```
//! use vast_portal::caddy::{Settings, plan, render};
//! use vast_portal_config::{PortMap, PortalConfig};
//!
//! let env = [("VAST_TCP_PORT_17860".to_owned(), "41234".to_owned())].into();
//! let config = PortalConfig::parse_lenient("localhost:7860:17860:/:My App").config;
//! let applications = config.resolve(&PortMap::from_env(&env));
//! assert_eq!(plan(&applications).sites[0].upstream(), "localhost:7860");
//!
//! let caddyfile = render(&applications, &Settings::from_env(&env, "/".as_ref()));
//! assert!(caddyfile.contains("import authenticate"));
//! ```

pub mod auth;
pub mod caddy;
pub mod certificate;
pub mod env_vars;
mod error;
pub mod logs;
pub mod logtee;
pub mod metrics;
pub mod pty;
pub mod supervisor;
pub mod web;

pub use error::Error;

/// The portal's picture, as SVG. The page that stands in its place during a boot shows the same, so that the tab looks the same before and
/// after.
pub const ICON: &str = include_str!("../assets/icon.svg");
