//! The Caddyfile: one site for each proxied port, in the words that Caddy 2.6.2 and the current release both know.
//!
//! ```text
//! &[Application] ──plan──▶ Vec<Site> ──render(&Settings)──▶ Caddyfile ──publish──▶ /etc/Caddyfile
//! ```
//!
//! No text from outside reaches the file as it came: hosts, origins, durations and names are checked against the
//! characters they may have, and labels are written as HTML character references. No secret reaches it at all: who
//! may pass is asked of [`auth`](crate::auth) over its socket.
//!
//! ```
//! use vast_portal::caddy::{Settings, render};
//! use vast_portal_config::Application;
//!
//! let applications = [Application {
//!     label: "My App".to_owned(),
//!     host: "localhost".to_owned(),
//!     internal_port: 7860,
//!     external_port: 17860,
//!     path: "/".to_owned(),
//!     proxied: true,
//! }];
//! let settings = Settings::from_env(&[("ENABLE_HTTPS".to_owned(), "false".to_owned())].into(), "/".as_ref());
//! let caddyfile = render(&applications, &settings);
//! assert!(caddyfile.contains("http://:17860 {"));
//! assert!(caddyfile.contains("reverse_proxy localhost:7860 {"));
//! ```

mod placeholder;
mod publish;
mod render;
mod settings;
mod site;

pub use publish::{Published, caddyfile, publish};
pub use render::render;
pub use settings::{Cors, Ports, Settings, Tls, Warning, auth_socket};
pub use site::{Left, PORTAL_PORT, Plan, Site, plan};
