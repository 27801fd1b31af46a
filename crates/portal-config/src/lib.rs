//! `PORTAL_CONFIG` and `/etc/portal.yaml`: which applications an instance offers, and on which ports.
//!
//! A template describes the tabs of its Instance Portal in one string; at boot that string becomes a file which
//! the user edits to turn applications off, and which supervisor scripts, the proxy and the portal read again and again:
//!
//! ```text
//! PORTAL_CONFIG ──parse / parse_lenient──▶ PortalConfig ──resolve(&PortMap)──▶ Vec<Application>
//!                                               │                                   │    ▲
//!                                            Display                        yaml::write  yaml::load
//!                                               ▼                                   ▼    │
//!                                       canonical string                      /etc/portal.yaml
//! ```
//!
//! - [`PortalConfig::parse`] is the strict reading of linters and CI: every problem of every entry at once, each with its
//!   place. [`PortalConfig::parse_lenient`] is the reading of a booting instance: it never fails, and a bad entry
//!   costs that entry.
//! - A string alone does not say which of its two ports the user reaches. [`PortalConfig::resolve`] decides that entry by entry
//!   from what the platform publishes ([`PortMap`]).
//! - [`jupyter`] holds the rules that boot applies to the string, [`yaml`] the file, [`listed`] the question that every
//!   supervisor script asks: is this application turned on? [`place`] tells where the file is on an instance that cannot write to `/etc`.
//!
//! ```
//! use std::collections::BTreeMap;
//! use vast_portal_config::{PortMap, PortalConfig};
//!
//! let value = "localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:My App|nonsense";
//! assert!(PortalConfig::parse(value).is_err());
//!
//! let reading = PortalConfig::parse_lenient(value);
//! assert_eq!(reading.config.entries.len(), 2);
//! assert_eq!(reading.warnings.len(), 1);
//!
//! // The platform publishes 1111 and 17860, so these two are the external ports.
//! let env = BTreeMap::from([
//!     ("VAST_TCP_PORT_1111".to_owned(), "40001".to_owned()),
//!     ("VAST_TCP_PORT_17860".to_owned(), "40002".to_owned()),
//! ]);
//! let applications = reading.config.resolve(&PortMap::from_env(&env));
//! assert_eq!((applications[0].external_port, applications[0].internal_port), (1111, 11111));
//! assert_eq!((applications[1].external_port, applications[1].internal_port), (17860, 7860));
//! assert!(applications.iter().all(|application| application.proxied));
//! ```

mod cut;
pub mod env_vars;
mod error;
pub mod jupyter;
mod lenient;
pub mod listed;
mod model;
pub mod place;
mod problem;
mod render;
mod resolve;
mod strict;
pub mod yaml;

pub use error::Error;
pub use lenient::{Lenient, Warning};
pub use model::{Entry, PortalConfig};
pub use problem::{Field, Problem, ProblemKind, StrictErrors};
pub use resolve::{Application, PortMap, PortOrder, UnknownPortOrder};
